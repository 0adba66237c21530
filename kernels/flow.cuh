// The input of a block at one of its pixels, without anything at full resolution but the frames' records.
//
// Channels, in pieces of eight (16 bytes): rgb0 rgb1 features0 features1 timestep mask | handed on | flow (4), zeros; the
// first block has no mask (zero) and nothing behind. FEATURES 0, 4, 8, 16; HANDED 0, 8.
//
// A bilinear resize down by an even s reads the 2x2 center of an s x s cell, so frames are warped at those four points
// only (WHOLE 0); at s = 1 at the pixel itself (WHOLE 1), where the flow of the warp is the flow that goes on as well.
// Up by S then down by s is up by S / s, so mask, features and flow come straight from the low-resolution outputs; where
// the input is enlarged (s = 1/2) they are read at full resolution and mixed like the frames.
// Definition: src/ops/flow.rs.
#pragma once
#include "sample.cuh"

// UNROLL: points whose reads may be in flight at once; 1 keeps a kernel with many threads small.
template <int FEATURES_, int HANDED_, int WHOLE_, int UNROLL_ = 4> struct Stage {
    static constexpr int FEATURES = FEATURES_, HANDED = HANDED_, WHOLE = WHOLE_, UNROLL = UNROLL_;
    static constexpr int POINTS = WHOLE ? 1 : 4;
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
    if constexpr (S::FEATURES == 0) {
        float4 v = lerp2_half4(record, 1, c, row, column);
        sum[0] += weight * v.x;
        sum[1] += weight * v.y;
        sum[2] += weight * v.z;
    } else {
#pragma unroll
        for (int piece = 0; piece < S::RECORD / 8; piece++) {
            float v[8];
            lerp2_half8(v, record, S::RECORD / 8, piece, c, row, column);
#pragma unroll
            for (int i = 0; i < 8; i++)
                if (piece * 8 + i < 3 + S::FEATURES) sum[piece * 8 + i] += weight * v[i];
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
    sum.flow.x += weight * from.flow.x;
    sum.flow.y += weight * from.flow.y;
    sum.flow.z += weight * from.flow.z;
    sum.flow.w += weight * from.flow.w;
    sum.mask += weight * from.mask;
}

__device__ __forceinline__ float point_weight(Tap row, Tap column, int point) {
    return (point & 2 ? row.weight : 1 - row.weight) * (point & 1 ? column.weight : 1 - column.weight);
}

// All pieces of the block's pixel (y, x), which lies inside, of picture `picture` of the batch.
template <class S>
__device__ __forceinline__ void stage_pixel(uint4 (&pieces)[S::PIECES], const StageParams& p, int picture, int y, int x) {
    const View view = p.views[picture];
    int first_mask = p.mask_sum ? 0 : p.earlier_count - 1;
    float sum0[3 + S::FEATURES] = {}, sum1[3 + S::FEATURES] = {};
    Motion low = {make_float4(0, 0, 0, 0), 0};
    // At full resolution: which points make this pixel, with their weights.
    Tap row = tap(y, p.factor, p.full_h), column = tap(x, p.factor, p.full_w);
#pragma unroll S::UNROLL
    for (int point = 0; point < S::POINTS; point++) {
        int at_y = point & 2 ? row.second : row.first, at_x = point & 1 ? column.second : column.first;
        float weight = 1;
        if constexpr (!S::WHOLE) {
            weight = point_weight(row, column, point);
            if (weight == 0) continue;
        }
        Motion full = motion_at(p.earlier, p.earlier_count, first_mask, picture, at_y, at_x, 1.0f);
        add_record<S>(sum0, view.record0, at_y, at_x, full.flow.y, full.flow.x, p.full_h, p.full_w, weight);
        add_record<S>(sum1, view.record1, at_y, at_x, full.flow.w, full.flow.z, p.full_h, p.full_w, weight);
        if constexpr (S::WHOLE) low = full;
    }
    // The frames are packed before the rest is read: that leaves more registers to more threads.
    float out[S::FRAMES];
#pragma unroll
    for (int i = 0; i < 3; i++) out[i] = sum0[i], out[3 + i] = sum1[i];
#pragma unroll
    for (int i = 0; i < S::FEATURES; i++) out[6 + i] = sum0[3 + i], out[6 + S::FEATURES + i] = sum1[3 + i];
#pragma unroll
    for (int i = 0; i < S::FRAMES / 8 - 1; i++) pieces[i] = pack_half8(out + 8 * i);

    float rest[S::CHANNELS - S::FRAMES] = {}, handed[8] = {};
    bool enlarged = !S::WHOLE && p.factor < 1;
    if (p.earlier_count) {
#pragma unroll 1
        for (int point = 0; point < (enlarged ? 4 : 1); point++) {
            int at_y = y, at_x = x;
            float factor = p.factor, weight = 1;
            if (enlarged) {
                at_y = point & 2 ? row.second : row.first, at_x = point & 1 ? column.second : column.first;
                factor = 1, weight = point_weight(row, column, point);
            }
            if constexpr (!S::WHOLE)
                add_motion(low, motion_at(p.earlier, p.earlier_count, first_mask, picture, at_y, at_x, factor), weight);
            if constexpr (S::HANDED) add_handed(handed, p, picture, at_y, at_x, factor, weight);
        }
    }
    out[S::FRAMES - 2] = view.timestep;
    out[S::FRAMES - 1] = low.mask;
    pieces[S::FRAMES / 8 - 1] = pack_half8(out + S::FRAMES - 8);
#pragma unroll
    for (int i = 0; i < S::HANDED; i++) rest[i] = handed[i];
    float inverse = 1.0f / p.factor;
    rest[S::HANDED] = low.flow.x * inverse;
    rest[S::HANDED + 1] = low.flow.y * inverse;
    rest[S::HANDED + 2] = low.flow.z * inverse;
    rest[S::HANDED + 3] = low.flow.w * inverse;
#pragma unroll
    for (int i = S::FRAMES / 8; i < S::PIECES; i++) pieces[i] = pack_half8(rest + 8 * i - S::FRAMES);
}
