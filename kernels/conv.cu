// 3x3 convolutions of IFBlock and head: the instances of conv.cuh, which has formula, shapes and thread mapping; and add.
#include "conv.cuh"

template <class T> __device__ __forceinline__ void convolve_and_store(const ConvParams& p) {
    unsigned char* shared = shared_memory();
    int groups = p.cout / T::NB, n = blockIdx.z / groups, group = blockIdx.z % groups;
    int first_pair = p.residual ? group * (T::NB / 16) : p.cin;
    float acc[T::M_TILES][T::N_TILES][4];
    convolve<T>(acc, shared, p.src + (size_t)n * p.h * p.w * p.cin,
                p.weights + (size_t)group * (p.cin / 16) * (T::WEIGHT_BYTES / 2), p.h, p.w, p.cin, p.stages, first_pair);
    __syncthreads();  // the tile has been read for the last time
    stage_output<T>(shared, acc, p.affine + group * T::NB);
    __syncthreads();
    store_tile<T>(shared, p.dst + (size_t)n * p.out_h * p.out_w * p.cout + group * T::NB, p.out_h, p.out_w, p.cout);
}

// Coarse blocks have few pixels and many channels: a tile for each multiprocessor, and long sums. GROUPS groups of T's warps
// share a tile: group g takes every GROUPS'th chunk of 16 channels from chunk g on, and the sums meet in shared memory, in
// the order of groups. A round is a chunk for each group, loaded by the group itself; the last may have fewer.
template <class T, int GROUPS_> struct Split : T {
    static constexpr int GROUPS = GROUPS_, GROUP_THREADS = T::THREADS, THREADS = GROUP_THREADS * GROUPS;
    static constexpr int ROUND_BYTES = T::STAGE_BYTES * GROUPS, SUMS = T::M_TILES * T::N_TILES;
};

// The fragments of group 0 become the sums of all groups; the others' are left as they are. [group - 1][fragment][thread]
template <class T>
__device__ __forceinline__ void sum_groups(unsigned char* shared, float (&acc)[T::M_TILES][T::N_TILES][4], int group, int thread) {
    float4* sums = (float4*)shared + thread;
    __syncthreads();  // the tile has been read for the last time
    if (group)
#pragma unroll
        for (int i = 0; i < T::SUMS; i++) {
            const float(&v)[4] = acc[i / T::N_TILES][i % T::N_TILES];
            sums[((group - 1) * T::SUMS + i) * T::GROUP_THREADS] = make_float4(v[0], v[1], v[2], v[3]);
        }
    __syncthreads();
    if (group == 0)
#pragma unroll
        for (int other = 0; other < T::GROUPS - 1; other++)
#pragma unroll
            for (int i = 0; i < T::SUMS; i++) {
                float(&v)[4] = acc[i / T::N_TILES][i % T::N_TILES];
                float4 more = sums[(other * T::SUMS + i) * T::GROUP_THREADS];
                v[0] += more.x, v[1] += more.y, v[2] += more.z, v[3] += more.w;
            }
    __syncthreads();  // before the output is staged in the same memory
}

template <class T> __device__ __forceinline__ void convolve_split(const ConvParams& p) {
    unsigned char* shared = shared_memory();
    int blocks = p.cout / T::NB, n = blockIdx.z / blocks, block = blockIdx.z % blocks, chunks = p.cin / 16;
    int group = threadIdx.x / T::GROUP_THREADS, thread = threadIdx.x % T::GROUP_THREADS;
    int first_pair = p.residual ? block * (T::NB / 16) : p.cin;
    int y0 = (int)blockIdx.y * T::TILE_H * T::STRIDE - 1, x0 = (int)blockIdx.x * T::TILE_W * T::STRIDE - 1;
    const __half* src = p.src + (size_t)n * p.h * p.w * p.cin;
    const __half* weights = p.weights + (size_t)block * chunks * (T::WEIGHT_BYTES / 2);
    float acc[T::M_TILES][T::N_TILES][4];
    int column[T::WINDOW];
    lane_columns<T>(column, thread >> 5);
    clear<T>(acc);
    unsigned char* ring = shared + group * T::STAGE_BYTES;
    HaloPieces<T> pieces = halo_pieces<T>(ring, T::ROUND_BYTES, p.stages, thread, p.cin, y0, x0, p.h, p.w);
    WeightRows<T> rows = weight_rows<T>(thread);
    for_each_chunk(
        kept(shared_address(ring)), T::ROUND_BYTES, p.stages, (chunks + T::GROUPS - 1) / T::GROUPS,
        [&](int round, Shared stage) {
            int chunk = round * T::GROUPS + group;
            if (chunk >= chunks) return;
            load_weights<T>(stage + T::HALO_BYTES, weights, chunk, chunks, rows);
            load_halo<T>(stage, src + chunk * 16, pieces);
        },
        [&](int round, Shared stage) {
            int chunk = round * T::GROUPS + group;
            if (chunk >= chunks) return;
            multiply_chunk<T, 3>(acc, stage, column, stage + T::HALO_BYTES);
            if constexpr (T::STRIDE == 1) add_center<T>(acc, stage, chunk - first_pair, thread >> 5);
        });
    sum_groups<T>(shared, acc, group, thread);
    if (group == 0) stage_output<T>(shared, acc, p.affine + block * T::NB);
    __syncthreads();
    store_tile<T>(shared, p.dst + (size_t)n * p.out_h * p.out_w * p.cout + block * T::NB, p.out_h, p.out_w, p.cout);
}

#define CONV_SPLIT(name, stride, nb, tile_h, tile_w, warps, groups)                                \
    KERNEL(name, ConvParams, 32 * warps * groups, 1) {                                             \
        convolve_split<Split<Tile<stride, nb, tile_h, tile_w, warps>, groups>>(p);                 \
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
