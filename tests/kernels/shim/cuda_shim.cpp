// The scheduler, barriers and tensor instructions of the CPU shim, and the library's functions for the tests.
#include "cuda_shim.h"
#include <cstdio>

namespace shim {
constexpr size_t STACK_BYTES = 64 << 10, GUARD_BYTES = 256, MAX_SHARED = 227 << 10;

Fiber* cur;
void* sched_sp;
dim3 bidx, bdim, gdim;
std::vector<Warp> warps;
unsigned char* dynamic_shared;

static int arrived, live, order;
static bool immediate;  // a cp.async is a plain copy, as before sm_80
static bool failed;
static char message[256];
static unsigned long barrier_gen;
static Counters counters;
static const Kernel* kernels;
static const Kernel* kernel;
static const void* kernel_params;

Kernel::Kernel(const char* name, unsigned threads, size_t params_bytes, void (*run)(const void*))
    : name(name), threads(threads), params_bytes(params_bytes), run(run), next(kernels) {
    kernels = this;
}

// Saves the callee-saved registers on the stack that is left and restores those of the stack that is entered.
#if defined(__x86_64__)
asm(R"(
.text
.globl shim_switch
.type shim_switch,@function
shim_switch:
 pushq %rbp; pushq %rbx; pushq %r12; pushq %r13; pushq %r14; pushq %r15
 movq %rsp,(%rdi); movq %rsi,%rsp
 popq %r15; popq %r14; popq %r13; popq %r12; popq %rbx; popq %rbp
 ret
)");

static void* fresh_stack(char* top, void (*entry)()) {
    void** sp = (void**)((uintptr_t)top & ~(uintptr_t)15);
    *--sp = nullptr;
    *--sp = (void*)entry;
    return sp - 6;
}
#elif defined(__aarch64__)
// Written from the procedure call standard (x19 to x30, d8 to d15, sp); it has not been run.
asm(R"(
.text
.globl shim_switch
.type shim_switch,%function
shim_switch:
 sub sp, sp, #160
 stp x19, x20, [sp]
 stp x21, x22, [sp, #16]
 stp x23, x24, [sp, #32]
 stp x25, x26, [sp, #48]
 stp x27, x28, [sp, #64]
 stp x29, x30, [sp, #80]
 stp d8, d9, [sp, #96]
 stp d10, d11, [sp, #112]
 stp d12, d13, [sp, #128]
 stp d14, d15, [sp, #144]
 mov x9, sp
 str x9, [x0]
 mov sp, x1
 ldp x19, x20, [sp]
 ldp x21, x22, [sp, #16]
 ldp x23, x24, [sp, #32]
 ldp x25, x26, [sp, #48]
 ldp x27, x28, [sp, #64]
 ldp x29, x30, [sp, #80]
 ldp d8, d9, [sp, #96]
 ldp d10, d11, [sp, #112]
 ldp d12, d13, [sp, #128]
 ldp d14, d15, [sp, #144]
 add sp, sp, #160
 ret
)");

static void* fresh_stack(char* top, void (*entry)()) {
    char* sp = (char*)((uintptr_t)top & ~(uintptr_t)15) - 160;
    memset(sp, 0, 160);
    memcpy(sp + 88, &entry, sizeof entry);
    return sp;
}
#else
#error "the shim knows how to switch stacks on x86-64 and aarch64"
#endif

// Ends the launch: inside a fiber it does not return.
void fail(const char* what) {
    unsigned thread = cur ? cur->tid.x + bdim.x * (cur->tid.y + bdim.y * cur->tid.z) : 0;
    if (!failed)
        snprintf(message, sizeof message, "%s at block (%u, %u, %u) thread %u of %s", what, bidx.x, bidx.y, bidx.z, thread,
                 kernel ? kernel->name : "no kernel");
    failed = true;
    while (cur) yield();
}

void block_sync() {
    if (++arrived == live) { arrived = 0; barrier_gen++; return; }
    cur->waits_for = barrier_gen;
    cur->waiting = true;
    while (barrier_gen == cur->waits_for) yield();
    cur->waiting = false;
}

static void copy(const Copy& c) { memcpy(c.dst, c.src, 16); }

void cp_async_16(void* dst, const void* src) {
    if ((uintptr_t)dst % 16 || (uintptr_t)src % 16) fail("cp.async address is not aligned to 16 bytes");
    if (immediate) copy({dst, src, 0});
    else cur->copies.push_back({dst, src, cur->group});
    counters.cp_async++;
}

void cp_async_wait(unsigned long newer) {
    auto& copies = cur->copies;
    size_t n = 0;
    for (; n < copies.size() && copies[n].group + newer < cur->group; n++) copy(copies[n]);
    copies.erase(copies.begin(), copies.begin() + n);
}

void ldmatrix_x4(unsigned (&r)[4], const void* p) {
    Warp& w = warps[cur->warp];
    int lane = cur->lane;
    if ((uintptr_t)p % 16) fail("ldmatrix address is not aligned to 16 bytes");
    w.addr[lane] = p;
    warp_meet(w, [&] {
        for (int m = 0; m < 4; m++) {
            int hits[8] = {}, worst = 0;
            for (int i = 0; i < 8; i++) worst = std::max(worst, ++hits[(uintptr_t)w.addr[8 * m + i] / 16 % 8]);
            counters.ldmatrix_rows8++;
            counters.ldmatrix_cycles += worst;
        }
    });
    for (int m = 0; m < 4; m++) memcpy(&r[m], (const char*)w.addr[8 * m + lane / 4] + 4 * (lane % 4), 4);
    warp_meet(w, [] {});  // nobody overwrites an address before all have read
}

void mma_16816(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    Warp& w = warps[cur->warp];
    int lane = cur->lane;
    memcpy(w.a[lane], a, 16);
    w.b[lane][0] = b0;
    w.b[lane][1] = b1;
    memcpy(w.c[lane], d, 16);
    warp_meet(w, [&] {
        float A[16][16], B[16][8], C[16][8];
        for (int t = 0; t < 32; t++) {
            int g = t / 4, q = t % 4 * 2;
            __half h[2];
            for (int i = 0; i < 4; i++) {
                memcpy(h, &w.a[t][i], 4);
                A[g + (i & 1) * 8][q + (i >> 1) * 8] = h[0];
                A[g + (i & 1) * 8][q + (i >> 1) * 8 + 1] = h[1];
            }
            for (int i = 0; i < 2; i++) {
                memcpy(h, &w.b[t][i], 4);
                B[q + i * 8][g] = h[0];
                B[q + i * 8 + 1][g] = h[1];
            }
            for (int i = 0; i < 4; i++) C[g + i / 2 * 8][q + i % 2] = w.c[t][i];
        }
        for (int m = 0; m < 16; m++)
            for (int k = 0; k < 16; k++)
                for (int n = 0; n < 8; n++) C[m][n] += A[m][k] * B[k][n];
        for (int t = 0; t < 32; t++)
            for (int i = 0; i < 4; i++) w.c[t][i] = C[t / 4 + i / 2 * 8][t % 4 * 2 + i % 2];
        counters.mma++;
    });
    memcpy(d, w.c[lane], 16);
}

static void entry() {
    kernel->run(kernel_params);
    if (!cur->copies.empty()) fail("cp.async was never waited for");
    cur->done = true;
    live--;
    if (arrived && arrived == live) { arrived = 0; barrier_gen++; }
    warps[cur->warp].n--;
    yield();
    abort();
}

static void start_block(std::vector<Fiber>& fibers) {
    int n = fibers.size();
    live = n;
    arrived = 0;
    warps.assign((n + 31) / 32, Warp{});
    for (int i = 0; i < n; i++) {
        Fiber& f = fibers[i];
        warps[i / 32].n++;
        f.done = f.waiting = false;
        f.group = 0;
        f.lane = i % 32;
        f.warp = i / 32;
        f.tid = dim3(i % bdim.x, i / bdim.x % bdim.y, i / bdim.x / bdim.y);
        f.copies.clear();
        f.sp = fresh_stack(f.stack + STACK_BYTES, entry);
    }
}

static void run_block(std::vector<Fiber>& fibers) {
    start_block(fibers);
    int n = fibers.size(), n_warps = warps.size();
    for (int left = n; left && !failed;) {
        bool progress = false;
        for (int i = 0; i < n_warps; i++) {
            int w = order ? n_warps - 1 - i : i, lanes = std::min(32, n - w * 32);
            for (bool ran = true; ran && !failed;) {
                ran = false;
                for (int j = 0; j < lanes && !failed; j++) {
                    Fiber& f = fibers[w * 32 + (order ? lanes - 1 - j : j)];
                    if (f.done || (f.waiting && f.waits_for == barrier_gen)) continue;
                    cur = &f;
                    shim_switch(&sched_sp, f.sp);
                    cur = nullptr;
                    left -= f.done;
                    ran = progress = true;
                }
            }
        }
        if (!progress && !failed) fail("deadlock");
    }
}

static void run_grid(dim3 grid, dim3 block, size_t shared_bytes) {
    bdim = block;
    gdim = grid;
    std::vector<Fiber> fibers(block.x * block.y * block.z);
    for (auto& f : fibers) f.stack = (char*)malloc(STACK_BYTES);
    dynamic_shared = (unsigned char*)aligned_alloc(128, (shared_bytes + GUARD_BYTES + 127) / 128 * 128);
    for (unsigned i = 0; i < grid.x * grid.y * grid.z && !failed; i++) {
        memset(dynamic_shared, 0xff, shared_bytes + GUARD_BYTES);
        bidx = dim3(i % grid.x, i / grid.x % grid.y, i / grid.x / grid.y);
        run_block(fibers);
        for (size_t g = 0; g < GUARD_BYTES && !failed; g++)
            if (dynamic_shared[shared_bytes + g] != 0xff) fail("write behind the block's shared memory");
    }
    for (auto& f : fibers) free(f.stack);
    free(dynamic_shared);
}
}  // namespace shim

#define EXPORT extern "C" __attribute__((visibility("default")))

// Bytes of a kernel's parameters; 0 where there is no such kernel.
EXPORT size_t shim_params_bytes(const char* name) {
    for (const shim::Kernel* kernel = shim::kernels; kernel; kernel = kernel->next)
        if (!strcmp(kernel->name, name)) return kernel->params_bytes;
    return 0;
}

// Runs a kernel; returns null, or what went wrong, which holds until the next launch.
EXPORT const char* shim_launch(const char* name, const unsigned* grid, const unsigned* block, size_t shared_bytes,
                               const void* params, size_t params_bytes, int order, int immediate) {
    using namespace shim;
    failed = false;
    cur = nullptr;
    bidx = dim3(0, 0, 0);
    for (kernel = kernels; kernel && strcmp(kernel->name, name);) kernel = kernel->next;
    if (!kernel) return "there is no such kernel";
    if (kernel->params_bytes != params_bytes) return "the parameters have another size";
    if (kernel->threads != block[0] * block[1] * block[2]) return "the kernel was compiled for another number of threads";
    if (!grid[0] || !grid[1] || !grid[2] || grid[1] > 65535 || grid[2] > 65535) return "the grid is empty or too large";
    if (shared_bytes > MAX_SHARED) return "more shared memory than any GPU has";
    shim::order = order;
    shim::immediate = immediate;
    kernel_params = params;
    run_grid(dim3(grid[0], grid[1], grid[2]), dim3(block[0], block[1], block[2]), shared_bytes);
    return failed ? message : nullptr;
}

// The name of the kernel at an index, or null behind the last.
EXPORT const char* shim_kernel_name(size_t index) {
    const shim::Kernel* kernel = shim::kernels;
    while (kernel && index--) kernel = kernel->next;
    return kernel ? kernel->name : nullptr;
}

// mma, ldmatrix reads of 8 rows, cycles they take, cp.async; reset on reading.
EXPORT void shim_read_counters(unsigned long* out) {
    memcpy(out, &shim::counters, sizeof shim::counters);
    shim::counters = {};
}
