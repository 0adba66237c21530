// Backward warp and bilinear resize of stored tensors. The network itself warps inside flow.cu, stage_conv.cu,
// fusion.cu and deconv_fusion.cu.
//
// warp:   dst(y, x) = src((y, x) + flow(y, x)), clamped to the border; definition src/ops/warp.rs.
// resize: dst(y, x) = src at ((y, x) + 1/2) * step - 1/2; definition src/ops/resize.rs.
// thread -> one 16-byte piece of one pixel, pieces fastest.
#include "sample.cuh"

KERNEL(warp, WarpParams, 256) {
    size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x, pixel = i / p.chunks;
    if (pixel >= (size_t)p.h * p.w) return;
    int piece = i % p.chunks, y = pixel / p.w, x = pixel % p.w;
    float2 by = __ldg(p.flow + pixel);
    Tap row = moved(y, by.y, p.h), column = moved(x, by.x, p.w);
    float v[8];
    lerp2_half8(v, p.src, p.chunks, piece, corners(row, column, p.w), row, column);
    ((uint4*)p.dst)[i] = pack_half8(v);
}

KERNEL(resize, ResizeParams, 256) {
    size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x, pixel = i / p.chunks;
    if (pixel >= (size_t)p.out_h * p.out_w) return;
    int piece = i % p.chunks, y = pixel / p.out_w, x = pixel % p.out_w;
    Tap row = tap(y, p.step, p.h), column = tap(x, p.step, p.w);
    float v[8];
    lerp2_half8(v, p.src, p.chunks, piece, corners(row, column, p.w), row, column);
    ((uint4*)p.dst)[i] = pack_half8(v);
}
