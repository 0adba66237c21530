// 3x3 convolutions of IFBlock and head: the instances of conv.cuh, which has formula, shapes and thread mapping; and add.
#include "conv.cuh"

template <class T> __device__ __forceinline__ void convolve_and_store(const ConvParams& p) {
    unsigned char* shared = shared_memory();
    int groups = p.cout / T::NB, n = blockIdx.z / groups, group = blockIdx.z % groups;
    int first_pair = p.residual ? group * (T::NB / 16) : p.cin;
    float acc[T::M_TILES][T::N_TILES][4];
    convolve<T>(acc, shared, p.src + (size_t)n * p.h * p.w * p.cin,
                p.weights + (size_t)group * (p.cin / 16) * (T::WEIGHT_BYTES / 2), p.h, p.w, p.cin, p.stages, first_pair);
    stage_output<T>(shared, acc, p.affine + group * T::NB);
    store_tile<T>(shared, p.dst + (size_t)n * p.out_h * p.out_w * p.cout + group * T::NB, p.out_h, p.out_w, p.cout);
}

#define CONV(name, stride, nb, tile_h, tile_w, warps)                                              \
    KERNEL(name, ConvParams, BOUNDS(nb, tile_h, tile_w, warps)) {                                  \
        convolve_and_store<Tile<stride, nb, tile_h, tile_w, warps>>(p);                            \
    }
#include "instances.h"

// dst += src, 8 halves a thread: the sum round the chain of Practical-RIFE v4.0 and v4.1.
KERNEL(add, AddParams, 256) {
    size_t i = (size_t)blockIdx.x * 256 + threadIdx.x;
    if (i >= p.chunks) return;
    float a[8], b[8];
    unpack_half8(a, __ldg((const uint4*)p.src + i));
    unpack_half8(b, ((const uint4*)p.dst)[i]);
#pragma unroll
    for (int c = 0; c < 8; c++) a[c] += b[c];
    ((uint4*)p.dst)[i] = pack_half8(a);
}
