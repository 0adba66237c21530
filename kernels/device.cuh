// Device primitives behind one seam: inline PTX on a GPU, or the CPU shim that executes the same kernel source.
//
// KERNEL        opens a kernel: its name, its parameter struct (named p inside), threads of a block[, blocks of an SM]
// ldmatrix_x4   four 8x8 half matrices; lane l gives the address of row l % 8 of matrix l / 8
// mma_16816     d[16x8] += a[16x16] * b[16x8]; half in, float out; on sm_75 two m16n8k8 steps
// Shared        an address in shared memory: 32 bits, where a pointer would take 64; shared_address makes it of a pointer
// cp_async_16   16 bytes global -> shared; on sm_75 a plain copy
// kept          the value, as one that the compiler cannot work out again: it tends to do so in every round of a loop
//
// Fragment layout (lane = 4 g + q): a = rows g, g+8 at k 2q, 2q+1 then k+8; b = column g at k 2q, 2q+1 then k+8;
// d[0..1] = row g, columns 2q, 2q+1; d[2..3] = row g + 8. Source: PTX ISA, "Matrix fragments for mma.m16n8k16".
#pragma once
#ifdef CUDA_SHIM
#include "cuda_shim.h"
#else
#include <cuda_fp16.h>

#define KERNEL(name, Params, ...) extern "C" __global__ void __launch_bounds__(__VA_ARGS__) name(const Params p)

typedef unsigned Shared;
__device__ __forceinline__ Shared shared_address(const void* p) { return (Shared)__cvta_generic_to_shared(p); }

__device__ __forceinline__ unsigned load_shared_4(Shared from) {
    unsigned v;
    asm volatile("ld.shared.b32 %0, [%1];\n" : "=r"(v) : "r"(from) : "memory");
    return v;
}

__device__ __forceinline__ uint4 load_shared_16(Shared from) {
    uint4 v;
    asm volatile("ld.shared.v4.b32 {%0,%1,%2,%3}, [%4];\n" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "r"(from) : "memory");
    return v;
}

// All lanes of a warp call it.
template <class T> __device__ __forceinline__ T kept(T v) { return __shfl_sync(~0u, v, threadIdx.x & 31); }

__device__ __forceinline__ void ldmatrix_x4(unsigned (&r)[4], Shared from) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];\n"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(from) : "memory");
}

// Not volatile: it only computes, and the compiler may move it.
__device__ __forceinline__ void mma_16816(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
#if __CUDA_ARCH__ >= 800
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};\n"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
    asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3},{%4,%5},{%6},{%0,%1,%2,%3};\n"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "r"(a[0]), "r"(a[1]), "r"(b0));
    asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3},{%4,%5},{%6},{%0,%1,%2,%3};\n"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "r"(a[2]), "r"(a[3]), "r"(b1));
#endif
}

__device__ __forceinline__ void cp_async_16(Shared dst, const void* src) {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;\n"
                 :: "r"(dst), "l"(__cvta_generic_to_global(src)) : "memory");
#else
    uint4 v = *(const uint4*)src;
    asm volatile("st.shared.v4.b32 [%0], {%1,%2,%3,%4};\n" :: "r"(dst), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w) : "memory");
#endif
}

__device__ __forceinline__ void cp_async_commit() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.commit_group;\n" ::: "memory");
#endif
}

template <int NEWER> __device__ __forceinline__ void cp_async_wait() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_group %0;\n" :: "n"(NEWER) : "memory");
#endif
}

__device__ __forceinline__ unsigned char* shared_memory() {
    extern __shared__ __align__(128) unsigned char dynamic_shared[];
    return dynamic_shared;
}
#endif
#include "params.h"

// Eight halves of one 16-byte load as floats. Load with __ldg: a plain load read through half2 is split into four.
__device__ __forceinline__ void unpack_half8(float (&v)[8], uint4 raw) {
    const __half2* h = (const __half2*)&raw;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        float2 f = __half22float2(h[i]);
        v[2 * i] = f.x;
        v[2 * i + 1] = f.y;
    }
}

__device__ __forceinline__ uint4 pack_half8(const float* v) {
    uint4 raw;
    __half2* h = (__half2*)&raw;
#pragma unroll
    for (int i = 0; i < 4; i++) h[i] = __floats2half2_rn(v[2 * i], v[2 * i + 1]);
    return raw;
}
