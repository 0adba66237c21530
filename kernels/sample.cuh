// Bilinear and cubic reads: a low-resolution tensor at a position of another grid, and a picture at a moved position.
//
// Coordinates, weights and sums are float throughout: half has a step of one pixel at 1024.
#pragma once
#include "device.cuh"

// The two positions that a bilinear resize reads along an axis, and the weight of the second: half-pixel centers, as
// src/ops/resize.rs.
struct Tap {
    int first;
    int second;
    float weight;
};

// `step`: input positions for one output position, a power of two, so all of this is exact.
__device__ __forceinline__ Tap tap(int position, float step, int n) {
    float u = fmaxf((position + 0.5f) * step - 0.5f, 0.0f);
    int first = min((int)u, n - 1);
    return {first, min(first + 1, n - 1), u - floorf(u)};
}

// Where a warp reads along an axis: clamped to the picture, NaN reads the first position. As src/ops/warp.rs.
__device__ __forceinline__ Tap moved(int position, float by, int n) {
    float u = fminf(fmaxf((float)position + by, 0.0f), (float)(n - 1));
    int first = (int)u;
    return {first, min(first + 1, n - 1), u - (float)first};
}

// Indices of the four pixels of an image `w` wide: rows first, columns second.
struct Corners {
    int at[4];
};

__device__ __forceinline__ Corners corners(Tap row, Tap column, int w) {
    return {{row.first * w + column.first, row.first * w + column.second, row.second * w + column.first,
             row.second * w + column.second}};
}

__device__ __forceinline__ float lerp2(float v00, float v01, float v10, float v11, float x, float y) {
    float top = v00 + (v01 - v00) * x, bottom = v10 + (v11 - v10) * x;
    return top + (bottom - top) * y;
}

__device__ __forceinline__ float lerp2_half(const __half* values, Corners c, Tap row, Tap column) {
    return lerp2(__half2float(values[c.at[0]]), __half2float(values[c.at[1]]), __half2float(values[c.at[2]]),
                 __half2float(values[c.at[3]]), column.weight, row.weight);
}

__device__ __forceinline__ float4 lerp2_float4(const float4* values, Corners c, Tap row, Tap column) {
    float4 a = __ldg(values + c.at[0]), b = __ldg(values + c.at[1]), d = __ldg(values + c.at[2]), e = __ldg(values + c.at[3]);
    float x = column.weight, y = row.weight;
    return make_float4(lerp2(a.x, b.x, d.x, e.x, x, y), lerp2(a.y, b.y, d.y, e.y, x, y), lerp2(a.z, b.z, d.z, e.z, x, y),
                       lerp2(a.w, b.w, d.w, e.w, x, y));
}

// Eight channels, one 16-byte piece, of pixels with `pieces` of them.
__device__ __forceinline__ void lerp2_half8(float (&v)[8], const __half* values, int pieces, int piece, Corners c, Tap row,
                                            Tap column) {
    const uint4* p = (const uint4*)values + piece;
    float a[8], b[8], d[8], e[8];
    unpack_half8(a, __ldg(p + (size_t)c.at[0] * pieces));
    unpack_half8(b, __ldg(p + (size_t)c.at[1] * pieces));
    unpack_half8(d, __ldg(p + (size_t)c.at[2] * pieces));
    unpack_half8(e, __ldg(p + (size_t)c.at[3] * pieces));
#pragma unroll
    for (int i = 0; i < 8; i++) v[i] = lerp2(a[i], b[i], d[i], e[i], column.weight, row.weight);
}

__device__ __forceinline__ float4 unpack_half4(uint2 raw) {
    const __half2* h = (const __half2*)&raw;
    float2 low = __half22float2(h[0]), high = __half22float2(h[1]);
    return make_float4(low.x, low.y, high.x, high.y);
}

__device__ __forceinline__ uint2 pack_half4(float4 v) {
    uint2 raw;
    __half2* h = (__half2*)&raw;
    h[0] = __floats2half2_rn(v.x, v.y);
    h[1] = __floats2half2_rn(v.z, v.w);
    return raw;
}

// The first four channels of pixels with 4 * quads of them.
__device__ __forceinline__ float4 lerp2_half4(const __half* values, int quads, Corners c, Tap row, Tap column) {
    const uint2* p = (const uint2*)values;
    float4 a = unpack_half4(__ldg(p + (size_t)c.at[0] * quads)), b = unpack_half4(__ldg(p + (size_t)c.at[1] * quads));
    float4 d = unpack_half4(__ldg(p + (size_t)c.at[2] * quads)), e = unpack_half4(__ldg(p + (size_t)c.at[3] * quads));
    float x = column.weight, y = row.weight;
    return make_float4(lerp2(a.x, b.x, d.x, e.x, x, y), lerp2(a.y, b.y, d.y, e.y, x, y), lerp2(a.z, b.z, d.z, e.z, x, y),
                       lerp2(a.w, b.w, d.w, e.w, x, y));
}

// Where a warp by a cubic reads along an axis, and the weights: Keys' cubic convolution with a = -1/2. As src/ops/warp.rs.
struct CubicTap {
    int at[4];
    float weight[4];
};

__device__ __forceinline__ CubicTap moved_cubic(int position, float by, int n) {
    Tap tap = moved(position, by, n);
    float t = tap.weight;
    return {{max(tap.first - 1, 0), tap.first, tap.second, min(tap.first + 2, n - 1)},
            {((1.0f - 0.5f * t) * t - 0.5f) * t, (1.5f * t - 2.5f) * t * t + 1.0f, ((2.0f - 1.5f * t) * t + 0.5f) * t,
             (0.5f * t - 0.5f) * t * t}};
}

// The first four channels of pixels with 4 * quads of them, of an image `w` wide.
__device__ __forceinline__ float4 cubic_half4(const __half* values, int quads, CubicTap row, CubicTap column, int w) {
    float4 sum = make_float4(0, 0, 0, 0);
#pragma unroll
    for (int i = 0; i < 4; i++) {
#pragma unroll
        for (int j = 0; j < 4; j++) {
            // The largest picture has 2^27 pixels of 6 quads at the most: 31 bits count them.
            unsigned at = (unsigned)((row.at[i] * w + column.at[j]) * quads);
            float4 v = unpack_half4(__ldg((const uint2*)values + at));
            float weight = row.weight[i] * column.weight[j];
            sum.x += weight * v.x;
            sum.y += weight * v.y;
            sum.z += weight * v.z;
        }
    }
    return sum;
}

// What the earlier blocks say at one position: flow in picture pixels (x, y into img0, x, y into img1), mask logit.
struct Motion {
    float4 flow;
    float mask;
};

// At (y, x) of a grid with `factor` picture pixels for each of its own. Every output is read at its own resolution and
// summed in float: reading a sum would differ. first_mask: the logits of the outputs from this one on are summed. As
// src/ops/flow.rs, `flow_at` and `mask_at`.
template <int MAX>
__device__ __forceinline__ Motion motion_at(const Earlier (&earlier)[MAX], int count, int first_mask, int picture, int y, int x,
                                            float factor) {
    Motion sum = {make_float4(0, 0, 0, 0), 0};
#pragma unroll
    for (int j = 0; j < MAX; j++) {
        if (j >= count) break;
        const Earlier& e = earlier[j];
        Tap row = tap(y, factor * e.inverse, e.h), column = tap(x, factor * e.inverse, e.w);
        Corners c = corners(row, column, e.w);
        size_t first = (size_t)picture * e.h * e.w;
        float4 flow = lerp2_float4(e.flow + first, c, row, column);
        sum.flow.x += e.factor * flow.x;
        sum.flow.y += e.factor * flow.y;
        sum.flow.z += e.factor * flow.z;
        sum.flow.w += e.factor * flow.w;
        if (j >= first_mask) sum.mask += lerp2_half(e.mask + first, c, row, column);
    }
    return sum;
}
