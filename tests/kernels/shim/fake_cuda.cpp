// A stand-in for libcuda.so.1 over the kernels compiled for the processor, for tests of src/backend/cuda/nvidia.
//
// Streams put everything off as long as they may: what is asked for runs when somebody waits for it, and another stream's
// work only where an event orders it before. So a missing wait, or staging memory that is overwritten too early, shows in
// the picture. Environment: FAKE_CUDA_KERNELS (the library of kernels), FAKE_CUDA_VERSION, FAKE_CUDA_INIT (what cuInit
// gives), FAKE_CUDA_DEVICES, FAKE_CUDA_CAPABILITY (10 times major and minor), FAKE_CUDA_IMAGES (0: none is taken),
// FAKE_CUDA_MEMORY (bytes), FAKE_CUDA_OTHERS (bytes that others use, of the first device or up to number FAKE_CUDA_CROWDED), FAKE_CUDA_SILENT (the
// device that nothing is said of), FAKE_CUDA_INTEGRATED (1: the memory is the host's),
// FAKE_CUDA_RETAIN (what opening a device gives), FAKE_CUDA_MODE (its compute mode), FAKE_CUDA_MIG (1: it is an instance of a device that is divided), FAKE_CUDA_LOST_AT (the launch that fails), FAKE_CUDA_CAPTURE and FAKE_CUDA_GRAPHS (0: none can be begun, none can be made),
// FAKE_CUDA_SKIPPED (what the names of kernels begin with that do nothing), FAKE_CUDA_CALLS (a file that gets a line for
// whatever allocates, makes or waits).
#include <dlfcn.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <vector>

namespace {

enum Result { OK = 0, INVALID = 1, OUT_OF_MEMORY = 2, NO_DEVICE = 100, BAD_IMAGE = 200, NOT_FOUND = 500, LAUNCH_FAILED = 719 };

typedef const char* (*LaunchKernel)(const char*, const unsigned*, const unsigned*, size_t, const void*, size_t, int, int);
typedef size_t (*ParamsBytes)(const char*);

struct Stream {
    std::deque<std::function<void()>> put_off;
    std::vector<std::function<void()>>* captured = nullptr;
};
// A point in a stream: done once the stream has run so much.
struct Event {
    Stream* stream = nullptr;
    size_t point = 0;
};
struct Function {
    std::string name;
    size_t params_bytes;
};
typedef std::vector<std::function<void()>> Graph;

std::recursive_mutex lock;
std::map<Stream*, size_t> asked, done;
std::map<void*, size_t> memory;
size_t used = 0;
int lost = 0, launches = 0;
// The device whose context is current.
thread_local long current = -1;

long number(const char* name, long otherwise) { return getenv(name) ? atol(getenv(name)) : otherwise; }
size_t total() { return number("FAKE_CUDA_MEMORY", 4l << 30); }

void called(const char* what) {
    static FILE* file = getenv("FAKE_CUDA_CALLS") ? fopen(getenv("FAKE_CUDA_CALLS"), "a") : nullptr;
    if (file) fprintf(file, "%s\n", what), fflush(file);
}

void* kernels() {
    static void* library = dlopen(getenv("FAKE_CUDA_KERNELS"), RTLD_NOW | RTLD_LOCAL);
    return library;
}

void run_one(Stream* s) {
    auto work = s->put_off.front();
    s->put_off.pop_front();
    work();
    done[s]++;
}
void run_to(Stream* s, size_t point) {
    while (done[s] < point && !s->put_off.empty()) run_one(s);
}
int put(void* stream, std::function<void()> work) {
    auto s = (Stream*)stream;
    if (s->captured) {
        s->captured->push_back(work);
    } else {
        s->put_off.push_back(work);
        asked[s]++;
    }
    return lost;
}

}  // namespace

#define API extern "C" __attribute__((visibility("default"))) int
#define LOCKED std::lock_guard<std::recursive_mutex> guard(lock)

API cuDriverGetVersion(int* version) { return *version = number("FAKE_CUDA_VERSION", 12020), OK; }
API cuInit(unsigned) { return number("FAKE_CUDA_INIT", OK); }
API cuDeviceGetCount(int* count) { return *count = number("FAKE_CUDA_DEVICES", 1), OK; }
API cuDeviceGet(int* device, int index) { return *device = index, index < number("FAKE_CUDA_DEVICES", 1) ? OK : 101; }
API cuDeviceGetName(char* name, int length, int) { return strncpy(name, "Stand-in", length), OK; }
API cuDeviceGetUuid(unsigned char* uuid, int device) {
    for (int i = 0; i < 16; i++) uuid[i] = 0xf0 + i;
    return uuid[15] -= device, OK;
}
API cuDeviceGetUuid_v2(unsigned char* uuid, int device) {
    cuDeviceGetUuid(uuid, device);
    if (number("FAKE_CUDA_MIG", 0)) uuid[0] = 1;
    return OK;
}
API cuDeviceGetAttribute(int* value, int attribute, int device) {
    if (device == number("FAKE_CUDA_SILENT", -1)) return 999;
    switch (attribute) {
        case 16: *value = 132; break;         // multiprocessors
        case 18: *value = number("FAKE_CUDA_INTEGRATED", 0); break;
        case 20: *value = number("FAKE_CUDA_MODE", 0); break;
        case 36: *value = 3201000; break;     // kHz of the memory's clock
        case 37: *value = 6144; break;        // bits of its bus
        case 75: *value = number("FAKE_CUDA_CAPABILITY", 90) / 10; break;
        case 76: *value = number("FAKE_CUDA_CAPABILITY", 90) % 10; break;
        case 97: *value = 227 << 10; break;   // shared memory a block may ask for
        default: return INVALID;
    }
    return OK;
}
API cuDeviceTotalMem_v2(size_t* bytes, int) { return *bytes = total(), OK; }
API cuDevicePrimaryCtxRetain(void** context, int device) { return *context = (void*)(device + 1l), number("FAKE_CUDA_RETAIN", OK); }
API cuDevicePrimaryCtxRelease_v2(int) { return OK; }
API cuCtxSetCurrent(void* context) { return current = (long)context - 1, context ? OK : INVALID; }
API cuGetErrorName(int error, const char** text) {
    return *text = error == OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY" : error == LAUNCH_FAILED ? "CUDA_ERROR_LAUNCH_FAILED" : "CUDA_ERROR", OK;
}
API cuGetErrorString(int, const char** text) { return *text = "the stand-in says so", OK; }

API cuStreamCreate(void** stream, unsigned) { called("make"); return *stream = new Stream, OK; }
API cuStreamSynchronize(void* stream) {
    called("wait for a stream");
    LOCKED;
    if (stream) run_to((Stream*)stream, asked[(Stream*)stream]);
    return lost;
}
API cuStreamDestroy_v2(void* stream) { return cuStreamSynchronize(stream); }
API cuStreamWaitEvent(void* stream, void* event, unsigned) {
    LOCKED;
    Event at = *(Event*)event;
    return at.stream ? put(stream, [at] { run_to(at.stream, at.point); }) : OK;
}
API cuEventCreate(void** event, unsigned) { called("make"); return *event = new Event, OK; }
API cuEventDestroy_v2(void*) { return OK; }
API cuEventRecord(void* event, void* stream) {
    LOCKED;
    *(Event*)event = {(Stream*)stream, asked[(Stream*)stream]};
    return lost;
}
API cuEventSynchronize(void* event) {
    LOCKED;
    auto at = (Event*)event;
    // What is done already is not waited for.
    if (at->stream && done[at->stream] < at->point) called("wait for an event");
    if (at->stream) run_to(at->stream, at->point);
    return lost;
}

API cuMemAlloc_v2(void** address, size_t bytes) {
    called("allocate");
    LOCKED;
    if (used + bytes > total()) return OUT_OF_MEMORY;
    *address = aligned_alloc(256, (bytes + 255) / 256 * 256);
    memset(*address, 0xff, bytes);
    memory[*address] = bytes;
    used += bytes;
    return OK;
}
API cuMemFree_v2(void* address) {
    called("free");
    LOCKED;
    if (!memory.count(address)) return INVALID;
    used -= memory[address];
    memset(address, 0xff, memory[address]);
    memory.erase(address);
    free(address);
    return lost;
}
API cuMemGetInfo_v2(size_t* free_bytes, size_t* bytes) { return *free_bytes = total() - used - (current <= number("FAKE_CUDA_CROWDED", 0) ? number("FAKE_CUDA_OTHERS", 0) : 0), *bytes = total(), OK; }
API cuMemHostAlloc(void** address, size_t bytes, unsigned) { called("allocate"); return *address = aligned_alloc(4096, (bytes + 4095) / 4096 * 4096), OK; }
API cuMemFreeHost(void* address) { called("free"); return free(address), OK; }
API cuMemcpyHtoDAsync_v2(void* to, const void* from, size_t bytes, void* stream) {
    LOCKED;
    return put(stream, [=] { memcpy(to, from, bytes); });
}
API cuMemcpyDtoHAsync_v2(void* to, const void* from, size_t bytes, void* stream) {
    LOCKED;
    return put(stream, [=] { memcpy(to, from, bytes); });
}

API cuModuleLoadData(void** module, const void* image) { return *module = (void*)1, !number("FAKE_CUDA_IMAGES", 1) || memcmp(image, "\177ELF", 4) ? BAD_IMAGE : OK; }
API cuModuleUnload(void*) { return OK; }
API cuModuleGetFunction(void** function, void*, const char* name) {
    auto bytes = (ParamsBytes)dlsym(kernels(), "shim_params_bytes");
    if (!bytes || !bytes(name)) return NOT_FOUND;
    return *function = new Function{name, bytes(name)}, OK;
}
API cuFuncGetAttribute(int* value, int, void*) { return *value = 0, OK; }
API cuFuncSetAttribute(void*, int attribute, int value) { return attribute == 8 && value <= 227 << 10 ? OK : INVALID; }
API cuLaunchKernel(void* function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                   unsigned shared, void* stream, void** params, void**) {
    called("launch");
    LOCKED;
    auto f = (Function*)function;
    std::string bytes((const char*)params[0], f->params_bytes);
    return put(stream, [=] {
        if (++launches == number("FAKE_CUDA_LOST_AT", -1)) lost = LAUNCH_FAILED;
        if (lost) return;
        if (const char* skipped = getenv("FAKE_CUDA_SKIPPED"); skipped && f->name.rfind(skipped, 0) == 0) return;
        unsigned grid[3] = {gx, gy, gz}, block[3] = {bx, by, bz};
        auto run = (LaunchKernel)dlsym(kernels(), "shim_launch");
        if (run(f->name.c_str(), grid, block, shared, bytes.data(), bytes.size(), 0, 0)) lost = LAUNCH_FAILED;
    });
}

API cuStreamBeginCapture_v2(void* stream, int) {
    if (!number("FAKE_CUDA_CAPTURE", 1)) return INVALID;
    LOCKED;
    ((Stream*)stream)->captured = new Graph;
    return OK;
}
API cuStreamEndCapture(void* stream, void** graph) {
    LOCKED;
    *graph = ((Stream*)stream)->captured;
    ((Stream*)stream)->captured = nullptr;
    return OK;
}
API cuGraphInstantiateWithFlags(void** ready, void* graph, unsigned long long) {
    called("make");
    if (!number("FAKE_CUDA_GRAPHS", 1)) return INVALID;
    return *ready = new Graph(*(Graph*)graph), OK;
}
API cuGraphDestroy(void* graph) { return delete (Graph*)graph, OK; }
API cuGraphExecDestroy(void* graph) { called("free"); return delete (Graph*)graph, OK; }
API cuGraphLaunch(void* graph, void* stream) {
    called("start a graph");
    LOCKED;
    for (auto& work : *(Graph*)graph) put(stream, work);
    return lost;
}
