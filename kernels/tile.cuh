// The direct convolution's common part: halo tiles and weights in chunks of 16 channels, shifted ldmatrix reads, a ring of
// stages.
//
// A block makes TILE_H x TILE_W output pixels of NB output channels. A "chunk" is 16 input channels: 32 bytes of every
// pixel of the halo tile, and the weights of all taps for those channels. A tile is loaded once and every tap reads it at
// another offset, so the L2 delivers each pixel once a block and not once a tap.
//
// halo chunk    [HALO_H][HALO_W][2 pieces of 8 channels], columns and pieces permuted as halo_offset says
// weight chunk  [NB / 16][tap][lane][8 halves]: one 16-byte load gives a lane both B fragments of two n-tiles. In device
//               memory weights are [cout / 16][cin / 16][tap][lane][8], the same for every NB
// stage         halo chunk, weight chunk; `stages` of them go round, loaded ahead with cp.async
//
// warp -> m-tiles warp * M_TILES ..: m-tile t is the 16 pixels at row t / (TILE_W / 16), column t % (TILE_W / 16) * 16.
// A warp feeds (M_TILES + N_TILES / 2) * 512 bytes of shared memory to M_TILES * N_TILES products of 4096 operations.
#pragma once
#include "device.cuh"

// WINDOW: rows and columns of input that one output reads; TAPS: products for each of them (4 in a phase of a transposed
// convolution, whose halo may yet be 3 wide).
template <int STRIDE_, int NB_, int TILE_H_, int TILE_W_, int WARPS_, int WINDOW_ = 3, int TAPS_ = 9>
struct Tile {
    static constexpr int STRIDE = STRIDE_, NB = NB_, TILE_H = TILE_H_, TILE_W = TILE_W_, WINDOW = WINDOW_, TAPS = TAPS_;
    static constexpr int THREADS = 32 * WARPS_, LOADERS = THREADS, PIXELS = TILE_H * TILE_W, COLUMN_BLOCKS = TILE_W / 16;
    static constexpr int HALO_H = (TILE_H - 1) * STRIDE + WINDOW, HALO_W = (TILE_W - 1) * STRIDE + WINDOW;
    static constexpr int M_TILES = PIXELS / 16 / WARPS_, N_TILES = NB / 8;
    static constexpr int HALO_ROW_BYTES = HALO_W * 32, HALO_BYTES = (HALO_H * HALO_ROW_BYTES + 127) / 128 * 128;
    static constexpr int GROUP_BYTES = TAPS * 512, WEIGHT_BYTES = NB / 16 * GROUP_BYTES;
    static constexpr int STAGE_BYTES = HALO_BYTES + WEIGHT_BYTES;
    static_assert(NB % 16 == 0 && TILE_W % 16 == 0, "fragments are 16 wide");
    static_assert(M_TILES * WARPS_ * 16 == PIXELS, "every warp has the same number of m-tiles");
    static_assert(M_TILES % COLUMN_BLOCKS == 0, "a warp has whole rows");
};

// Threads of a block, and how many blocks a multiprocessor is to hold: said, so that ptxas does not spill for more.
#define BOUNDS(nb, tile_h, tile_w, warps) 32 * warps, blocks_for(tile_h * tile_w * nb / (32 * warps))
__host__ __device__ constexpr int blocks_for(int sums_of_a_thread) {
    return sums_of_a_thread < 64 ? 4 : sums_of_a_thread == 64 ? 3 : 2;
}

// Byte offset of 8 channels of a pixel in a halo chunk. Stride 2 stores even columns first, so that its reads are
// consecutive too; exchanging the pieces of every other four columns spreads 8 consecutive pixels over all banks, wherever
// they start, and keeps rows apart by a constant.
template <class T> __device__ __forceinline__ int halo_offset(int row, int col, int piece) {
    int stored = T::STRIDE == 1 ? col : (col & 1) * ((T::HALO_W + 1) / 2) + (col >> 1);
    return row * T::HALO_ROW_BYTES + stored * 32 + ((piece ^ (stored >> 2)) & 1) * 16;
}

// What a thread loads of a chunk of a halo tile, worked out once for all chunks: for each of its 16-byte pieces, where it
// comes from in a picture and goes to in a chunk, in bytes. Threads count from 0 to LOADERS - 1.
template <class T> struct HaloPieces {
    static constexpr int PIECES = T::HALO_H * T::HALO_W * 2, COUNT = (PIECES + T::LOADERS - 1) / T::LOADERS;
    static constexpr unsigned NOTHING = ~0u;
    unsigned from[COUNT];  // NOTHING behind the last piece and outside of the picture
    int to[COUNT];
};

// Of the halo tile whose first pixel is (y0, x0), in a picture [h, w, cin] of less than 4 GiB. Pieces outside of the picture
// are zero in every chunk: here they are written, once, to all `slots` where chunks will come, `slot_bytes` apart.
template <class T>
__device__ __forceinline__ HaloPieces<T> halo_pieces(unsigned char* slots, int slot_bytes, int slot_count, int thread, int cin,
                                                     int y0, int x0, int h, int w) {
    using Pieces = HaloPieces<T>;
    Pieces pieces;
#pragma unroll
    for (int k = 0; k < Pieces::COUNT; k++) {
        int i = thread + k * T::LOADERS, piece = i & 1, col = i / 2 % T::HALO_W, row = i / 2 / T::HALO_W;
        int y = y0 + row, x = x0 + col;
        bool there = i < Pieces::PIECES, inside = there && y >= 0 && y < h && x >= 0 && x < w;
        pieces.from[k] = inside ? 2u * (((unsigned)y * w + x) * cin + piece * 8) : Pieces::NOTHING;
        pieces.to[k] = halo_offset<T>(row, col, piece);
        if (there && !inside)
#pragma unroll 1
            for (int slot = 0; slot < slot_count; slot++)
                *(uint4*)(slots + slot * slot_bytes + pieces.to[k]) = make_uint4(0, 0, 0, 0);
    }
    return pieces;
}

// Starts the load of a chunk of the halo tile. src: that chunk of the picture.
template <class T>
__device__ __forceinline__ void load_halo(Shared halo, const __half* __restrict__ src, const HaloPieces<T>& pieces) {
#pragma unroll
    for (int k = 0; k < HaloPieces<T>::COUNT; k++)
        if (pieces.from[k] != HaloPieces<T>::NOTHING)
            cp_async_16(halo + pieces.to[k], (const unsigned char*)src + pieces.from[k]);
}

__host__ __device__ constexpr int common_divisor(int a, int b) { return b ? common_divisor(b, a % b) : a; }

// How warps share the weights of a chunk, groups of 16 channels with a row of 512 bytes for each tap: SETS of warps take
// every SETS'th group, and the WARPS of a set every WARPS'th row. So rows are constants apart, and a lane has one place.
template <class T> struct WeightRows {
    static constexpr int GROUPS = T::NB / 16, SETS = common_divisor(GROUPS, T::LOADERS / 32), WARPS = T::LOADERS / 32 / SETS;
    static constexpr int COUNT = (T::TAPS + WARPS - 1) / WARPS;
    int group, row, at;  // at: bytes from the first group's first row
};

template <class T> __device__ __forceinline__ WeightRows<T> weight_rows(int thread) {
    int warp = thread >> 5, row = warp / WeightRows<T>::SETS;
    return {warp % WeightRows<T>::SETS, row, row * 512 + (thread & 31) * 16};
}

// Starts the load of one chunk's weights for NB output channels. weights: from the first of those channels on; chunks: of
// all input channels.
template <class T>
__device__ __forceinline__ void load_weights(Shared dst, const __half* __restrict__ weights, int chunk, int chunks,
                                             const WeightRows<T>& rows) {
    using Rows = WeightRows<T>;
    const unsigned char* src = (const unsigned char*)weights + rows.at + ((size_t)rows.group * chunks + chunk) * T::GROUP_BYTES;
    dst += rows.at + rows.group * T::GROUP_BYTES;
#pragma unroll
    for (int i = 0; i < Rows::GROUPS / Rows::SETS; i++) {
#pragma unroll
        for (int k = 0; k < Rows::COUNT; k++)
            if ((k + 1) * Rows::WARPS <= T::TAPS || rows.row + k * Rows::WARPS < T::TAPS)
                cp_async_16(dst + i * Rows::SETS * T::GROUP_BYTES + k * Rows::WARPS * 512, src + k * Rows::WARPS * 512);
        src += (size_t)Rows::SETS * chunks * T::GROUP_BYTES;
    }
}

// Where this lane reads the first m-tile of its warp in a halo chunk, for each column of the window. All else is constant.
// warp: of those that share the tile's pixels.
template <class T> __device__ __forceinline__ void lane_columns(int (&column)[T::WINDOW], int warp) {
    int lane = threadIdx.x & 31;
#pragma unroll
    for (int c = 0; c < T::WINDOW; c++)
        column[c] = kept(halo_offset<T>(warp * (T::M_TILES / T::COLUMN_BLOCKS) * T::STRIDE, (lane & 15) * T::STRIDE + c, lane >> 4));
}

// acc += (tile as one tap sees it) x (the tap's weights). halo: chunk + column[tap's column] + tap's row * HALO_ROW_BYTES;
// weights: the chunk's, + 512 * tap + 16 * lane.
template <class T>
__device__ __forceinline__ void multiply_tap(float (&acc)[T::M_TILES][T::N_TILES][4], Shared halo, Shared weights) {
    uint4 b[T::N_TILES / 2];
#pragma unroll
    for (int n = 0; n < T::N_TILES / 2; n++) b[n] = load_shared_16(weights + T::GROUP_BYTES * n);
#pragma unroll
    for (int m = 0; m < T::M_TILES; m++) {
        unsigned a[4];
        ldmatrix_x4(a, halo + m / T::COLUMN_BLOCKS * T::STRIDE * T::HALO_ROW_BYTES + m % T::COLUMN_BLOCKS * 16 * 32);
#pragma unroll
        for (int n = 0; n < T::N_TILES / 2; n++) {
            mma_16816(acc[m][2 * n], a, b[n].x, b[n].y);
            mma_16816(acc[m][2 * n + 1], a, b[n].z, b[n].w);
        }
    }
}

// All SIDE x SIDE taps of a chunk. column: as lane_columns gives it, from the window's first column in use; halo: the chunk,
// from the window's first row in use.
template <class T, int SIDE, int COLUMNS>
__device__ __forceinline__ void multiply_chunk(float (&acc)[T::M_TILES][T::N_TILES][4], Shared halo,
                                               const int (&column)[COLUMNS], Shared weights) {
    static_assert(SIDE * SIDE == T::TAPS && SIDE <= COLUMNS, "the window has room for the taps");
    weights += 16 * (threadIdx.x & 31);
#pragma unroll
    for (int tap = 0; tap < T::TAPS; tap++)
        multiply_tap<T>(acc, halo + column[tap % SIDE] + tap / SIDE * T::HALO_ROW_BYTES, weights + 512 * tap);
}

__device__ __forceinline__ void wait_for_all_but(int newer) {
    if (newer == 0) cp_async_wait<0>();
    else if (newer == 1) cp_async_wait<1>();
    else cp_async_wait<2>();
}

// Calls body(chunk, its stage in shared memory) for all chunks; load(chunk, stage) starts a chunk's copies. The ring of
// `stages` (1 to 4) is loaded stages - 1 ahead with one barrier a chunk. All threads call it; no barrier follows the last
// body.
template <class Load, class Body>
__device__ __forceinline__ void for_each_chunk(Shared ring, int stage_bytes, int stages, int chunks, Load load,
                                               Body body) {
    for (int c = 0; c < stages - 1; c++) {
        if (c < chunks) load(c, ring + c * stage_bytes);
        cp_async_commit();
    }
    int slot = 0;
#pragma unroll 1
    for (int c = 0; c < chunks; c++) {
        int next = c + stages - 1, next_slot = slot == 0 ? stages - 1 : slot - 1;
        if (stages > 1) wait_for_all_but(stages - 2);
        __syncthreads();  // chunk c is there for all warps (stages > 1), and all have finished chunk c - 1
        if (next < chunks) load(next, ring + next_slot * stage_bytes);
        cp_async_commit();
        if (stages == 1) {
            cp_async_wait<0>();
            __syncthreads();  // the only stage has been loaded
        }
        body(c, ring + slot * stage_bytes);
        slot = slot + 1 == stages ? 0 : slot + 1;
    }
    cp_async_wait<0>();
}

template <class T> __device__ __forceinline__ void clear(float (&acc)[T::M_TILES][T::N_TILES][4]) {
#pragma unroll
    for (int m = 0; m < T::M_TILES; m++)
#pragma unroll
        for (int n = 0; n < T::N_TILES; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) acc[m][n][i] = 0;
}

// Index of a 16-byte piece of a pixel in a tile of whole pixels, PIECES to each. The XOR spreads 8 consecutive pixels over
// all 8 bank groups, for any number of pieces.
template <int PIECES> __device__ __forceinline__ int swizzled(int pixel, int piece) {
    constexpr int LOW_BIT = PIECES & -PIECES, SPREAD = LOW_BIT < 8 ? LOW_BIT : 8;
    return pixel * PIECES + (piece ^ (pixel / (8 / SPREAD) & (SPREAD - 1)));
}
