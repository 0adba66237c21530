// Runs CUDA kernel source on the CPU: one fiber per CUDA thread, one block at a time, one OS thread.
//
// It is stricter than a GPU where that is cheap:
//   - shared memory starts every block as NaN and has guard bytes behind it;
//   - a cp.async copies when it is waited for, not before, and an unwaited copy at the end of a block fails the launch;
//     where the device is older than sm_80 it copies at once, as the kernels do there;
//   - one warp runs alone until it blocks at __syncthreads; `order` reverses warps and lanes, so that a missing
//     barrier reads NaN or stale data in one of the two orders;
//   - ldmatrix and cp.async addresses must be aligned, and ldmatrix bank conflicts are counted.
// A failure ends the launch with a message; the process lives on.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __align__(n) __attribute__((aligned(n)))
#define __restrict__ __restrict
#define __shared__ static
#define __constant__ static const

struct dim3 { unsigned x, y, z; dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {} };
struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(8) int2 { int x, y; };
struct alignas(16) int4 { int x, y, z, w; };
struct alignas(8) uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
struct alignas(2) uchar2 { unsigned char x, y; };
struct alignas(4) uchar4 { unsigned char x, y, z, w; };
struct alignas(4) ushort2 { unsigned short x, y; };
struct float3 { float x, y, z; };
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float3 make_float3(float x, float y, float z) { return {x, y, z}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline int2 make_int2(int x, int y) { return {x, y}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
inline uchar2 make_uchar2(unsigned char x, unsigned char y) { return {x, y}; }
inline uchar4 make_uchar4(unsigned char x, unsigned char y, unsigned char z, unsigned char w) { return {x, y, z, w}; }
inline ushort2 make_ushort2(unsigned short x, unsigned short y) { return {x, y}; }

#ifdef __aarch64__
typedef __fp16 __half;
#else
typedef _Float16 __half;
#endif
struct alignas(4) __half2 { __half x, y; };
inline float __half2float(__half h) { return (float)h; }
inline __half __float2half(float f) { return (__half)f; }
inline __half __float2half_rn(float f) { return (__half)f; }
inline __half2 __floats2half2_rn(float a, float b) { return {(__half)a, (__half)b}; }
inline float2 __half22float2(__half2 h) { return {(float)h.x, (float)h.y}; }
template <class T> inline T __ldg(const T* p) { return *p; }
template <class T> inline T __ldcs(const T* p) { return *p; }
template <class T> inline void __stcs(T* p, T v) { *p = v; }
inline float __saturatef(float v) { return v > 0 ? (v < 1 ? v : 1.0f) : 0.0f; }
inline float __expf(float v) { return expf(v); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __frcp_rn(float v) { return 1 / v; }
inline int __float2int_rn(float v) { return (int)rintf(v); }
inline int __float2int_rd(float v) { return (int)floorf(v); }
using std::max;
using std::min;

namespace shim {
struct Copy { void* dst; const void* src; unsigned long group; };
struct Fiber {
    void* sp; char* stack; dim3 tid; int lane, warp; bool done, waiting; unsigned long waits_for, group;
    std::vector<Copy> copies;
};
struct Warp {
    int arrived, n; unsigned long gen; unsigned a[32][4], b[32][2]; float c[32][4]; const void* addr[32]; uint64_t exchanged[32];
};
struct Counters { unsigned long mma, ldmatrix_rows8, ldmatrix_cycles, cp_async; };

// A kernel by name; one is made for each KERNEL before the library is used.
struct Kernel {
    const char* name; unsigned threads; size_t params_bytes; void (*run)(const void* params); const Kernel* next;
    Kernel(const char* name, unsigned threads, size_t params_bytes, void (*run)(const void*));
};
constexpr unsigned first(unsigned threads, unsigned = 0) { return threads; }

extern Fiber* cur;
extern void* sched_sp;
extern dim3 bidx, bdim, gdim;
extern std::vector<Warp> warps;
extern unsigned char* dynamic_shared;

extern "C" void shim_switch(void** save, void* to);
inline void yield() { shim_switch(&cur->sp, sched_sp); }
void block_sync();
void fail(const char* what);
void ldmatrix_x4(unsigned (&r)[4], const void* p);
void mma_16816(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1);
void cp_async_16(void* dst, const void* src);
void cp_async_wait(unsigned long newer);

template <class F> void warp_meet(Warp& w, F last) {
    unsigned long gen = w.gen;
    if (++w.arrived == w.n) { last(); w.arrived = 0; w.gen++; return; }
    while (w.gen == gen) yield();
}

// The value of another lane of the warp; all lanes take part.
template <class T> T exchange(T value, int from) {
    static_assert(sizeof(T) <= 8, "lanes exchange up to eight bytes");
    Warp& w = warps[cur->warp];
    memcpy(&w.exchanged[cur->lane], &value, sizeof value);
    warp_meet(w, [] {});
    memcpy(&value, &w.exchanged[from & 31], sizeof value);
    warp_meet(w, [] {});  // nobody overwrites a value before all have read
    return value;
}
}  // namespace shim

#define threadIdx (shim::cur->tid)
#define blockIdx (shim::bidx)
#define blockDim (shim::bdim)
#define gridDim (shim::gdim)
#define KERNEL(name, Params, ...)                                                                                  \
    static void name(const Params p);                                                                              \
    static const shim::Kernel name##_kernel(#name, shim::first(__VA_ARGS__), sizeof(Params),                       \
                                            [](const void* p) { name(*(const Params*)p); });                       \
    static void name(const Params p)
inline void __syncthreads() { shim::block_sync(); }
inline void __syncwarp(unsigned = ~0u) { shim::warp_meet(shim::warps[shim::cur->warp], [] {}); }
template <class T> inline T __shfl_sync(unsigned, T v, int from) { return shim::exchange(v, from); }
template <class T> inline T __shfl_xor_sync(unsigned, T v, int mask) { return shim::exchange(v, shim::cur->lane ^ mask); }
template <class T> inline T __shfl_down_sync(unsigned, T v, int by) {
    return shim::exchange(v, std::min(shim::cur->lane + by, 31));
}
template <class T> inline T atomicAdd(T* p, T v) { T old = *p; *p = old + v; return old; }
typedef unsigned char* Shared;
inline Shared shared_address(const void* p) { return (Shared)p; }
inline unsigned load_shared_4(Shared from) { unsigned v; memcpy(&v, from, sizeof v); return v; }
inline uint4 load_shared_16(Shared from) {
    if ((uintptr_t)from % 16) shim::fail("load_shared_16 address is not aligned to 16 bytes");
    return *(const uint4*)from;
}
template <class T> inline T kept(T v) { return shim::exchange(v, shim::cur->lane); }
inline void ldmatrix_x4(unsigned (&r)[4], Shared from) { shim::ldmatrix_x4(r, from); }
inline void mma_16816(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) { shim::mma_16816(d, a, b0, b1); }
inline void cp_async_16(Shared dst, const void* src) { shim::cp_async_16(dst, src); }
inline void cp_async_commit() { shim::cur->group++; }
template <int NEWER> inline void cp_async_wait() { shim::cp_async_wait(NEWER); }
inline unsigned char* shared_memory() { return shim::dynamic_shared; }
