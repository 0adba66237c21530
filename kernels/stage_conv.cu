// The first convolution of a fine block (3x3, stride 2) with its input gathered on the fly: conv(stage), activated.
//
// dst [n, out_h, out_w, cout] is bit for bit what flow.cu followed by conv.cu gives; the stage input never reaches memory.
// The halo tile of all channels stays in shared memory (PIECES / 2 chunks in the form of tile.cuh) and so do the weights,
// whose copies start before the gather and end behind it. Every pixel of the halo is gathered by one thread, or a square of
// four at full resolution: an 8x16 tile gathers 17x33 pixels, 1.10 times what it owns, in 9x17 squares. Four warps multiply,
// and a fifth only loads: 160 threads take 153 squares in one round and 561 pixels in four, and three such blocks may have
// 128 registers a thread.
// block (x, y, z) -> output tile column, row, picture; NB = cout.
#include "conv.cuh"
#include "flow.cuh"

// A tile that four warps multiply and all warps of the block load.
template <int NB, int TILE_H, int TILE_W, int WARPS_> struct StageTile : Tile<2, NB, TILE_H, TILE_W, 4> {
    static constexpr int THREADS = 32 * WARPS_, LOADERS = THREADS, MULTIPLIERS = 4;
    static_assert(WARPS_ >= MULTIPLIERS, "warps that multiply load as well");
};

template <class T, class S> __device__ __forceinline__ void gather_halo(unsigned char* shared, const StageParams& p) {
    int y0 = (int)blockIdx.y * T::TILE_H * 2 - 1, x0 = (int)blockIdx.x * T::TILE_W * 2 - 1;
    auto put = [&](int row, int col, const uint4(&pieces)[S::PIECES]) {
#pragma unroll
        for (int piece = 0; piece < S::PIECES; piece++)
            *(uint4*)(shared + piece / 2 * T::STAGE_BYTES + halo_offset<T>(row, col, piece & 1)) = pieces[piece];
    };
    const uint4 nothing[S::PIECES] = {};
    auto inside = [&](int y, int x) { return y >= 0 && y < p.h && x >= 0 && x < p.w; };
    if constexpr (S::WHOLE) {
        // Squares start at even pixels: the first row and column of them have but one of the halo's.
        constexpr int DOWN = (T::HALO_H + 1) / 2, ACROSS = (T::HALO_W + 1) / 2;
        static_assert(T::HALO_H % 2 == 1 && T::HALO_W % 2 == 1 && T::TILE_H % 2 == 0 && T::TILE_W % 2 == 0, "as drawn above");
#pragma unroll 1
        for (int i = threadIdx.x; i < DOWN * ACROSS; i += T::THREADS) {
            int row = 2 * (i / ACROSS) - 1, col = 2 * (i % ACROSS) - 1, y = y0 + row, x = x0 + col;
#pragma unroll
            for (int k = 0; k < 4; k++) {
                int r = row + (k >> 1), c = col + (k & 1);
                if (r >= 0 && c >= 0 && !inside(y0 + r, x0 + c)) put(r, c, nothing);
            }
            if (y + 1 < 0 || y >= p.h || x + 1 < 0 || x >= p.w) continue;
            stage_square<S>(
                p, blockIdx.z, y, x,
                [&](int down, int across) { return row + down >= 0 && col + across >= 0 && inside(y + down, x + across); },
                [&](int down, int across, const uint4(&pieces)[S::PIECES]) { put(row + down, col + across, pieces); });
        }
    } else {
#pragma unroll 1
        for (int i = threadIdx.x; i < T::HALO_H * T::HALO_W; i += T::THREADS) {
            int row = i / T::HALO_W, col = i % T::HALO_W, y = y0 + row, x = x0 + col;
            if (!inside(y, x)) {
                put(row, col, nothing);
                continue;
            }
            uint4 pieces[S::PIECES];
            stage_pixel<S>(pieces, p, blockIdx.z, y, x);
            put(row, col, pieces);
        }
    }
}

template <class T, class S> __device__ __forceinline__ void stage_convolve(const StageConvParams& p) {
    constexpr int CHUNKS = S::PIECES / 2;
    static_assert(CHUNKS * T::STAGE_BYTES >= T::PIXELS * T::NB * 2, "the epilogue stages its output in the same memory");
    unsigned char* shared = shared_memory();
    WeightRows<T> rows = weight_rows<T>(threadIdx.x);
#pragma unroll 1
    for (int chunk = 0; chunk < CHUNKS; chunk++)
        load_weights<T>(shared_address(shared) + chunk * T::STAGE_BYTES + T::HALO_BYTES, p.weights, chunk, CHUNKS, rows);
    cp_async_commit();
    gather_halo<T, S>(shared, p.stage);
    cp_async_wait<0>();
    __syncthreads();
    float acc[T::M_TILES][T::N_TILES][4];
    bool multiplies = threadIdx.x < 32 * T::MULTIPLIERS;
    if (multiplies) {
        int column[T::WINDOW];
        lane_columns<T>(column, threadIdx.x >> 5);
        clear<T>(acc);
#pragma unroll 1
        for (int chunk = 0; chunk < CHUNKS; chunk++) {
            Shared stage = shared_address(shared) + chunk * T::STAGE_BYTES;
            multiply_chunk<T, 3>(acc, stage, column, stage + T::HALO_BYTES);
        }
    }
    __syncthreads();  // the tile has been read for the last time
    if (multiplies) stage_output<T>(shared, acc, p.affine);
    __syncthreads();
    store_tile<T>(shared, p.dst + (size_t)blockIdx.z * p.out_h * p.out_w * p.cout, p.out_h, p.out_w, p.cout);
}

// Blocks that a multiprocessor is to hold: as many as leave registers enough that none is spilled, by what the compiler makes
// of the source for a chip.
__device__ constexpr int blocks(int features, int handed, int whole) {
#if __CUDA_ARCH__ == 860 || __CUDA_ARCH__ == 890
    return features == 4 || (features == 0 && !whole) ? 3 : 2;
#elif __CUDA_ARCH__ == 900
    return features == 0 || (features == 4 && handed) ? 3 : 2;
#elif __CUDA_ARCH__ >= 1200
    return whole ? 1 : 2;
#else
    return 2;
#endif
}

#define STAGE_CONV(name, features, handed, whole, nb, tile_h, tile_w, warps)                   \
    KERNEL(name, StageConvParams, 32 * warps, blocks(features, handed, whole)) {                            \
        stage_convolve<StageTile<nb, tile_h, tile_w, warps>, Stage<features, handed, whole>>(p); \
    }
#include "instances.h"
