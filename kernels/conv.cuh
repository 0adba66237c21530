// 3x3 convolution, padding 1, stride 1 or 2: dst = act(W * src + bias [+ src]), NHWC half, float accumulation.
//
// src [n, h, w, cin] -> dst [n, out_h, out_w, cout], out = ceil(in / stride); cin and cout are multiples of 16 at run time.
// act(v) = v where positive, else slope[channel] * v: LeakyReLU 0.2, none 1, PReLU its own. With `residual` src is added at
// the center tap, taken from the tile that is in shared memory anyway: ResConv of Practical-RIFE v4.5 on, beta folded in.
// block (x, y, z) -> output tile column, row, and picture z / (cout / NB), channels z % (cout / NB) * NB ..;
// thread -> m16n8 fragments (tile.cuh). Weights as tile.cuh says; affine float2 [cout] bias, slope.
#pragma once
#include "tile.cuh"

// warp: of those that share the tile's pixels. acc += the tile's own pixels, for the pair of n-tiles whose channels are those of this chunk; none if `pair` is outside.
template <class T>
__device__ __forceinline__ void add_center(float (&acc)[T::M_TILES][T::N_TILES][4], Shared halo, int pair,
                                           int warp) {
    int lane = threadIdx.x & 31, g = lane >> 2, q = lane & 3;
    int row = warp * (T::M_TILES / T::COLUMN_BLOCKS) + 1;
#pragma unroll
    for (int n = 0; n < T::N_TILES / 2; n++) {
        if (n != pair) continue;
#pragma unroll
        for (int m = 0; m < T::M_TILES; m++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                int half = i >> 1, piece = i & 1, col = m % T::COLUMN_BLOCKS * 16 + half * 8 + g + 1;
                int at = halo_offset<T>(row + m / T::COLUMN_BLOCKS, col, piece) + 4 * q;
                unsigned raw = load_shared_4(halo + at);
                float2 v = __half22float2(*(const __half2*)&raw);
                acc[m][2 * n + piece][half * 2] += v.x;
                acc[m][2 * n + piece][half * 2 + 1] += v.y;
            }
    }
}

__device__ __forceinline__ float activate(float v, float slope) { return v > 0 ? v : v * slope; }

// Adds the bias, applies the activation and leaves the tile in shared memory as [pixel][NB], swizzled. affine: of the
// block's first channel. The caller makes sure that nobody reads there any more, and waits before it is read.
template <class T>
__device__ __forceinline__ void stage_output(unsigned char* shared, const float (&acc)[T::M_TILES][T::N_TILES][4],
                                             const float2* __restrict__ affine) {
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, q = lane & 3;
#pragma unroll
    for (int n = 0; n < T::N_TILES; n++) {
        float4 a = __ldg((const float4*)(affine + n * 8 + q * 2));
#pragma unroll
        for (int m = 0; m < T::M_TILES; m++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                int pixel = (warp * T::M_TILES + m) * 16 + g + half * 8;
                *(__half2*)(shared + 16 * swizzled<T::N_TILES>(pixel, n) + 4 * q) = __floats2half2_rn(
                    activate(acc[m][n][half * 2] + a.x, a.y), activate(acc[m][n][half * 2 + 1] + a.z, a.w));
            }
    }
}

// Writes the staged tile. dst: the block's first channel of the picture [out_h, out_w, cout].
template <class T>
__device__ __forceinline__ void store_tile(const unsigned char* shared, __half* __restrict__ dst, int out_h, int out_w,
                                           int cout) {
    constexpr int STEP = T::THREADS / T::N_TILES, COUNT = T::PIXELS * T::N_TILES / T::THREADS;
    int first_y = blockIdx.y * T::TILE_H, first_x = blockIdx.x * T::TILE_W;
    if constexpr (T::THREADS % T::N_TILES == 0 && STEP % T::TILE_W == 0 && COUNT * T::THREADS == T::PIXELS * T::N_TILES) {
        // A thread keeps its piece and its column: from one to the next it goes whole rows down.
        constexpr int ROWS = STEP / T::TILE_W;
        int pixel = threadIdx.x / T::N_TILES, piece = threadIdx.x % T::N_TILES;
        int y = first_y + pixel / T::TILE_W, x = first_x + pixel % T::TILE_W;
        const uint4* from = (const uint4*)shared + swizzled<T::N_TILES>(pixel, piece);
        __half* to = dst + ((size_t)y * out_w + x) * cout + piece * 8;
        size_t down = (size_t)ROWS * out_w * cout;
#pragma unroll
        for (int k = 0; k < COUNT; k++, to += down)
            if (y + k * ROWS < out_h && x < out_w) *(uint4*)to = from[k * STEP * T::N_TILES];
    } else {
        for (int i = threadIdx.x; i < T::PIXELS * T::N_TILES; i += T::THREADS) {
            int pixel = i / T::N_TILES, piece = i % T::N_TILES;
            int y = first_y + pixel / T::TILE_W, x = first_x + pixel % T::TILE_W;
            if (y < out_h && x < out_w)
                *(uint4*)(dst + ((size_t)y * out_w + x) * cout + piece * 8) =
                    *(const uint4*)(shared + 16 * swizzled<T::N_TILES>(pixel, piece));
        }
    }
}

// The products of a 3x3 convolution over all chunks. src: the picture [h, w, cin]; first_pair: the chunk whose channels are
// the block's first output channels, where the input is added, or a number that no chunk has.
template <class T>
__device__ __forceinline__ void convolve(float (&acc)[T::M_TILES][T::N_TILES][4], unsigned char* shared,
                                         const __half* __restrict__ src, const __half* __restrict__ weights, int h, int w,
                                         int cin, int stages, int first_pair) {
    int y0 = (int)blockIdx.y * T::TILE_H * T::STRIDE - 1, x0 = (int)blockIdx.x * T::TILE_W * T::STRIDE - 1;
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
        [&](int chunk, Shared stage) {
            multiply_chunk<T, 3>(acc, stage, column, stage + T::HALO_BYTES);
            if constexpr (T::STRIDE == 1) add_center<T>(acc, stage, chunk - first_pair, threadIdx.x >> 5);
        });
}
