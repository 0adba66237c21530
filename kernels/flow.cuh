// The input of a block at one of its pixels, without anything at full resolution but the frames' records.
//
// Channels, in pieces of eight (16 bytes): rgb0 rgb1 features0 features1 timestep mask | handed on | flow (4), zeros; the
// first block has no mask (zero) and nothing behind. FEATURES 0, 4, 8, 16; HANDED 0, 8.
//
// A bilinear resize down by an even s reads the 2x2 center of an s x s cell, so frames are warped at those four points
// only (WHOLE 0); at s = 1 at the pixel itself (WHOLE 1), where the flow of the warp is the flow that goes on as well.
// Up by S then down by s is up by S / s, so mask, features and flow come straight from the low-resolution outputs; where
// the input is enlarged (s = 1/2) they are read at full resolution and mixed like the frames. At the center of a cell a
// flow is the mean of those of its four points: all lie in one cell of every output before.
//
// A thread makes one pixel, or, at s = 1, a square of four whose reads of the outputs are shared (quad.cuh).
// Definition: src/ops/flow.rs.
#pragma once
#include "quad.cuh"

template <int FEATURES_, int HANDED_, int WHOLE_> struct Stage {
    static constexpr int FEATURES = FEATURES_, HANDED = HANDED_, WHOLE = WHOLE_;
    static constexpr int RECORD = FEATURES == 0 ? 4 : (3 + FEATURES + 7) / 8 * 8;  // channels of a record
    static constexpr int FRAMES = 2 * (3 + FEATURES) + 2;                          // channels up to the mask
    static constexpr int CHANNELS = (FRAMES + HANDED + 4 + 15) / 16 * 16;
    static constexpr int PIECES = CHANNELS / 8;
    static_assert(FRAMES % 8 == 0, "what comes behind the mask starts a piece");
};

// sum += weight * the record's channels where (y, x) points with the flow (by_x, by_y).
template <class S>
__device__ __forceinline__ void add_record(float (&sum)[3 + S::FEATURES], const __half* record, int y, int x, float by_y,
                                           float by_x, int h, int w, float weight) {
    Tap row = moved(y, by_y, h), column = moved(x, by_x, w);
    Corners c = corners(row, column, w);
    float low = weight * row.weight, high = weight - low;
    float share[4] = {high - high * column.weight, high * column.weight, low - low * column.weight, low * column.weight};
    if constexpr (S::FEATURES == 0) {
#pragma unroll
        for (int corner = 0; corner < 4; corner++) {
            float4 v = unpack_half4(__ldg((const uint2*)record + c.at[corner]));
            sum[0] += share[corner] * v.x;
            sum[1] += share[corner] * v.y;
            sum[2] += share[corner] * v.z;
        }
    } else {
#pragma unroll
        for (int piece = 0; piece < S::RECORD / 8; piece++)
#pragma unroll
            for (int corner = 0; corner < 4; corner++) {
                float v[8];
                unpack_half8(v, __ldg((const uint4*)record + (size_t)c.at[corner] * (S::RECORD / 8) + piece));
#pragma unroll
                for (int i = 0; i < 8; i++)
                    if (piece * 8 + i < 3 + S::FEATURES) sum[piece * 8 + i] += share[corner] * v[i];
            }
    }
}

// handed += weight * what the last block hands on, at (y, x) of a grid with `factor` picture pixels for each of its own.
__device__ __forceinline__ void add_handed(float (&handed)[8], const StageParams& p, int picture, int y, int x,
                                           float factor, float weight) {
    const Earlier& last = p.earlier[p.earlier_count - 1];
    Tap row = tap(y, factor * last.inverse, last.h), column = tap(x, factor * last.inverse, last.w);
    float v[8];
    lerp2_half8(v, last.handed + (size_t)picture * last.h * last.w * 8, 1, 0, corners(row, column, last.w), row, column);
#pragma unroll
    for (int i = 0; i < 8; i++) handed[i] += weight * v[i];
}

__device__ __forceinline__ void add_motion(Motion& sum, const Motion& from, float weight) {
    add_scaled(sum.flow, from.flow, weight);
    sum.mask += weight * from.mask;
}

__device__ __forceinline__ float point_weight(Tap row, Tap column, int point) {
    return (point & 2 ? row.weight : 1 - row.weight) * (point & 1 ? column.weight : 1 - column.weight);
}

// Both frames moved by `full`, weighted.
template <class S>
__device__ __forceinline__ void add_frames(float (&sum0)[3 + S::FEATURES], float (&sum1)[3 + S::FEATURES],
                                           const StageParams& p, const View& view, const Motion& full, int y, int x,
                                           float weight) {
    add_record<S>(sum0, view.record0, y, x, full.flow.y, full.flow.x, p.full_h, p.full_w, weight);
    add_record<S>(sum1, view.record1, y, x, full.flow.w, full.flow.z, p.full_h, p.full_w, weight);
}

// The pieces up to that with time and mask, of which only the others are there: the rest is read when these are packed,
// which leaves more registers to more threads.
template <class S>
__device__ __forceinline__ void pack_frames(uint4 (&pieces)[S::PIECES], float (&last)[8], const float (&sum0)[3 + S::FEATURES],
                                            const float (&sum1)[3 + S::FEATURES]) {
    float out[S::FRAMES] = {};
#pragma unroll
    for (int i = 0; i < 3; i++) out[i] = sum0[i], out[3 + i] = sum1[i];
#pragma unroll
    for (int i = 0; i < S::FEATURES; i++) out[6 + i] = sum0[3 + i], out[6 + S::FEATURES + i] = sum1[3 + i];
#pragma unroll
    for (int i = 0; i < S::FRAMES / 8 - 1; i++) pieces[i] = pack_half8(out + 8 * i);
#pragma unroll
    for (int i = 0; i < 8; i++) last[i] = out[S::FRAMES - 8 + i];
}

// The other pieces. low: flow in picture pixels and mask at the block's pixel.
template <class S>
__device__ __forceinline__ void pack_rest(uint4 (&pieces)[S::PIECES], float (&last)[8], const Motion& low,
                                          const float (&handed)[8], float timestep, float factor) {
    last[6] = timestep;
    last[7] = low.mask;
    pieces[S::FRAMES / 8 - 1] = pack_half8(last);
    float rest[S::CHANNELS - S::FRAMES] = {};
#pragma unroll
    for (int i = 0; i < S::HANDED; i++) rest[i] = handed[i];
    float inverse = 1.0f / factor;
    rest[S::HANDED] = low.flow.x * inverse;
    rest[S::HANDED + 1] = low.flow.y * inverse;
    rest[S::HANDED + 2] = low.flow.z * inverse;
    rest[S::HANDED + 3] = low.flow.w * inverse;
#pragma unroll
    for (int i = S::FRAMES / 8; i < S::PIECES; i++) pieces[i] = pack_half8(rest + 8 * i - S::FRAMES);
}

// All pieces of the block's pixel (y, x), which lies inside, of picture `picture` of the batch. For WHOLE 0.
template <class S>
__device__ __forceinline__ void stage_pixel(uint4 (&pieces)[S::PIECES], const StageParams& p, int picture, int y, int x) {
    const View view = p.views[picture];
    int count = p.earlier_count, first_mask = p.mask_sum ? 0 : count - 1;
    float sum0[3 + S::FEATURES] = {}, sum1[3 + S::FEATURES] = {}, last[8], handed[8] = {};
    Motion low = {make_float4(0, 0, 0, 0), 0};
    // At full resolution: which points make this pixel, with their weights.
    Tap row = tap(y, p.factor, p.full_h), column = tap(x, p.factor, p.full_w);
    const int rows[2] = {row.first, row.second}, columns[2] = {column.first, column.second};
    bool enlarged = p.factor < 1;
    Motion full[4];
    bool is_mean = motions_at<false>(full, p.earlier, count, first_mask, picture, rows, columns, p.factor);
#pragma unroll
    for (int point = 0; point < 4; point++) {
        float weight = enlarged ? point_weight(row, column, point) : 0.25f;
        add_frames<S>(sum0, sum1, p, view, full[point], rows[point >> 1], columns[point & 1], weight);
        if (is_mean) add_motion(low, full[point], 0.25f);
    }
    pack_frames<S>(pieces, last, sum0, sum1);
    if (enlarged && count) {
#pragma unroll 1
        for (int point = 0; point < 4; point++) {
            int at_y = point & 2 ? row.second : row.first, at_x = point & 1 ? column.second : column.first;
            float weight = point_weight(row, column, point);
            add_motion(low, motion_at(p.earlier, count, first_mask, picture, at_y, at_x, 1.0f), weight);
            if constexpr (S::HANDED) add_handed(handed, p, picture, at_y, at_x, 1.0f, weight);
        }
    } else if (count) {
        if (!is_mean) low = motion_at(p.earlier, count, first_mask, picture, y, x, p.factor);
        if constexpr (S::HANDED) add_handed(handed, p, picture, y, x, p.factor, 1.0f);
    }
    pack_rest<S>(pieces, last, low, handed, view.timestep, p.factor);
}

// The same for the four pixels from (y, x) on, both even, of a block at full resolution: WHOLE 1. wants(row, column) says
// which of them are made, store(row, column, pieces) takes them; row, column are 0 or 1.
template <class S, class Wants, class Store>
__device__ __forceinline__ void stage_square(const StageParams& p, int picture, int y, int x, Wants wants, Store store) {
    const View view = p.views[picture];
    const int rows[2] = {y, y + 1}, columns[2] = {x, x + 1};
    Motion full[4];
    int first_mask = p.mask_sum ? 0 : p.earlier_count - 1;
    motions_at<true>(full, p.earlier, p.earlier_count, first_mask, picture, rows, columns, 1.0f);
    // Row by row: all four at once would take too many registers.
#pragma unroll 1
    for (int row = 0; row < 2; row++) {
#pragma unroll
        for (int column = 0; column < 2; column++) {
            if (!wants(row, column)) continue;
            Motion one = row ? full[2 + column] : full[column];
            float sum0[3 + S::FEATURES] = {}, sum1[3 + S::FEATURES] = {}, last[8], handed[8] = {};
            uint4 pieces[S::PIECES];
            add_frames<S>(sum0, sum1, p, view, one, y + row, x + column, 1.0f);
            pack_frames<S>(pieces, last, sum0, sum1);
            if constexpr (S::HANDED)
                if (p.earlier_count) add_handed(handed, p, picture, y + row, x + column, 1.0f, 1.0f);
            pack_rest<S>(pieces, last, one, handed, view.timestep, 1.0f);
            store(row, column, pieces);
        }
    }
}
