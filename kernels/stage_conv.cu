// The first convolution of a fine block (3x3, stride 2) with its input gathered on the fly: conv(stage), activated.
//
// dst [n, out_h, out_w, cout] is bit for bit what flow.cu followed by conv.cu gives; the stage input never reaches memory.
// The halo tile of all channels stays in shared memory (PIECES / 2 chunks in the form of tile.cuh) and so do the weights,
// whose copies start before the gather and end behind it. Every pixel of the halo is gathered by one thread: an 8x16 tile
// gathers 17x33 pixels, 1.10 times what it owns. block (x, y, z) -> output tile column, row, picture; NB = cout.
#include "conv.cuh"
#include "flow.cuh"

template <class T, class S> __device__ __forceinline__ void gather_halo(unsigned char* shared, const StageParams& p) {
    int y0 = (int)blockIdx.y * T::TILE_H * 2 - 1, x0 = (int)blockIdx.x * T::TILE_W * 2 - 1;
#pragma unroll 1
    for (int i = threadIdx.x; i < T::HALO_H * T::HALO_W; i += T::THREADS) {
        int row = i / T::HALO_W, col = i % T::HALO_W, y = y0 + row, x = x0 + col;
        uint4 pieces[S::PIECES] = {};
        if (y >= 0 && y < p.h && x >= 0 && x < p.w) stage_pixel<S>(pieces, p, blockIdx.z, y, x);
#pragma unroll
        for (int piece = 0; piece < S::PIECES; piece++)
            *(uint4*)(shared + piece / 2 * T::STAGE_BYTES + halo_offset<T>(row, col, piece & 1)) = pieces[piece];
    }
}

template <class T, class S> __device__ __forceinline__ void stage_convolve(const StageConvParams& p) {
    constexpr int CHUNKS = S::PIECES / 2;
    static_assert(CHUNKS * T::STAGE_BYTES >= T::PIXELS * T::NB * 2, "the epilogue stages its output in the same memory");
    unsigned char* shared = shared_memory();
#pragma unroll 1
    for (int chunk = 0; chunk < CHUNKS; chunk++)
        load_weights<T>(shared + chunk * T::STAGE_BYTES + T::HALO_BYTES, p.weights, chunk, CHUNKS);
    cp_async_commit();
    gather_halo<T, S>(shared, p.stage);
    cp_async_wait<0>();
    __syncthreads();
    float acc[T::M_TILES][T::N_TILES][4];
    int column[T::WINDOW];
    lane_columns<T>(column);
    clear<T>(acc);
#pragma unroll 1
    for (int chunk = 0; chunk < CHUNKS; chunk++) {
        const unsigned char* stage = shared + chunk * T::STAGE_BYTES;
        multiply_chunk<T, 3>(acc, stage, column, stage + T::HALO_BYTES);
    }
    stage_output<T>(shared, acc, p.affine);
    store_tile<T>(shared, p.dst + (size_t)blockIdx.z * p.out_h * p.out_w * p.cout, p.out_h, p.out_w, p.cout);
}

// Blocks that a multiprocessor holds: the wide inputs take up to 128 registers without spills; 0: as the compiler likes.
__device__ constexpr int blocks(int features, int warps) { return features >= 8 ? 16 / warps : 0; }

#define STAGE_CONV(name, features, handed, whole, nb, tile_h, tile_w, warps)                   \
    KERNEL(name, StageConvParams, 32 * warps, blocks(features, warps)) {                       \
        stage_convolve<Tile<2, nb, tile_h, tile_w, warps>, Stage<features, handed, whole, 1>>(p); \
    }
#include "instances.h"
