// The ends of the feature network (Head of Practical-RIFE v4.7 on), once a source frame, and the record it goes into.
//
// head_first: image half [frame_h, frame_w, 4] -> dst half [ceil(h / 2), ceil(w / 2), cout] = act(conv 3x3, stride 2,
//   padding 1) of R G B. K = 27 padded to 32: thread -> builds the row of one output pixel in shared memory, place
//   tap * 3 + c. block (x, y, z) -> output tile column, row, channels z * NB ..; cout = NB * blocks along z.
// head_last: src half [h / 2, w / 2, cin] -> record half [h, w, 3 + features up to 8s]: R G B, features, zeros. The four
//   phases of the transposed convolution as one 3x3 with channels phase * features + feature: with four features this
//   fills the product's columns, where four separate phases would be half empty.
// record_plain: image -> record [h, w, 4] of a network without features. thread -> pixel.
// The layers between first and last are those of conv.cu. All read zeros beyond the frame.
#include "conv.cuh"
#include "deconv.cuh"

// R G B 0 of a pixel. The image's rows are 8 bytes a pixel.
__device__ __forceinline__ float3 image_pixel(const __half* __restrict__ image, int y, int x, int frame_h, int frame_w) {
    if (y < 0 || y >= frame_h || x < 0 || x >= frame_w) return make_float3(0, 0, 0);
    uint2 raw = __ldg((const uint2*)image + (size_t)y * frame_w + x);
    const __half2* h = (const __half2*)&raw;
    float2 rg = __half22float2(h[0]), b = __half22float2(h[1]);
    return make_float3(rg.x, rg.y, b.x);
}

template <class T> __device__ __forceinline__ void build_row(unsigned char* rows, const HeadFirstParams& p) {
    int pixel = threadIdx.x, y = blockIdx.y * T::TILE_H + pixel / T::TILE_W, x = blockIdx.x * T::TILE_W + pixel % T::TILE_W;
    float k[32];
#pragma unroll
    for (int tap = 0; tap < 9; tap++) {
        float3 v = image_pixel(p.image, 2 * y + tap / 3 - 1, 2 * x + tap % 3 - 1, p.frame_h, p.frame_w);
        k[tap * 3] = v.x, k[tap * 3 + 1] = v.y, k[tap * 3 + 2] = v.z;
    }
#pragma unroll
    for (int i = 27; i < 32; i++) k[i] = 0;
#pragma unroll
    for (int piece = 0; piece < 4; piece++) *(uint4*)(rows + 16 * swizzled<4>(pixel, piece)) = pack_half8(k + 8 * piece);
}

template <class T> __device__ __forceinline__ void head_first(const HeadFirstParams& p) {
    static_assert(T::PIXELS == T::THREADS, "one thread builds the row of one pixel");
    unsigned char* rows = shared_memory();
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    float acc[T::M_TILES][T::N_TILES][4];
    build_row<T>(rows, p);
    clear<T>(acc);
    __syncwarp();  // a warp multiplies the rows of its own pixels
    const uint4* weights = (const uint4*)p.weights + (size_t)blockIdx.z * (T::NB / 16 * 64);
#pragma unroll
    for (int step = 0; step < 2; step++)
#pragma unroll
        for (int m = 0; m < T::M_TILES; m++) {
            unsigned a[4];
            int at = swizzled<4>((warp * T::M_TILES + m) * 16 + (lane & 15), step * 2 + (lane >> 4));
            ldmatrix_x4(a, shared_address(rows) + 16 * at);
#pragma unroll
            for (int n = 0; n < T::N_TILES / 2; n++) {
                uint4 b = __ldg(weights + (n * 2 + step) * 32 + lane);
                mma_16816(acc[m][2 * n], a, b.x, b.y);
                mma_16816(acc[m][2 * n + 1], a, b.z, b.w);
            }
        }
    __syncthreads();  // the tile has been read for the last time
    stage_output<T>(rows, acc, p.affine + blockIdx.z * T::NB);
    __syncthreads();
    store_tile<T>(rows, p.dst + blockIdx.z * T::NB, (p.h + 1) / 2, (p.w + 1) / 2, gridDim.z * T::NB);
}

// Thread -> 8 channels of a record pixel, so that a warp writes a run.
template <class T> __device__ __forceinline__ void store_records(const float* sums, const HeadLastParams& p) {
    constexpr int FEATURES = T::NB / 4, PIECES = (3 + FEATURES + 7) / 8;
    for (int i = threadIdx.x; i < 4 * T::PIXELS * PIECES; i += T::THREADS) {
        int piece = i % PIECES, col = i / PIECES % (2 * T::TILE_W), row = i / PIECES / (2 * T::TILE_W);
        int y = blockIdx.y * 2 * T::TILE_H + row, x = blockIdx.x * 2 * T::TILE_W + col;
        if (y >= p.h || x >= p.w) continue;
        int phase = (row & 1) * 2 + (col & 1);
        const float* features = sums + ((row >> 1) * T::TILE_W + (col >> 1)) * sums_pitch<T>() + phase * FEATURES;
        float v[8];
#pragma unroll
        for (int c = 0; c < 8; c++) {
            int feature = piece * 8 + c - 3;
            v[c] = feature >= 0 && feature < FEATURES ? features[feature] : 0.0f;
        }
        if (piece == 0) {
            float3 rgb = image_pixel(p.image, y, x, p.frame_h, p.frame_w);
            v[0] = rgb.x, v[1] = rgb.y, v[2] = rgb.z;
        }
        ((uint4*)p.record)[((size_t)y * p.w + x) * PIECES + piece] = pack_half8(v);
    }
}

template <class T> __device__ __forceinline__ void head_last(const HeadLastParams& p) {
    unsigned char* shared = shared_memory();
    float acc[T::M_TILES][T::N_TILES][4];
    convolve<T>(acc, shared, p.src, p.weights, (p.h + 1) / 2, (p.w + 1) / 2, p.cin, p.stages, p.cin);
    __syncthreads();  // the tile has been read for the last time
    stage_sums<T>((float*)shared, acc, p.bias);
    __syncthreads();
    store_records<T>((const float*)shared, p);
}

#define HEAD_FIRST(name, stride, nb, tile_h, tile_w, warps)                                        \
    KERNEL(name, HeadFirstParams, BOUNDS(nb, tile_h, tile_w, warps)) {                             \
        head_first<Tile<stride, nb, tile_h, tile_w, warps>>(p);                                    \
    }
#define HEAD_LAST(name, stride, nb, tile_h, tile_w, warps)                                         \
    KERNEL(name, HeadLastParams, 32 * warps, nb == 16 ? 7 : blocks_for(tile_h * tile_w * nb / (32 * warps))) {                              \
        head_last<Tile<stride, nb, tile_h, tile_w, warps>>(p);                                     \
    }
#include "instances.h"

KERNEL(record_plain, RecordParams, 256) {
    int y = blockIdx.y, x = blockIdx.x * 256 + threadIdx.x;
    if (x >= p.w) return;
    float3 v = image_pixel(p.image, y, x, p.frame_h, p.frame_w);
    uint2 raw;
    __half2* h = (__half2*)&raw;
    h[0] = __floats2half2_rn(v.x, v.y);
    h[1] = __floats2half2_rn(v.z, 0.0f);
    ((uint2*)p.record)[(size_t)y * p.w + x] = raw;
}
