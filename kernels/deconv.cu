// lastconv of an IFBlock, with the pixel shuffle (Practical-RIFE v4.5 on) and without (v4.0 to v4.4); phases in deconv.cuh.
//
// deconv: PixelShuffle(2)(ConvTranspose2d(cin, 4 * channels, 4, stride 2, padding 1)(src)), src [n, h, w, cin] half ->
//   flow [n, 4h, 4w, 4] float, mask [n, 4h, 4w] half, handed [n, 4h, 4w, 8] half (NB = 64 only).
//   block (x, y, z) -> input tile column, row, and picture z / 4, phase z % 4.
// deconv_plain: ConvTranspose2d(cin, 5, 4, stride 2, padding 1)(src) -> flow [n, 2h, 2w, 4], mask [n, 2h, 2w]. All phases
//   in one 3x3 convolution, 8 channels to each: 20 of 32 columns of the product are in use, and the tile is read once.
//   block (x, y, z) -> input tile column, row, picture.
// thread -> m16n8 fragments (tile.cuh), then output pixels in runs. bias: float [NB], the same for all phases.
#include "conv.cuh"
#include "deconv.cuh"

template <class T> __device__ __forceinline__ void deconvolve(const DeconvParams& p) {
    unsigned char* shared = shared_memory();
    int n = blockIdx.z >> 2, phase = blockIdx.z & 3, py = phase >> 1, px = phase & 1;
    float acc[T::M_TILES][T::N_TILES][4];
    convolve_phase<T>(acc, shared, p.src + (size_t)n * p.h * p.w * p.cin,
                      p.weights + (size_t)phase * (p.cin / 16) * (T::WEIGHT_BYTES / 2), py, px, p.h, p.w, p.cin, p.stages);
    __syncthreads();  // the tile has been read for the last time
    stage_sums<T>((float*)shared, acc, p.bias);
    __syncthreads();
    size_t first = (size_t)n * 16 * p.h * p.w;
    store_sums<T>((const float*)shared, p.flow + first, p.mask + first, T::NB == 64 ? p.handed + first * 8 : nullptr, p.h,
                  p.w, 4, 2 * py, 2 * px);
}

template <class T> __device__ __forceinline__ void deconvolve_plain(const DeconvPlainParams& p) {
    unsigned char* shared = shared_memory();
    int n = blockIdx.z;
    float acc[T::M_TILES][T::N_TILES][4];
    convolve<T>(acc, shared, p.src + (size_t)n * p.h * p.w * p.cin, p.weights, p.h, p.w, p.cin, p.stages, p.cin);
    __syncthreads();  // the tile has been read for the last time
    stage_sums<T>((float*)shared, acc, p.bias);
    __syncthreads();
    size_t first = (size_t)n * 4 * p.h * p.w;
    store_sums<T>((const float*)shared, p.flow + first, p.mask + first, nullptr, p.h, p.w, 2, 0, 0);
}

#define DECONV(name, stride, nb, tile_h, tile_w, warps)                                            \
    KERNEL(name, DeconvParams, BOUNDS(nb, tile_h, tile_w, warps)) {                                \
        deconvolve<Tile<stride, nb, tile_h, tile_w, warps, 2, 4>>(p);                              \
    }
#define DECONV_PLAIN(name, stride, nb, tile_h, tile_w, warps)                                      \
    KERNEL(name, DeconvPlainParams, BOUNDS(nb, tile_h, tile_w, warps)) {                           \
        deconvolve_plain<Tile<stride, nb, tile_h, tile_w, warps>>(p);                              \
    }
#include "instances.h"
