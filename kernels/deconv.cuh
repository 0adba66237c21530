// Transposed 4x4 convolution, stride 2, padding 1, as four phases.
//
// Phase (py, px): output (2y + py, 2x + px) reads input rows y + py - 1 + ty with kernel row 3 - py - 2 ty, ty = 0, 1;
// columns alike. So each phase is a 2x2 convolution, K = 4 cin. Weights: phase 2 py + px after phase, each as
// tile.cuh says with 4 taps.
// PixelShuffle(2) puts channel 4c + 2i + j of that pixel at (2 (2y + py) + i, 2 (2x + px) + j), channel c; here it is only
// an address. Output channels are packed as NB / 4 for each sub-pixel 2i + j: 4 flow, 1 mask, 3 unused[, 8 features].
//
// A kernel of one phase loads a halo 2 wide that starts at the phase's own corner: Tile<1, NB, .., WINDOW 2, TAPS 4>. One
// that does all phases keeps a halo 3 wide, Tile<1, NB, .., 3, 4>, and reads it from row py and column px on.
#pragma once
#include "tile.cuh"

// The products of one phase. src: the picture [h, w, cin]; weights: the phase's.
template <class T>
__device__ __forceinline__ void convolve_phase(float (&acc)[T::M_TILES][T::N_TILES][4], unsigned char* shared,
                                               const __half* __restrict__ src, const __half* __restrict__ weights, int py,
                                               int px, int h, int w, int cin, int stages) {
    static_assert(T::WINDOW == 2 && T::TAPS == 4, "a phase by itself");
    int y0 = (int)blockIdx.y * T::TILE_H - 1 + py, x0 = (int)blockIdx.x * T::TILE_W - 1 + px;
    int column[T::WINDOW];
    lane_columns<T>(column, threadIdx.x >> 5);
    clear<T>(acc);
    HaloPieces<T> pieces = halo_pieces<T>(shared, T::STAGE_BYTES, stages, threadIdx.x, cin, y0, x0, h, w);
    WeightRows<T> rows = weight_rows<T>(threadIdx.x);
    for_each_chunk(
        kept(shared_address(shared)), T::STAGE_BYTES, stages, cin / 16,
        [&](int chunk, Shared stage) {
            load_weights<T>(stage + T::HALO_BYTES, weights, chunk, cin / 16, rows);
            load_halo<T>(stage, src + chunk * 16, pieces);
        },
        [&](int, Shared stage) { multiply_chunk<T, 2>(acc, stage, column, stage + T::HALO_BYTES); });
}

// Floats from one pixel to the next where sums are staged: rows of eight pixels hit all banks.
template <class T> __device__ __forceinline__ constexpr int sums_pitch() { return T::NB + 8; }

// Leaves acc + bias in shared memory as float [pixel][sums_pitch]. A warp writes only the pixels of its own m-tiles, 16 *
// M_TILES from warp * 16 * M_TILES on; barriers before and after are the caller's.
template <class T>
__device__ __forceinline__ void stage_sums(float* sums, const float (&acc)[T::M_TILES][T::N_TILES][4],
                                           const float* __restrict__ bias) {
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, q = lane & 3;
#pragma unroll
    for (int n = 0; n < T::N_TILES; n++) {
        float2 b = __ldg((const float2*)(bias + n * 8 + q * 2));
#pragma unroll
        for (int m = 0; m < T::M_TILES; m++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                int pixel = (warp * T::M_TILES + m) * 16 + g + half * 8;
                *(float2*)(sums + pixel * sums_pitch<T>() + n * 8 + q * 2) =
                    make_float2(acc[m][n][half * 2] + b.x, acc[m][n][half * 2 + 1] + b.y);
            }
    }
}

// Writes staged sums as a block's output. Sub-pixel (i, j) of input pixel (y, x) goes to (scale * y + oy + i,
// scale * x + ox + j) of a picture of scale * h rows; neighbouring threads write the 32 bytes of neighbouring pixels.
// flow, mask, handed: of this picture of the batch.
template <class T>
__device__ __forceinline__ void store_sums(const float* sums, float4* __restrict__ flow, __half* __restrict__ mask,
                                           __half* __restrict__ handed, int h, int w, int scale, int oy, int ox) {
    for (int k = threadIdx.x; k < T::PIXELS * 4; k += T::THREADS) {
        int j = k & 1, pixel = k / 2 % T::PIXELS, i = k / 2 / T::PIXELS;
        int y = blockIdx.y * T::TILE_H + pixel / T::TILE_W, x = blockIdx.x * T::TILE_W + pixel % T::TILE_W;
        if (y >= h || x >= w) continue;
        const float* from = sums + pixel * sums_pitch<T>() + (2 * i + j) * (T::NB / 4);
        size_t to = (size_t)(scale * y + oy + i) * (scale * w) + scale * x + ox + j;
        flow[to] = *(const float4*)from;
        mask[to] = __float2half(from[4]);
        if constexpr (T::NB == 64) ((uint4*)handed)[to] = pack_half8(from + 8);
    }
}
