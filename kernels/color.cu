// Decoded pictures to the network's image and back: matrix, range and chroma sampling of every format of src/frame.rs.
//
// Equations, siting, filters and rounding as src/ops/color.rs (the definition). Chroma lies on every second luma column,
// and in 4:2:0 half way between two luma rows. Up: bilinear there. Down: [-1 2 6 2 -1] / 8 along rows,
// [-1 3 3 -1] / 4 over four rows, which undo it.
//   image_from_*  planes -> half [h, w, 4], nominal 0..1; what codes have beyond that goes through
//   rgb8_from_*   planes -> three planes of bytes, R G B, as the quality measures take them
//   *_from_image  half [h, w, 4] -> planes
// thread -> four pixels of a row (two rows where 4:2:0 is written), so that 8-bit luma moves as words and a pixel run of
// the image is 32 bytes. Sample: unsigned char, or unsigned short for more than 8 bit.
#include "sample.cuh"

enum Chroma { GRAY, C420, C422, C444, GBR };
constexpr int RUN = 4;

template <int BYTES> struct Word;
template <> struct Word<2> { typedef unsigned short type; };
template <> struct Word<4> { typedef unsigned type; };
template <> struct Word<8> { typedef unsigned long long type; };

// v[i] = row[min(x + i, n - 1)]: the last sample repeats. One load where the run is aligned and inside.
template <int N, class Sample> __device__ __forceinline__ void load_run(float (&v)[N], const Sample* row, int x, int n) {
    typedef typename Word<N * sizeof(Sample)>::type W;
    if (x + N <= n && (size_t)(row + x) % sizeof(W) == 0) {
        W word = __ldg((const W*)(row + x));
#pragma unroll
        for (int i = 0; i < N; i++) v[i] = (float)(Sample)(word >> (8 * sizeof(Sample) * i));
    } else {
#pragma unroll
        for (int i = 0; i < N; i++) v[i] = (float)__ldg(row + min(x + i, n - 1));
    }
}

// row[x + i] = v[i] where that is inside; v holds codes.
template <int N, class Sample> __device__ __forceinline__ void store_run(Sample* row, int x, int n, const float (&v)[N]) {
    typedef typename Word<N * sizeof(Sample)>::type W;
    if (x + N <= n && (size_t)(row + x) % sizeof(W) == 0) {
        W word = 0;
#pragma unroll
        for (int i = 0; i < N; i++) word |= (W)((W)(Sample)v[i] << (8 * sizeof(Sample) * i));
        *(W*)(row + x) = word;
    } else {
#pragma unroll
        for (int i = 0; i < N; i++)
            if (x + i < n) row[x + i] = (Sample)v[i];
    }
}

// The nearest code, saturating; NaN is 0.
__device__ __forceinline__ float code(float value, float peak) { return fminf(fmaxf(floorf(value + 0.5f), 0.0f), peak); }

// ---- planes -> RGB ----

// Chroma at four luma positions of row y, from column x (a multiple of 4) on, in codes above zero.
template <Chroma C, class Sample>
__device__ __forceinline__ void upsampled(float (&v)[RUN], const void* plane, const ColorParams& p, int y, int x) {
    const Sample* samples = (const Sample*)plane;
    if constexpr (C == C444) {
        load_run(v, samples + (size_t)y * p.chroma_pitch, x, p.chroma_w);
#pragma unroll
        for (int i = 0; i < RUN; i++) v[i] -= p.chroma_zero;
        return;
    } else {
        int near_row = C == C420 ? y / 2 : y;
        float low[2], column[3];
        const Sample* near = samples + (size_t)near_row * p.chroma_pitch;
        load_run(low, near, x / 2, p.chroma_w);
        column[0] = low[0], column[1] = low[1], column[2] = (float)__ldg(near + min(x / 2 + 2, p.chroma_w - 1));
        if constexpr (C == C420) {
            int far_row = y % 2 ? min(near_row + 1, p.chroma_h - 1) : max(near_row - 1, 0);
            const Sample* far = samples + (size_t)far_row * p.chroma_pitch;
            load_run(low, far, x / 2, p.chroma_w);
            column[0] = column[0] * 0.75f + low[0] * 0.25f;
            column[1] = column[1] * 0.75f + low[1] * 0.25f;
            column[2] = column[2] * 0.75f + (float)__ldg(far + min(x / 2 + 2, p.chroma_w - 1)) * 0.25f;
        }
#pragma unroll
        for (int i = 0; i < 3; i++) column[i] -= p.chroma_zero;
        v[0] = column[0], v[1] = 0.5f * (column[0] + column[1]);
        v[2] = column[1], v[3] = 0.5f * (column[1] + column[2]);
    }
}

struct Run {
    float r[RUN], g[RUN], b[RUN];
};

template <Chroma C, class Sample>
__device__ __forceinline__ Run rgb_run(const ColorParams& p, int y, int x) {
    Run rgb;
    float luma[RUN];
    load_run(luma, (const Sample*)p.planes[0] + (size_t)y * p.pitch, x, p.w);
#pragma unroll
    for (int i = 0; i < RUN; i++) luma[i] = (luma[i] - p.luma_zero) / p.luma_span;
    if constexpr (C == GRAY) {
#pragma unroll
        for (int i = 0; i < RUN; i++) rgb.r[i] = rgb.g[i] = rgb.b[i] = luma[i];
    } else if constexpr (C == GBR) {
        float blue[RUN], red[RUN];
        load_run(blue, (const Sample*)p.planes[1] + (size_t)y * p.chroma_pitch, x, p.w);
        load_run(red, (const Sample*)p.planes[2] + (size_t)y * p.chroma_pitch, x, p.w);
#pragma unroll
        for (int i = 0; i < RUN; i++) {
            rgb.r[i] = (red[i] - p.luma_zero) / p.luma_span;
            rgb.g[i] = luma[i];
            rgb.b[i] = (blue[i] - p.luma_zero) / p.luma_span;
        }
    } else {
        float cb[RUN], cr[RUN];
        upsampled<C, Sample>(cb, p.planes[1], p, y, x);
        upsampled<C, Sample>(cr, p.planes[2], p, y, x);
#pragma unroll
        for (int i = 0; i < RUN; i++) {
            float u = cb[i] / p.chroma_span, v = cr[i] / p.chroma_span;
            rgb.r[i] = luma[i] + p.red * v;
            rgb.g[i] = luma[i] - p.green_cb * u - p.green_cr * v;
            rgb.b[i] = luma[i] + p.blue * u;
        }
    }
    return rgb;
}

template <Chroma C, class Sample> __device__ __forceinline__ void image_from_planes(const ColorParams& p) {
    int x = RUN * (blockIdx.x * blockDim.x + threadIdx.x), y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= p.w || y >= p.h) return;
    Run rgb = rgb_run<C, Sample>(p, y, x);
    uint2 pixels[RUN];
#pragma unroll
    for (int i = 0; i < RUN; i++) pixels[i] = pack_half4(make_float4(rgb.r[i], rgb.g[i], rgb.b[i], 0));
    uint2* to = (uint2*)p.image + (size_t)y * p.w + x;
    if (x + RUN <= p.w && (size_t)to % 16 == 0) {
        ((uint4*)to)[0] = make_uint4(pixels[0].x, pixels[0].y, pixels[1].x, pixels[1].y);
        ((uint4*)to)[1] = make_uint4(pixels[2].x, pixels[2].y, pixels[3].x, pixels[3].y);
    } else {
#pragma unroll
        for (int i = 0; i < RUN; i++)
            if (x + i < p.w) to[i] = pixels[i];
    }
}

template <Chroma C, class Sample> __device__ __forceinline__ void rgb8_from_planes(const ColorParams& p) {
    int x = RUN * (blockIdx.x * blockDim.x + threadIdx.x), y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= p.w || y >= p.h) return;
    Run rgb = rgb_run<C, Sample>(p, y, x);
#pragma unroll
    for (int i = 0; i < RUN; i++) {
        rgb.r[i] = code(rgb.r[i] * 255.0f, 255.0f);
        rgb.g[i] = code(rgb.g[i] * 255.0f, 255.0f);
        rgb.b[i] = code(rgb.b[i] * 255.0f, 255.0f);
    }
    size_t plane = (size_t)p.h * p.w;
    unsigned char* row = (unsigned char*)p.image + (size_t)y * p.w;
    store_run(row, x, p.w, rgb.r);
    store_run(row + plane, x, p.w, rgb.g);
    store_run(row + 2 * plane, x, p.w, rgb.b);
}

// ---- RGB -> planes ----

// Four pixels of row y from column x on; behind the last column it repeats.
__device__ __forceinline__ void load_pixels(float4 (&v)[RUN], const ColorParams& p, int y, int x) {
    const uint2* from = (const uint2*)p.image + (size_t)y * p.w + x;
    if (x + RUN <= p.w && (size_t)from % 16 == 0) {
        uint4 low = __ldg((const uint4*)from), high = __ldg((const uint4*)from + 1);
        v[0] = unpack_half4(make_uint2(low.x, low.y)), v[1] = unpack_half4(make_uint2(low.z, low.w));
        v[2] = unpack_half4(make_uint2(high.x, high.y)), v[3] = unpack_half4(make_uint2(high.z, high.w));
    } else {
#pragma unroll
        for (int i = 0; i < RUN; i++) v[i] = unpack_half4(__ldg(from + min(i, p.w - 1 - x)));
    }
}

__device__ __forceinline__ float luma_of(const ColorParams& p, float4 v) { return p.kr * v.x + p.kg * v.y + p.kb * v.z; }

// Color differences, nominal -1/2..1/2.
__device__ __forceinline__ float2 differences(const ColorParams& p, float4 v) {
    float luma = luma_of(p, v);
    return make_float2((v.z - luma) / p.blue, (v.x - luma) / p.red);
}

// Color differences of columns x - BEFORE .. x + RUN of a row, which the filter of both its chroma columns reads.
constexpr int BEFORE = 2, READ = BEFORE + RUN + 1;
struct Differences {
    float2 v[READ];
};

// The pixels before and behind the run; edges repeat.
__device__ __forceinline__ float2 differences_at(const ColorParams& p, int y, int x) {
    const uint2* row = (const uint2*)p.image + (size_t)y * p.w;
    return differences(p, unpack_half4(__ldg(row + min(max(x, 0), p.w - 1))));
}

// Color differences round a run of row y; its luma is stored where LUMA.
template <class Sample, bool LUMA>
__device__ __forceinline__ Differences differences_of_row(const ColorParams& p, int y, int x) {
    Differences row;
    float4 v[RUN];
    load_pixels(v, p, y, x);
#pragma unroll
    for (int i = 0; i < BEFORE; i++) row.v[i] = differences_at(p, y, x - BEFORE + i);
#pragma unroll
    for (int i = 0; i < RUN; i++) row.v[BEFORE + i] = differences(p, v[i]);
    row.v[BEFORE + RUN] = differences_at(p, y, x + RUN);
    if constexpr (LUMA) {
        float codes[RUN];
#pragma unroll
        for (int i = 0; i < RUN; i++) codes[i] = code(luma_of(p, v[i]) * p.luma_span + p.luma_zero, p.peak);
        store_run((Sample*)p.planes[0] + (size_t)y * p.pitch, x, p.w, codes);
    }
    return row;
}

__device__ __forceinline__ float2 operator+(float2 a, float2 b) { return make_float2(a.x + b.x, a.y + b.y); }
__device__ __forceinline__ float2 operator-(float2 a, float2 b) { return make_float2(a.x - b.x, a.y - b.y); }
__device__ __forceinline__ float2 operator*(float a, float2 b) { return make_float2(a * b.x, a * b.y); }

template <class Sample> __device__ __forceinline__ void store_chroma(const ColorParams& p, int row, int x, const Differences& from) {
    float cb[2], cr[2];
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const float2* v = from.v + 2 * i;
        float2 chroma = 0.75f * v[2] + 0.25f * (v[1] + v[3]) - 0.125f * (v[0] + v[4]);
        cb[i] = code(chroma.x * p.chroma_span + p.chroma_zero, p.peak);
        cr[i] = code(chroma.y * p.chroma_span + p.chroma_zero, p.peak);
    }
    store_run((Sample*)p.planes[1] + (size_t)row * p.chroma_pitch, x / 2, p.chroma_w, cb);
    store_run((Sample*)p.planes[2] + (size_t)row * p.chroma_pitch, x / 2, p.chroma_w, cr);
}

template <Chroma C, class Sample> __device__ __forceinline__ void planes_from_image(const ColorParams& p) {
    int x = RUN * (blockIdx.x * blockDim.x + threadIdx.x), y = blockIdx.y * blockDim.y + threadIdx.y;
    if constexpr (C == C420) y *= 2;
    if (x >= p.w || y >= p.h) return;
    if constexpr (C == C420 || C == C422) {
        Differences row = differences_of_row<Sample, true>(p, y, x);
        if constexpr (C == C420) {
            // The last row of an odd height is its own neighbor; its luma is stored twice.
            Differences bottom = differences_of_row<Sample, true>(p, min(y + 1, p.h - 1), x);
#pragma unroll
            for (int i = 0; i < READ; i++) row.v[i] = 0.75f * (row.v[i] + bottom.v[i]);
            Differences above = differences_of_row<Sample, false>(p, max(y - 1, 0), x);
            Differences below = differences_of_row<Sample, false>(p, min(y + 2, p.h - 1), x);
#pragma unroll
            for (int i = 0; i < READ; i++) row.v[i] = row.v[i] - 0.25f * (above.v[i] + below.v[i]);
        }
        store_chroma<Sample>(p, C == C420 ? y / 2 : y, x, row);
    } else {
        float4 v[RUN];
        float first[RUN], second[RUN], third[RUN];
        load_pixels(v, p, y, x);
#pragma unroll
        for (int i = 0; i < RUN; i++) {
            if constexpr (C == GBR) {
                first[i] = code(v[i].y * p.luma_span + p.luma_zero, p.peak);
                second[i] = code(v[i].z * p.luma_span + p.luma_zero, p.peak);
                third[i] = code(v[i].x * p.luma_span + p.luma_zero, p.peak);
            } else {
                float2 chroma = differences(p, v[i]);
                first[i] = code(luma_of(p, v[i]) * p.luma_span + p.luma_zero, p.peak);
                second[i] = code(chroma.x * p.chroma_span + p.chroma_zero, p.peak);
                third[i] = code(chroma.y * p.chroma_span + p.chroma_zero, p.peak);
            }
        }
        store_run((Sample*)p.planes[0] + (size_t)y * p.pitch, x, p.w, first);
        if constexpr (C != GRAY) {
            store_run((Sample*)p.planes[1] + (size_t)y * p.chroma_pitch, x, p.w, second);
            store_run((Sample*)p.planes[2] + (size_t)y * p.chroma_pitch, x, p.w, third);
        }
    }
}

#define COLOR_KERNELS(format, chroma, sample)                                                                                   \
    KERNEL(image_from_##format, ColorParams, 128) { image_from_planes<chroma, sample>(p); } \
    KERNEL(rgb8_from_##format, ColorParams, 128) { rgb8_from_planes<chroma, sample>(p); }   \
    KERNEL(format##_from_image, ColorParams, 128, 8) { planes_from_image<chroma, sample>(p); }
COLOR_KERNELS(gray, GRAY, unsigned char)
COLOR_KERNELS(yuv420, C420, unsigned char)
COLOR_KERNELS(yuv422, C422, unsigned char)
COLOR_KERNELS(yuv444, C444, unsigned char)
COLOR_KERNELS(gbr, GBR, unsigned char)
COLOR_KERNELS(gray_wide, GRAY, unsigned short)
COLOR_KERNELS(yuv420_wide, C420, unsigned short)
COLOR_KERNELS(yuv422_wide, C422, unsigned short)
COLOR_KERNELS(yuv444_wide, C444, unsigned short)
COLOR_KERNELS(gbr_wide, GBR, unsigned short)
