// Makes system calls of the daemon and its workers fail, wait, hang or end the process, as rules in a shared file say.
// Preloaded into them by the tests; the layout of the file is that of `shim.rs`.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>

enum { OPEN_READ = 1, OPEN_WRITE = 2, READ = 4, WRITE = 8, SYNC = 16, RENAME = 32, UNLINK = 64, TRUNCATE = 128,
       MKDIR = 256, STAT = 512, WATCH = 1024 };
enum { DAEMON = 1, WORKER = 2 };
// From SLOW down: a pause of as many milliseconds as it is less than that.
enum { ABORT = -1, HANG = -2, KILL = -3, HOLD = -4, BUS = -5, SLOW = -1000 };
enum { RULES = 15, RULE_BYTES = 512, PATH_BYTES = 448 };

struct rule {
    _Atomic uint32_t active;
    uint32_t operations, roles;
    _Atomic int32_t action;
    uint64_t from, count;
    _Atomic uint64_t seen, fired;
    char path[PATH_BYTES];
};
_Static_assert(sizeof(struct rule) <= RULE_BYTES, "the layout of shim.rs");

static unsigned char *shared;
static uint32_t role;

static void trap_renames(void);

__attribute__((constructor)) static void start(void) {
    char line[4096] = {0};
    const char *file = getenv("SLOMOD_FAULTS");
    int fd = (int)syscall(SYS_openat, AT_FDCWD, "/proc/self/cmdline", O_RDONLY | O_CLOEXEC, 0);
    if (!file || fd < 0) return;
    long length = syscall(SYS_read, fd, line, sizeof line - 1);
    syscall(SYS_close, fd);
    const char *command = line + strlen(line) + 1;
    if (length <= 0 || command >= line + length) return;
    role = !strcmp(command, "work") || !strcmp(command, "convert") ? WORKER :
         !strcmp(command, "daemon") || !strcmp(command, "check") ? DAEMON : 0;
    if (!role) return;
    fd = (int)syscall(SYS_openat, AT_FDCWD, file, O_RDWR | O_CLOEXEC, 0);
    if (fd < 0) return;
    void *map = mmap(NULL, RULE_BYTES * (RULES + 1), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    syscall(SYS_close, fd);
    if (map == MAP_FAILED) return;
    shared = map;
    trap_renames();
}

static struct rule *rule_at(int index) { return (struct rule *)(shared + RULE_BYTES * (index + 1)); }

static int wanted(uint32_t operation) {
    for (int i = 0; shared && i < RULES; i++) {
        const struct rule *rule = rule_at(i);
        if (rule->active && (rule->operations & operation) && (rule->roles & role)) return 1;
    }
    return 0;
}

static void nap(long milliseconds) {
    const struct timespec pause = {milliseconds / 1000, milliseconds % 1000 * 1000000};
    nanosleep(&pause, NULL);
}

// As where a mapped file was cut: the page is not there.
static void bus_error(void) {
    volatile const char *page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, memfd_create("empty", MFD_CLOEXEC), 0);
    (void)*page;
}

// 0, or the error that the call is to fail with.
static int fault(uint32_t operation, const char *path, const char *other) {
    if (!path) return 0;
    for (int i = 0; shared && i < RULES; i++) {
        struct rule *rule = rule_at(i);
        if (!rule->active || !(rule->operations & operation) || !(rule->roles & role)) continue;
        if (!strstr(path, rule->path) && !(other && strstr(other, rule->path))) continue;
        uint64_t seen = ++rule->seen;
        if (seen < rule->from || seen - rule->from >= rule->count) continue;
        rule->fired++;
        int action = rule->action;
        switch (action) {
        case ABORT: abort();
        case HANG: for (;;) pause();
        case KILL: syscall(SYS_kill, getpid(), SIGKILL); for (;;) pause();
        case BUS: bus_error(); break;
        case HOLD: while (rule->active && rule->action == HOLD) nap(2); break;
        default:
            if (action > SLOW) return action;
            nap(SLOW - action);
        }
    }
    return 0;
}

static int fault_of_file(uint32_t operation, int fd) {
    if (!wanted(operation)) return 0;
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    return fault(operation, path, NULL);
}

#define FAIL(error) do { int e = (error); if (e) { errno = e; return -1; } } while (0)
#define REAL(name) ({ static __typeof__(&name) real; if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name); real; })

static uint32_t opening(int flags) {
    return (flags & (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC)) ? OPEN_WRITE : OPEN_READ;
}

static mode_t mode_of(int flags, va_list rest) { return (flags & (O_CREAT | O_TMPFILE)) ? va_arg(rest, mode_t) : 0; }

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        va_list rest; va_start(rest, flags); mode_t mode = mode_of(flags, rest); va_end(rest); \
        FAIL(fault(opening(flags), path, NULL)); return REAL(name)(path, flags, mode); }
OPEN(open)
OPEN(open64)
#define OPENAT(name) \
    int name(int folder, const char *path, int flags, ...) { \
        va_list rest; va_start(rest, flags); mode_t mode = mode_of(flags, rest); va_end(rest); \
        FAIL(fault(opening(flags), path, NULL)); return REAL(name)(folder, path, flags, mode); }
OPENAT(openat)
OPENAT(openat64)

ssize_t read(int fd, void *to, size_t n) { FAIL(fault_of_file(READ, fd)); return REAL(read)(fd, to, n); }
ssize_t pread(int fd, void *to, size_t n, off_t at) { FAIL(fault_of_file(READ, fd)); return REAL(pread)(fd, to, n, at); }
ssize_t pread64(int fd, void *to, size_t n, off64_t at) { FAIL(fault_of_file(READ, fd)); return REAL(pread64)(fd, to, n, at); }
ssize_t write(int fd, const void *from, size_t n) { FAIL(fault_of_file(WRITE, fd)); return REAL(write)(fd, from, n); }
ssize_t writev(int fd, const struct iovec *from, int n) { FAIL(fault_of_file(WRITE, fd)); return REAL(writev)(fd, from, n); }
ssize_t pwrite(int fd, const void *from, size_t n, off_t at) { FAIL(fault_of_file(WRITE, fd)); return REAL(pwrite)(fd, from, n, at); }
ssize_t pwrite64(int fd, const void *from, size_t n, off64_t at) { FAIL(fault_of_file(WRITE, fd)); return REAL(pwrite64)(fd, from, n, at); }
ssize_t copy_file_range(int from, off64_t *a, int to, off64_t *b, size_t n, unsigned flags) {
    FAIL(fault_of_file(WRITE, to)); return REAL(copy_file_range)(from, a, to, b, n, flags);
}
int fsync(int fd) { FAIL(fault_of_file(SYNC, fd)); return REAL(fsync)(fd); }
int fdatasync(int fd) { FAIL(fault_of_file(SYNC, fd)); return REAL(fdatasync)(fd); }
int ftruncate(int fd, off_t size) { FAIL(fault_of_file(TRUNCATE, fd)); return REAL(ftruncate)(fd, size); }
int ftruncate64(int fd, off64_t size) { FAIL(fault_of_file(TRUNCATE, fd)); return REAL(ftruncate64)(fd, size); }
int rename(const char *from, const char *to) { FAIL(fault(RENAME, from, to)); return REAL(rename)(from, to); }
int unlink(const char *path) { FAIL(fault(UNLINK, path, NULL)); return REAL(unlink)(path); }
int inotify_add_watch(int fd, const char *path, uint32_t mask) {
    FAIL(fault(WATCH, path, NULL)); return REAL(inotify_add_watch)(fd, path, mask);
}
int mkdir(const char *path, mode_t mode) { FAIL(fault(MKDIR, path, NULL)); return REAL(mkdir)(path, mode); }
int statx(int folder, const char *restrict path, int flags, unsigned mask, struct statx *restrict to) {
    if (*path) FAIL(fault(STAT, path, NULL));
    return REAL(statx)(folder, path, flags, mask, to);
}

int clock_gettime(clockid_t clock, struct timespec *to) {
    int result = REAL(clock_gettime)(clock, to);
    if (shared && clock == CLOCK_REALTIME) to->tv_sec += *(volatile int64_t *)shared;
    return result;
}

// `renameat2` is called without the C library, so it is caught at the kernel's door. The sixth argument, which the
// call does not have, marks our own repetition of it.
#define MARK 0x510
#if defined(__x86_64__)
#define ARCHITECTURE AUDIT_ARCH_X86_64
#define ARGUMENT(ctx, n) ((ctx)->uc_mcontext.gregs[(int[]){REG_RDI, REG_RSI, REG_RDX, REG_R10, REG_R8}[n]])
#define RESULT(ctx) ((ctx)->uc_mcontext.gregs[REG_RAX])
#elif defined(__aarch64__)
#define ARCHITECTURE AUDIT_ARCH_AARCH64
#define ARGUMENT(ctx, n) ((ctx)->uc_mcontext.regs[n])
#define RESULT(ctx) ((ctx)->uc_mcontext.regs[0])
#endif

#ifdef ARCHITECTURE
static void on_rename(int signal, siginfo_t *info, void *context) {
    (void)signal; (void)info;
    ucontext_t *ctx = context;
    int kept = errno;
    const char *from = (const char *)ARGUMENT(ctx, 1), *to = (const char *)ARGUMENT(ctx, 3);
    int error = fault(RENAME, from, to);
    long result = error ? -1
        : syscall(SYS_renameat2, ARGUMENT(ctx, 0), from, ARGUMENT(ctx, 2), to, ARGUMENT(ctx, 4), MARK);
    RESULT(ctx) = result < 0 ? -(error ? error : errno) : result;
    errno = kept;
}

static void trap_renames(void) {
    struct sigaction action = {.sa_sigaction = on_rename, .sa_flags = SA_SIGINFO | SA_RESTART};
    sigaction(SIGSYS, &action, NULL);
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCHITECTURE, 0, 4),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_renameat2, 0, 2),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[5])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, MARK, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
    };
    struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
    // Where it is not allowed, these renames just never fail.
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0) prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0);
}
#else
static void trap_renames(void) {}
#endif
