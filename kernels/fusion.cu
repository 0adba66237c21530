// The end of the network from stored outputs: image [n, frame_h, frame_w, 4]; formula in fusion.cuh.
//
// thread -> one pixel, x fastest; grid z -> picture of the batch.
#include "fusion.cuh"
#include "quad.cuh"

template <bool CUBIC> __device__ __forceinline__ void fuse(const FusionParams& p) {
    int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y, picture = blockIdx.z;
    if (x >= p.frame_w || y >= p.frame_h) return;
    int first_mask = p.mask_sum ? 0 : p.earlier_count - 1;
    Motion motion = motion_at(p.earlier, p.earlier_count, first_mask, picture, y, x, 1.0f);
    add_scaled(motion.flow, motion_at(p.refined, p.refined_count, 1, picture, y, x, 1.0f).flow, 1.0f);
    float4 rgb = blend<CUBIC>(p, p.views[picture], motion, y, x);
    ((uint2*)p.image)[((size_t)picture * p.frame_h + y) * p.frame_w + x] = pack_half4(rgb);
}

KERNEL(fusion, FusionParams, 128) { fuse<false>(p); }
KERNEL(fusion_cubic, FusionParams, 128) { fuse<true>(p); }
