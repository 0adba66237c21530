// The input of a block as a tensor: dst [n, h, w, channels]; formula and channels in flow.cuh.
//
// thread -> one pixel, x fastest; grid z -> picture of the batch.
#include "flow.cuh"

template <class S> __device__ __forceinline__ void store_stage(const StageParams& p) {
    int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y, picture = blockIdx.z;
    if (x >= p.w || y >= p.h) return;
    uint4 pieces[S::PIECES];
    stage_pixel<S>(pieces, p, picture, y, x);
    uint4* dst = (uint4*)p.dst + (((size_t)picture * p.h + y) * p.w + x) * (p.channels / 8);
#pragma unroll
    for (int i = 0; i < S::PIECES; i++)
        if (i < p.channels / 8) dst[i] = pieces[i];
}

// Blocks that a multiprocessor holds: left alone, the compiler spills for a few more of them.
__device__ constexpr int blocks(int features, int whole) {
    return whole ? (features <= 4 ? 7 : features == 8 ? 6 : 4) : (features <= 4 ? 5 : features == 8 ? 4 : 3);
}

#define STAGE(name, features, handed, whole) \
    KERNEL(name, StageParams, 128, blocks(features, whole)) { store_stage<Stage<features, handed, whole>>(p); }
#include "instances.h"
