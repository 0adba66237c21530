// One pixel of the picture: both frames warped by the summed flow, blended by the mask.
//
// m = sigmoid(mask), rgb = warp(img0, flow.xy) * m + warp(img1, flow.zw) * (1 - m); CUBIC: both are read by a cubic, which
// repeats the picture's last row and column, where the bilinear warp reads the padding.
// Definition: src/ops/fusion.rs.
#pragma once
#include "sample.cuh"

// The pixel (y, x) of the picture; `motion` is the sum over all blocks.
template <bool CUBIC>
__device__ __forceinline__ float4 blend(const FusionParams& p, const View& view, const Motion& motion, int y, int x) {
    int quads = p.record / 4;
    float4 a, b;
    if constexpr (CUBIC) {
        a = cubic_half4(view.record0, quads, moved_cubic(y, motion.flow.y, p.frame_h), moved_cubic(x, motion.flow.x, p.frame_w),
                        p.full_w);
        b = cubic_half4(view.record1, quads, moved_cubic(y, motion.flow.w, p.frame_h), moved_cubic(x, motion.flow.z, p.frame_w),
                        p.full_w);
    } else {
        Tap row0 = moved(y, motion.flow.y, p.full_h), column0 = moved(x, motion.flow.x, p.full_w);
        Tap row1 = moved(y, motion.flow.w, p.full_h), column1 = moved(x, motion.flow.z, p.full_w);
        a = lerp2_half4(view.record0, quads, corners(row0, column0, p.full_w), row0, column0);
        b = lerp2_half4(view.record1, quads, corners(row1, column1, p.full_w), row1, column1);
    }
    float m = 1.0f / (1.0f + expf(-motion.mask)), rest = 1.0f - m;
    return make_float4(a.x * m + b.x * rest, a.y * m + b.y * rest, a.z * m + b.z * rest, 0.0f);
}
