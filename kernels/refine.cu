// What refines the flows at the end of the network; formula and source in src/ops/refine.rs.
//
// refine_sums:   sums of each cell of 4x4 pixels, float [n, ceil(frame_h / 4), ceil(frame_w / 4), 8]: slopes x x, x y, y y,
//                x d, y d, three zeros. Block of threads -> 4 x 8 cells: their pixels and one around are moved once, then four
//                threads sum a cell, a row of it each.
// refine_shifts: one more block output [n, full_h / 4, full_w / 4], its mask zero. Thread -> cell.
// grid z -> picture of the batch.
#include "sample.cuh"

#define CELL 4
#define CELLS_H 4
#define CELLS_W 8
#define ROWS (CELLS_H * CELL + 2)
#define COLUMNS (CELLS_W * CELL + 2)
// Values from one row to the next: the rows of a cell then lie in banks of their own.
#define PITCH (COLUMNS + 1)
#define TOLERATED 0.1f
#define DAMPING 3.3e-5f
#define LONGEST_PX 1.0f

__device__ __forceinline__ float brightness(const RefineParams& p, const __half* record, int y, int x, float by_y, float by_x) {
    // Not the padding, which is black.
    Tap row = moved(y, by_y, p.fusion.frame_h), column = moved(x, by_x, p.fusion.frame_w);
    float4 rgb = lerp2_half4(record, p.fusion.record / 4, corners(row, column, p.fusion.full_w), row, column);
    return 0.299f * rgb.x + 0.587f * rgb.y + 0.114f * rgb.z;
}

KERNEL(refine_sums, RefineParams, 128) {
    __shared__ float sum[ROWS][PITCH], difference[ROWS][PITCH];
    const FusionParams& f = p.fusion;
    const View view = f.views[blockIdx.z];
    int y0 = (int)blockIdx.y * CELLS_H * CELL, x0 = (int)blockIdx.x * CELLS_W * CELL;
    for (int i = threadIdx.x; i < ROWS * COLUMNS; i += 128) {
        int row = i / COLUMNS, column = i % COLUMNS;
        int y = min(max(y0 + row - 1, 0), f.frame_h - 1), x = min(max(x0 + column - 1, 0), f.frame_w - 1);
        // No output's mask is read.
        Motion motion = motion_at(f.earlier, f.earlier_count, f.earlier_count, blockIdx.z, y, x, 1.0f);
        float a = brightness(p, view.record0, y, x, motion.flow.y, motion.flow.x);
        float b = brightness(p, view.record1, y, x, motion.flow.w, motion.flow.z);
        sum[row][column] = a + b;
        difference[row][column] = b - a;
    }
    __syncthreads();
    int cell = threadIdx.x / CELL, row = cell / CELLS_W * CELL + threadIdx.x % CELL, column = cell % CELLS_W * CELL;
    float xx = 0, xy = 0, yy = 0, xd = 0, yd = 0;
#pragma unroll
    for (int j = 0; j < CELL; j++) {
        if (y0 + row >= f.frame_h || x0 + column + j >= f.frame_w) continue;
        int r = row + 1, c = column + j + 1;
        // Of the mean of both frames, over two pixels.
        float slope_x = 0.25f * (sum[r][c + 1] - sum[r][c - 1]), slope_y = 0.25f * (sum[r + 1][c] - sum[r - 1][c]);
        float d = difference[r][c], k = 1.0f / (1.0f + d * d * (1.0f / (TOLERATED * TOLERATED)));
        float kx = k * slope_x, ky = k * slope_y;
        xx += kx * slope_x;
        xy += kx * slope_y;
        yy += ky * slope_y;
        xd += kx * d;
        yd += ky * d;
    }
#pragma unroll
    for (int other = 1; other < CELL; other *= 2) {
        xx += __shfl_xor_sync(~0u, xx, other);
        xy += __shfl_xor_sync(~0u, xy, other);
        yy += __shfl_xor_sync(~0u, yy, other);
        xd += __shfl_xor_sync(~0u, xd, other);
        yd += __shfl_xor_sync(~0u, yd, other);
    }
    int cells_h = (f.frame_h + CELL - 1) / CELL, cells_w = (f.frame_w + CELL - 1) / CELL;
    int y = (y0 + row) / CELL, x = (x0 + column) / CELL;
    if (threadIdx.x % CELL || y >= cells_h || x >= cells_w) return;
    float4* to = p.sums + (((size_t)blockIdx.z * cells_h + y) * cells_w + x) * 2;
    to[0] = make_float4(xx, xy, yy, xd);
    to[1] = make_float4(yd, 0, 0, 0);
}

KERNEL(refine_shifts, RefineParams, 128) {
    const FusionParams& f = p.fusion;
    int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
    int h = f.full_h / CELL, w = f.full_w / CELL;
    if (x >= w || y >= h) return;
    int cells_h = (f.frame_h + CELL - 1) / CELL, cells_w = (f.frame_w + CELL - 1) / CELL;
    const float4* sums = p.sums + (size_t)blockIdx.z * cells_h * cells_w * 2;
    float xx = 0, xy = 0, yy = 0, xd = 0, yd = 0;
#pragma unroll
    for (int i = -1; i <= 1; i++) {
#pragma unroll
        for (int j = -1; j <= 1; j++) {
            if (y + i < 0 || y + i >= cells_h || x + j < 0 || x + j >= cells_w) continue;
            const float4* cell = sums + ((size_t)(y + i) * cells_w + x + j) * 2;
            float4 first = __ldg(cell), second = __ldg(cell + 1);
            // Over the pixels and weights of all nine.
            float weight = (float)((i ? 1 : 2) * (j ? 1 : 2)) / 256.0f;
            xx += weight * first.x;
            xy += weight * first.y;
            yy += weight * first.z;
            xd += weight * first.w;
            yd += weight * second.x;
        }
    }
    xx += DAMPING;
    yy += DAMPING;
    float scale = -1.0f / (xx * yy - xy * xy);
    float by_x = scale * (yy * xd - xy * yd), by_y = scale * (xx * yd - xy * xd);
    float shorter = LONGEST_PX / fmaxf(sqrtf(by_x * by_x + by_y * by_y), LONGEST_PX);
    float t = f.views[blockIdx.z].timestep, early = -t / CELL * shorter, late = (1.0f - t) / CELL * shorter;
    size_t at = ((size_t)blockIdx.z * h + y) * w + x;
    p.flow[at] = make_float4(early * by_x, early * by_y, late * by_x, late * by_y);
    p.mask[at] = __float2half(0.0f);
}
