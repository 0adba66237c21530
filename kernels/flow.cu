// The input of a block as a tensor: dst [n, h, w, channels]; formula and channels in flow.cuh.
//
// thread -> one pixel, x fastest, or a square of four at full resolution; grid z -> picture of the batch.
#include "flow.cuh"

template <class S> __device__ __forceinline__ void store_pixel(const StageParams& p, int y, int x, const uint4 (&pieces)[S::PIECES]) {
    uint4* dst = (uint4*)p.dst + (((size_t)blockIdx.z * p.h + y) * p.w + x) * (p.channels / 8);
#pragma unroll
    for (int i = 0; i < S::PIECES; i++)
        if (i < p.channels / 8) dst[i] = pieces[i];
}

template <class S> __device__ __forceinline__ void store_stage(const StageParams& p) {
    int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
    if constexpr (S::WHOLE) {
        x *= 2, y *= 2;
        if (x >= p.w || y >= p.h) return;
        stage_square<S>(
            p, blockIdx.z, y, x, [&](int row, int column) { return y + row < p.h && x + column < p.w; },
            [&](int row, int column, const uint4(&pieces)[S::PIECES]) { store_pixel<S>(p, y + row, x + column, pieces); });
    } else {
        if (x >= p.w || y >= p.h) return;
        uint4 pieces[S::PIECES];
        stage_pixel<S>(pieces, p, blockIdx.z, y, x);
        store_pixel<S>(p, y, x, pieces);
    }
}

// Blocks that a multiprocessor holds: as many as leave the registers that all reads of a pixel need on their way.
__device__ constexpr int blocks(int whole) { return whole ? 2 : 3; }

#define STAGE(name, features, handed, whole) \
    KERNEL(name, StageParams, 128, blocks(whole)) { store_stage<Stage<features, handed, whole>>(p); }
#include "instances.h"

// dst += src, a flow a thread: float [n, h, w, 4] of the outputs of a block that worked twice at one size. AddParams counts
// the same 16 bytes as 8 halves.
KERNEL(add_flows, AddParams, 256) {
    size_t i = (size_t)blockIdx.x * 256 + threadIdx.x;
    if (i >= p.chunks) return;
    float4 a = __ldg((const float4*)p.src + i), b = ((const float4*)p.dst)[i];
    ((float4*)p.dst)[i] = make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w);
}
