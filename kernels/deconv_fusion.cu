// The end of the network in one kernel: the last block's transposed convolution with its pixel shuffle, and the picture
// (fusion.cuh), so that the last flow and mask never reach memory.
//
// src [n, h, w, cin], cin up to 64 -> image [n, frame_h, frame_w, 4]; the padded picture is 4h x 4w. The halo tile of all
// channels stays in shared memory. The two phases of an output row pair are multiplied one after the other; their flow and
// mask pass through shared memory, and the warp that made them blends them while the next two phases' weights come in.
// Weights, phases and the order of channels as in the transposed convolution alone, and the mask is rounded to half as
// there: bit for bit the same picture. block (x, y, z) -> input tile column, row, picture;
// warp -> 2 input rows: 4 rows of 64 pixels for each row of phases; lane -> a square of four pixels of each pair of rows.
#include "fusion.cuh"
#include "quad.cuh"
#include "tile.cuh"

// Flow and mask of one row of phases: [warp][input row, sub-row][pixel].
template <class T> struct Staged {
    static constexpr int ROWS = 2 * T::M_TILES, COLUMNS = 4 * T::TILE_W, PIXELS = T::THREADS / 32 * ROWS * COLUMNS;
    static constexpr int BYTES = PIXELS * 20;
};

template <class T>
__device__ __forceinline__ void stage_phase(float4* flow, float* mask, const float (&acc)[T::M_TILES][T::N_TILES][4],
                                            const float* __restrict__ bias, int phase_column) {
    int lane = threadIdx.x & 31, g = lane >> 2, q = lane & 3;
#pragma unroll
    for (int m = 0; m < T::M_TILES; m++)
#pragma unroll
        for (int half = 0; half < 2; half++)
#pragma unroll
            for (int sub = 0; sub < 4; sub++) {
                int at = (2 * m + (sub >> 1)) * Staged<T>::COLUMNS + 4 * (g + half * 8) + 2 * phase_column + (sub & 1);
                float2 b = __ldg((const float2*)(bias + sub * 8 + 2 * q));
                float v0 = acc[m][sub][half * 2] + b.x, v1 = acc[m][sub][half * 2 + 1] + b.y;
                if (q < 2) ((float2*)flow)[at * 2 + q] = make_float2(v0, v1);
                if (q == 2) mask[at] = __half2float(__float2half(v0));
            }
}

template <class T, bool CUBIC>
__device__ __forceinline__ void blend_staged(const FusionParams& p, const float4* flow, const float* mask, int phase_row) {
    static_assert(Staged<T>::COLUMNS == 64, "a lane has a square of four pixels of each input row");
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, picture = blockIdx.z;
    const View view = p.views[picture];
    // Where masks are not summed the last one counts, and that is this block's.
    int first_mask = p.mask_sum ? 0 : p.earlier_count;
#pragma unroll 1
    for (int m = 0; m < T::M_TILES; m++) {
        int y = 4 * ((int)blockIdx.y * T::TILE_H + warp * T::M_TILES + m) + 2 * phase_row;
        int x = 4 * (int)blockIdx.x * T::TILE_W + 2 * lane;
        if (y >= p.frame_h || x >= p.frame_w) continue;
        const int rows[2] = {y, y + 1}, columns[2] = {x, x + 1};
        Motion motion[4];
        motions_at<true>(motion, p.earlier, p.earlier_count, first_mask, picture, rows, columns, 1.0f);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int at = (2 * m + (i >> 1)) * Staged<T>::COLUMNS + 2 * lane + (i & 1);
            add_scaled(motion[i].flow, flow[at], 1.0f);
            motion[i].mask += mask[at];
            if (rows[i >> 1] >= p.frame_h || columns[i & 1] >= p.frame_w) continue;
            float4 rgb = blend<CUBIC>(p, view, motion[i], rows[i >> 1], columns[i & 1]);
            size_t to = ((size_t)picture * p.frame_h + rows[i >> 1]) * p.frame_w + columns[i & 1];
            ((uint2*)p.image)[to] = pack_half4(rgb);
        }
    }
}

// The weights of the two phases of a row of phases, one behind the other.
template <class T>
__device__ __forceinline__ void load_phases(Shared dst, const __half* __restrict__ weights, int chunks, int phase_row) {
    WeightRows<T> rows = weight_rows<T>(threadIdx.x);
#pragma unroll 1
    for (int i = 0; i < 2 * chunks; i++) {
        int phase = 2 * phase_row + (i >= chunks), chunk = i >= chunks ? i - chunks : i;
        load_weights<T>(dst + i * T::WEIGHT_BYTES, weights + (size_t)phase * chunks * (T::WEIGHT_BYTES / 2), chunk, chunks,
                        rows);
    }
}

template <class T, bool CUBIC> __device__ __forceinline__ void deconvolve_and_blend(const DeconvFusionParams& p) {
    int chunks = p.cin / 16, warp = threadIdx.x >> 5;
    unsigned char* shared = shared_memory();
    unsigned char* staged = shared + chunks * (T::HALO_BYTES + 2 * T::WEIGHT_BYTES);
    float4* flow = (float4*)staged + warp * Staged<T>::ROWS * Staged<T>::COLUMNS;
    float* mask = (float*)(staged + Staged<T>::PIXELS * 16) + warp * Staged<T>::ROWS * Staged<T>::COLUMNS;
    Shared halo = shared_address(shared), weights = halo + chunks * T::HALO_BYTES;
    const __half* src = p.src + (size_t)blockIdx.z * p.h * p.w * p.cin;
    int y0 = (int)blockIdx.y * T::TILE_H - 1, x0 = (int)blockIdx.x * T::TILE_W - 1, column[T::WINDOW];
    lane_columns<T>(column, threadIdx.x >> 5);
    HaloPieces<T> pieces = halo_pieces<T>(shared, T::HALO_BYTES, chunks, threadIdx.x, p.cin, y0, x0, p.h, p.w);
#pragma unroll 1
    for (int chunk = 0; chunk < chunks; chunk++) load_halo<T>(halo + chunk * T::HALO_BYTES, src + chunk * 16, pieces);
#pragma unroll 1
    for (int phase_row = 0; phase_row < 2; phase_row++) {
        if (phase_row == 0) load_phases<T>(weights, p.weights, chunks, 0);
        cp_async_commit();
        cp_async_wait<0>();
        __syncthreads();
#pragma unroll
        for (int phase_column = 0; phase_column < 2; phase_column++) {
            float acc[T::M_TILES][T::N_TILES][4];
            clear<T>(acc);
            const int columns[2] = {column[phase_column], column[phase_column + 1]};
#pragma unroll 1
            for (int chunk = 0; chunk < chunks; chunk++)
                multiply_chunk<T, 2>(acc, halo + chunk * T::HALO_BYTES + phase_row * T::HALO_ROW_BYTES, columns,
                                     weights + (phase_column * chunks + chunk) * T::WEIGHT_BYTES);
            stage_phase<T>(flow, mask, acc, p.bias, phase_column);
        }
        __syncthreads();  // all warps have read the weights; a warp blends what it staged itself
        if (phase_row == 0) load_phases<T>(weights, p.weights, chunks, 1);
        blend_staged<T, CUBIC>(p.fusion, flow, mask, phase_row);
        __syncwarp();  // before the next phases are staged
    }
}

// Blocks that a multiprocessor is to hold: as many as leave registers enough that none is spilled.
#if __CUDA_ARCH__ >= 1200
#define FUSION_BLOCKS 2
#else
#define FUSION_BLOCKS 4
#endif
#define CUBIC_BLOCKS 2

#define DECONV_FUSION(name, nb, tile_h, tile_w, warps, cubic, blocks)             \
    KERNEL(name, DeconvFusionParams, 32 * warps, blocks) {                        \
        deconvolve_and_blend<Tile<1, nb, tile_h, tile_w, warps, 3, 4>, cubic>(p); \
    }
#include "instances.h"
