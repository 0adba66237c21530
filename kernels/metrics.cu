// How near two 8-bit pictures are: the sums behind PSNR and SSIM. Definition: src/ops/metrics.rs.
//
// Every sum is made in a fixed order (thread, block, then one block over all blocks), without atomics, so that the same
// pictures give the same digits on every run. Errors are integers and exact; SSIM is float in a window, double in sums.
//   luma_of_rgb    luma of RGB, BT.601, full range, in thousandths, so that the rounding is exact; thread -> one pixel
//   luma8          luma of more bits rounded to 8; thread -> one pixel
//   squared_error  block -> a share of the samples, partial[block]
//   ssim           block -> 16 rows x 32 columns of window positions, partial[block]; thread -> four positions
//   total_*        one block: the partial sums in order
#include "sample.cuh"

constexpr int THREADS = 128;

template <class T> __device__ __forceinline__ T block_sum(T value, T* shared) {
    int i = threadIdx.x;
    shared[i] = value;
    __syncthreads();
#pragma unroll 1
    for (int half = THREADS / 2; half > 0; half /= 2) {
        if (i < half) shared[i] += shared[i + half];
        __syncthreads();
    }
    return shared[0];
}

KERNEL(luma_of_rgb, LumaParams, THREADS) {
    size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= p.pixels) return;
    unsigned r = p.rgb[i], g = p.rgb[p.pixels + i], b = p.rgb[2 * p.pixels + i];
    p.luma[i] = (unsigned char)((r * 299 + g * 587 + b * 114 + 500) / 1000);
}

KERNEL(luma8, Luma8Params, THREADS) {
    size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= p.pixels) return;
    unsigned steps = (unsigned)p.steps, code = (p.wide[i] + steps / 2) / steps;
    p.luma[i] = (unsigned char)min(code, 255u);
}

KERNEL(squared_error, SquaredErrorParams, THREADS) {
    __shared__ unsigned long long shared[THREADS];
    unsigned long long sum = 0, words = p.samples / 4, stride = (unsigned long long)gridDim.x * THREADS;
    unsigned long long first = (unsigned long long)blockIdx.x * THREADS + threadIdx.x;
    bool aligned = (size_t)p.a % 4 == 0 && (size_t)p.b % 4 == 0;
    if (!aligned) words = 0;
    for (unsigned long long i = first; i < words; i += stride) {
        unsigned a = __ldg((const unsigned*)p.a + i), b = __ldg((const unsigned*)p.b + i), squares = 0;
#pragma unroll
        for (int k = 0; k < 4; k++) {
            int difference = (int)(a >> 8 * k & 255) - (int)(b >> 8 * k & 255);
            squares += (unsigned)(difference * difference);
        }
        sum += squares;
    }
    for (unsigned long long i = 4 * words + first; i < p.samples; i += stride) {
        int difference = (int)p.a[i] - (int)p.b[i];
        sum += (unsigned)(difference * difference);
    }
    sum = block_sum(sum, shared);
    if (threadIdx.x == 0) p.partial[blockIdx.x] = sum;
}

// ---- SSIM ----

constexpr int SSIM_H = 16, SSIM_W = 32, SIDE_MAX = 11, MOMENTS = 4;
constexpr int TILE_H = SSIM_H + SIDE_MAX - 1, TILE_W = SSIM_W + SIDE_MAX - 1;
constexpr int POSITIONS = SSIM_H * SSIM_W / THREADS;
constexpr float CENTER = 128.0f, C1 = 6.5025f, C2 = 58.5225f;

// The sample that stands at `at` of an axis of n samples with its replicated border.
__device__ __forceinline__ int replicated(int at, int padding, int n) { return min(max(at - padding, 0), n - 1); }

// SSIM of one window from the mean of a, b, a^2 + b^2 and ab, all of samples less CENTER.
__device__ __forceinline__ float similarity(const float (&m)[MOMENTS]) {
    float a = m[0], b = m[1], variances = m[2] - a * a - b * b, covariance = m[3] - a * b;
    a += CENTER;
    b += CENTER;
    return (2.0f * a * b + C1) * (2.0f * covariance + C2) / ((a * a + b * b + C1) * (variances + C2));
}

// Samples of one channel round the block's positions, border included.
__device__ __forceinline__ void load_tile(float (&a)[TILE_H][TILE_W], float (&b)[TILE_H][TILE_W], const SsimParams& p, int channel,
                                          int y0, int x0) {
    size_t plane = (size_t)channel * p.h * p.w;
    for (int i = threadIdx.x; i < TILE_H * TILE_W; i += THREADS) {
        int row = i / TILE_W, column = i % TILE_W;
        size_t at = plane + (size_t)replicated(y0 + row, p.padding, p.h) * p.w + replicated(x0 + column, p.padding, p.w);
        a[row][column] = (float)__ldg(p.a + at) - CENTER;
        b[row][column] = (float)__ldg(p.b + at) - CENTER;
    }
}

KERNEL(ssim, SsimParams, THREADS) {
    __shared__ float a[TILE_H][TILE_W], b[TILE_H][TILE_W], along[MOMENTS][TILE_H][SSIM_W];
    __shared__ double shared[THREADS];
    int y0 = blockIdx.y * SSIM_H, x0 = blockIdx.x * SSIM_W;
    int column = threadIdx.x % SSIM_W, row0 = threadIdx.x / SSIM_W * POSITIONS;
    float moments[3][POSITIONS][MOMENTS] = {};
#pragma unroll
    for (int channel = 0; channel < 3; channel++) {
        if (channel >= p.channels) break;
        load_tile(a, b, p, channel, y0, x0);
        __syncthreads();
        for (int i = threadIdx.x; i < TILE_H * SSIM_W; i += THREADS) {
            int row = i / SSIM_W, from = i % SSIM_W;
            float sum[MOMENTS] = {};
#pragma unroll
            for (int k = 0; k < SIDE_MAX; k++) {
                float u = a[row][from + k], v = b[row][from + k], weight = p.taps[k];
                sum[0] += weight * u;
                sum[1] += weight * v;
                sum[2] += weight * (u * u + v * v);
                sum[3] += weight * (u * v);
            }
#pragma unroll
            for (int m = 0; m < MOMENTS; m++) along[m][row][from] = sum[m];
        }
        __syncthreads();
#pragma unroll
        for (int position = 0; position < POSITIONS; position++)
#pragma unroll
            for (int k = 0; k < SIDE_MAX; k++)
#pragma unroll
                for (int m = 0; m < MOMENTS; m++)
                    moments[channel][position][m] += p.taps[k] * along[m][row0 + position + k][column];
    }
    double sum = 0;
#pragma unroll
    for (int position = 0; position < POSITIONS; position++) {
        if (y0 + row0 + position >= p.out_h || x0 + column >= p.out_w) continue;
#pragma unroll 1
        for (int mix = 0; mix < p.mixes; mix++) {
            float mean[MOMENTS] = {};
#pragma unroll
            for (int channel = 0; channel < 3; channel++)
#pragma unroll
                for (int m = 0; m < MOMENTS; m++) mean[m] += p.mix[3 * mix + channel] * moments[channel][position][m];
            sum += (double)similarity(mean);
        }
    }
    sum = block_sum(sum, shared);
    if (threadIdx.x == 0) p.partial[(size_t)blockIdx.y * gridDim.x + blockIdx.x] = sum;
}

template <class T> __device__ __forceinline__ void total(const TotalParams& p, T* shared) {
    T sum = 0;
    for (unsigned long long i = threadIdx.x; i < p.count; i += THREADS) sum += ((const T*)p.partial)[i];
    sum = block_sum(sum, shared);
    if (threadIdx.x == 0) ((T*)p.total)[p.slot] = sum;
}

KERNEL(total_integers, TotalParams, THREADS) {
    __shared__ unsigned long long shared[THREADS];
    total(p, shared);
}

KERNEL(total_doubles, TotalParams, THREADS) {
    __shared__ double shared[THREADS];
    total(p, shared);
}
