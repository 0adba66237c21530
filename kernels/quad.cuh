// What the earlier blocks say at four neighboring pixels at once: (y, x), (y, x + 1), (y + 1, x), (y + 1, x + 1).
//
// An output at 1/S of the picture is bilinear between the centers of its own pixels, so its cells end at y = S k + S / 2.
// Two pixels of a pair lie in one cell, and share its four corners, where no cell ends between them:
//   y even                        for all S >= 4
//   y = s i + s / 2 - 1, the center of an s x s cell, for all S >= 2 s
// Four pixels then take four reads of an output where one by one they take sixteen. At S = 2 an even pair lies in two
// cells that touch: nine reads. Any other output is read pixel by pixel. The arithmetic of each pixel is that of motion_at,
// step for step, so that all ways give the same bits.
#pragma once
#include "sample.cuh"

__device__ __forceinline__ float lerp(float a, float b, float x) { return a + (b - a) * x; }

__device__ __forceinline__ float4 lerp(float4 a, float4 b, float x) {
    return make_float4(lerp(a.x, b.x, x), lerp(a.y, b.y, x), lerp(a.z, b.z, x), lerp(a.w, b.w, x));
}

__device__ __forceinline__ void add_scaled(float4& sum, float4 v, float factor) {
    sum.x += factor * v.x;
    sum.y += factor * v.y;
    sum.z += factor * v.z;
    sum.w += factor * v.w;
}

// Both pixels of a pair along an axis.
struct Taps {
    Tap at[2];
};

__device__ __forceinline__ Taps taps(int position, float step, int n) {
    return {{tap(position, step, n), tap(position + 1, step, n)}};
}

// A value of an output at four pixels in one cell.
template <class V, class Read>
__device__ __forceinline__ void in_one_cell(V (&v)[4], const Taps& rows, const Taps& columns, int w, Read read) {
    Corners c = corners(rows.at[0], columns.at[0], w);
    V a = read(c.at[0]), b = read(c.at[1]), d = read(c.at[2]), e = read(c.at[3]);
#pragma unroll
    for (int column = 0; column < 2; column++) {
        float x = columns.at[column].weight;
        V top = lerp(a, b, x), bottom = lerp(d, e, x);
#pragma unroll
        for (int row = 0; row < 2; row++) v[2 * row + column] = lerp(top, bottom, rows.at[row].weight);
    }
}

// The same where the second pixel of a pair may lie in the next cell.
template <class V, class Read>
__device__ __forceinline__ void in_near_cells(V (&v)[4], const Taps& rows, const Taps& columns, int w, Read read) {
    int row_at[3] = {rows.at[0].first, rows.at[0].second, rows.at[1].second};
    bool down = rows.at[1].first != rows.at[0].first, right = columns.at[1].first != columns.at[0].first;
    V side[2][3];
#pragma unroll
    for (int i = 0; i < 3; i++) {
        int first = row_at[i] * w;
        V a = read(first + columns.at[0].first), b = read(first + columns.at[0].second);
        V c = read(first + columns.at[1].second);
        side[0][i] = lerp(a, b, columns.at[0].weight);
        side[1][i] = lerp(right ? b : a, c, columns.at[1].weight);
    }
#pragma unroll
    for (int column = 0; column < 2; column++) {
        v[column] = lerp(side[column][0], side[column][1], rows.at[0].weight);
        v[2 + column] = lerp(down ? side[column][1] : side[column][0], side[column][2], rows.at[1].weight);
    }
}

// A value of one output at the four pixels. NEAR: the pairs may lie in two cells.
template <bool NEAR, class V, class Read>
__device__ __forceinline__ void read_output(V (&v)[4], const Earlier& e, int y, int x, Read read) {
    Taps rows = taps(y, e.inverse, e.h), columns = taps(x, e.inverse, e.w);
    if constexpr (NEAR) in_near_cells(v, rows, columns, e.w, read);
    else in_one_cell(v, rows, columns, e.w, read);
}

template <bool NEAR>
__device__ __forceinline__ void add_flows(Motion (&sum)[4], const Earlier& e, int picture, int y, int x) {
    const float4* flow = e.flow + (size_t)picture * e.h * e.w;
    float4 v[4];
    read_output<NEAR>(v, e, y, x, [&](int at) { return __ldg(flow + at); });
#pragma unroll
    for (int i = 0; i < 4; i++) add_scaled(sum[i].flow, v[i], e.factor);
}

template <bool NEAR>
__device__ __forceinline__ void add_masks(Motion (&sum)[4], const Earlier& e, int picture, int y, int x) {
    const __half* mask = e.mask + (size_t)picture * e.h * e.w;
    float v[4];
    read_output<NEAR>(v, e, y, x, [&](int at) { return __half2float(mask[at]); });
#pragma unroll
    for (int i = 0; i < 4; i++) sum[i].mask += v[i];
}

// COUNT outputs, all known to be regular: see below. Flows come first and without a branch, so that all their reads are on
// their way at once.
template <int COUNT, bool EVEN, int MAX>
__device__ __forceinline__ void add_regular(Motion (&sum)[4], const Earlier (&earlier)[MAX], int first_mask, int picture, int y,
                                            int x) {
#pragma unroll
    for (int j = 0; j + 1 < COUNT; j++) add_flows<false>(sum, earlier[j], picture, y, x);
    add_flows<EVEN>(sum, earlier[COUNT - 1], picture, y, x);
#pragma unroll
    for (int j = 0; j + 1 < COUNT; j++)
        if (j >= first_mask) add_masks<false>(sum, earlier[j], picture, y, x);
    if (COUNT - 1 >= first_mask) add_masks<EVEN>(sum, earlier[COUNT - 1], picture, y, x);
}

// Whether every output is as networks have them, each at twice the size of the one before and the last at twice the size of
// what is made now: the four pixels share its cells, but for even pairs those of the last.
template <bool EVEN, int MAX> __device__ __forceinline__ bool regular(const Earlier (&earlier)[MAX], int count, float factor) {
    // A block at full resolution has two before it at the least, so there is no code for one.
    bool so = EVEN ? count > 1 : count > 0 && factor >= 2;
#pragma unroll
    for (int j = 0; j < MAX; j++) {
        float found = earlier[j].factor;
        if (j < count) so = so && (!EVEN ? found >= 2 * factor : j == count - 1 ? found == 2 : found >= 4);
    }
    return so;
}

// motion_at of four pixels of the picture: rows y[0] and y[1], columns x[0] and x[1]. Whether the outputs are regular.
// EVEN: y[0] and x[0] are even, the others next to them; else the four are the middle of a cell of `factor` pixels a side.
template <bool EVEN, int MAX>
__device__ __forceinline__ bool motions_at(Motion (&sum)[4], const Earlier (&earlier)[MAX], int count, int first_mask,
                                           int picture, const int (&y)[2], const int (&x)[2], float factor) {
#pragma unroll
    for (int i = 0; i < 4; i++) sum[i] = {make_float4(0, 0, 0, 0), 0};
    if (regular<EVEN>(earlier, count, factor)) {
        if (count == 4) add_regular<4, EVEN>(sum, earlier, first_mask, picture, y[0], x[0]);
        else if (count == 3) add_regular<3, EVEN>(sum, earlier, first_mask, picture, y[0], x[0]);
        else if (EVEN || count == 2) add_regular<2, EVEN>(sum, earlier, first_mask, picture, y[0], x[0]);
        else add_regular<1, EVEN>(sum, earlier, first_mask, picture, y[0], x[0]);
        return true;
    }
#pragma unroll 1
    for (int i = 0; i < 4; i++) {
        Motion one = motion_at(earlier, count, first_mask, picture, i & 2 ? y[1] : y[0], i & 1 ? x[1] : x[0], 1.0f);
#pragma unroll
        for (int k = 0; k < 4; k++)
            if (k == i) sum[k] = one;
    }
    return false;
}
