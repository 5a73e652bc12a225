/* Calls of a process that croupier starts go wrong, where the kernel does not let us watch them.
 *
 * Preloaded (ld.so(8), LD_PRELOAD) into a process and all that it starts. It reads one rule from a small file that is
 * mapped into memory, and counts in it what it met. The layout is that of system/call_shim.py. It stands between a
 * program and the functions of the C library: calls that the library makes by itself (stdio's among them) and system
 * calls that a program makes without it are not seen.
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { FAIL = 1, DELAY = 2, SHORT = 3 };
enum { ANY, REGULAR, DIRECTORY, SOCKET, PIPE };
/* The order of CALLS in system/call_shim.py. */
enum { OPEN, OPENAT, CREAT, READ, PREAD, WRITE, PWRITE, FSYNC, FDATASYNC, RENAME, RENAMEAT, RENAMEAT2, UNLINK, UNLINKAT,
       CONNECT, SENDTO, RECVFROM };

struct rule {
    char magic[8];
    volatile uint32_t active;
    uint32_t what;
    int32_t error;
    uint32_t kind;
    uint64_t calls; /* a bit for each */
    uint64_t delay_us;
    uint64_t bytes;
    uint64_t nth;
    uint64_t every;
    volatile uint64_t seen;
    volatile uint64_t hits;
    char path[512];
};

static struct rule *rule;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("CROUPIER_CALLS");
    int (*real)(const char *, int, ...) = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, "open");
    int file = path && real ? real(path, O_RDWR | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *mapped = mmap(NULL, sizeof(struct rule), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (mapped != MAP_FAILED && !memcmp(mapped, "croupcal", 8)) rule = mapped;
}

/* The path that a call is about, from the root; 0 for none. */
static int whole(char *into, size_t size, int at, const char *path) {
    char base[4096] = "", link[64];
    if (path && path[0] == '/') return snprintf(into, size, "%s", path) < (int)size;
    snprintf(link, sizeof link, at == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", at);
    ssize_t length = readlink(link, base, sizeof base - 1);
    if (length < 0) return 0;
    base[length] = 0;
    return snprintf(into, size, path ? "%s/%s" : "%s", base, path) < (int)size;
}

static int is_kind(int at, const char *path) {
    struct stat about;
    if (rule->kind == ANY) return 1;
    if (path ? fstatat(at, path, &about, 0) : fstat(at, &about)) return 0;
    return (rule->kind == REGULAR && S_ISREG(about.st_mode)) || (rule->kind == DIRECTORY && S_ISDIR(about.st_mode)) ||
           (rule->kind == SOCKET && S_ISSOCK(about.st_mode)) || (rule->kind == PIPE && S_ISFIFO(about.st_mode));
}

static int is_like(int at, const char *path) {
    char found[8192];
    if (!rule->path[0]) return 1;
    if (!whole(found, sizeof found, at, path)) return 0;
    const char *last = strrchr(found, '/');
    return !fnmatch(rule->path, found, 0) || (last && !fnmatch(rule->path, last + 1, 0));
}

/* What becomes of a call; 0 for nothing. A delay has been waited out then. `other` is a second path, or NULL. */
static uint32_t strikes(int call, int at, const char *path, int other_at, const char *other) {
    if (!rule || !rule->active || !(rule->calls >> call & 1)) return 0;
    int before = errno, hit = 0;
    if (is_kind(at, path) && (is_like(at, path) || (other && is_like(other_at, other)))) {
        uint64_t seen = __atomic_add_fetch(&rule->seen, 1, __ATOMIC_SEQ_CST);
        hit = seen == rule->nth || (seen > rule->nth && rule->every && (seen - rule->nth) % rule->every == 0);
    }
    if (hit) {
        __atomic_add_fetch(&rule->hits, 1, __ATOMIC_SEQ_CST);
        struct timespec slice = {0, 5000000};
        for (uint64_t left = rule->what == DELAY ? rule->delay_us : 0; left && rule->active;
             left -= left < 5000 ? left : 5000)
            nanosleep(&slice, NULL);
    }
    errno = before;
    return hit && rule->what != DELAY ? rule->what : 0;
}

static int64_t failed(void) {
    errno = rule->error;
    return -1;
}

static size_t cut(uint32_t what, size_t length) {
    return what == SHORT && rule->bytes < length ? rule->bytes : length;
}

#define REAL(name, ...)                                                                                                \
    static __typeof__(name) *real;                                                                                     \
    if (!real) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

/* For one that takes bytes, or gives them. */
#define BYTES(call, file, length, run)                                                                                 \
    uint32_t what = strikes(call, file, NULL, 0, NULL);                                                                \
    if (what == FAIL) return failed();                                                                                 \
    length = cut(what, length);                                                                                        \
    return run

#define WHOLE(call, at, path, other_at, other, run) return strikes(call, at, path, other_at, other) == FAIL ? (int)failed() : run

ssize_t read(int file, void *into, size_t length) { REAL(read); BYTES(READ, file, length, real(file, into, length)); }
ssize_t write(int file, const void *from, size_t length) { REAL(write); BYTES(WRITE, file, length, real(file, from, length)); }
ssize_t pread(int file, void *into, size_t length, off_t at) { REAL(pread); BYTES(PREAD, file, length, real(file, into, length, at)); }
ssize_t pwrite(int file, const void *from, size_t length, off_t at) { REAL(pwrite); BYTES(PWRITE, file, length, real(file, from, length, at)); }
ssize_t pread64(int file, void *into, size_t length, off64_t at) { return pread(file, into, length, at); }
ssize_t pwrite64(int file, const void *from, size_t length, off64_t at) { return pwrite(file, from, length, at); }
ssize_t send(int file, const void *from, size_t length, int flags) { REAL(send); BYTES(SENDTO, file, length, real(file, from, length, flags)); }
ssize_t recv(int file, void *into, size_t length, int flags) { REAL(recv); BYTES(RECVFROM, file, length, real(file, into, length, flags)); }
ssize_t sendto(int file, const void *from, size_t length, int flags, const struct sockaddr *to, socklen_t size) { REAL(sendto); BYTES(SENDTO, file, length, real(file, from, length, flags, to, size)); }
ssize_t recvfrom(int file, void *into, size_t length, int flags, struct sockaddr *of, socklen_t *size) { REAL(recvfrom); BYTES(RECVFROM, file, length, real(file, into, length, flags, of, size)); }

/* What programs call that were compiled with checks of their buffers (_FORTIFY_SOURCE). */
ssize_t __read_chk(int file, void *into, size_t length, size_t room) { return length > room ? (abort(), -1) : read(file, into, length); }
ssize_t __pread_chk(int file, void *into, size_t length, off_t at, size_t room) { return length > room ? (abort(), -1) : pread(file, into, length, at); }
ssize_t __pread64_chk(int file, void *into, size_t length, off64_t at, size_t room) { return length > room ? (abort(), -1) : pread(file, into, length, at); }
ssize_t __recv_chk(int file, void *into, size_t length, size_t room, int flags) { return length > room ? (abort(), -1) : recv(file, into, length, flags); }

int fsync(int file) { REAL(fsync); WHOLE(FSYNC, file, NULL, 0, NULL, real(file)); }
int fdatasync(int file) { REAL(fdatasync); WHOLE(FDATASYNC, file, NULL, 0, NULL, real(file)); }
int connect(int file, const struct sockaddr *to, socklen_t size) { REAL(connect); WHOLE(CONNECT, file, NULL, 0, NULL, real(file, to, size)); }
int unlink(const char *path) { REAL(unlink); WHOLE(UNLINK, AT_FDCWD, path, 0, NULL, real(path)); }
int unlinkat(int at, const char *path, int flags) { REAL(unlinkat); WHOLE(UNLINKAT, at, path, 0, NULL, real(at, path, flags)); }
int rename(const char *old, const char *new) { REAL(rename); WHOLE(RENAME, AT_FDCWD, old, AT_FDCWD, new, real(old, new)); }
int renameat(int at, const char *old, int to, const char *new) { REAL(renameat); WHOLE(RENAMEAT, at, old, to, new, real(at, old, to, new)); }
int renameat2(int at, const char *old, int to, const char *new, unsigned flags) { REAL(renameat2); WHOLE(RENAMEAT2, at, old, to, new, real(at, old, to, new, flags)); }
int creat(const char *path, mode_t mode) { REAL(creat); WHOLE(CREAT, AT_FDCWD, path, 0, NULL, real(path, mode)); }

/* The C library opens by openat(2), whichever of its functions is called. */
static int opened(int at, const char *path, int flags, mode_t mode) {
    REAL(openat);
    int call = rule && rule->calls >> OPENAT & 1 ? OPENAT : OPEN;
    WHOLE(call, at, path, 0, NULL, real(at, path, flags, mode));
}

#define MODE(flags)                                                                                                    \
    va_list more;                                                                                                      \
    va_start(more, flags);                                                                                             \
    mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(more, mode_t) : 0;                                          \
    va_end(more)

int open(const char *path, int flags, ...) { MODE(flags); return opened(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags); return opened(AT_FDCWD, path, flags, mode); }
int openat(int at, const char *path, int flags, ...) { MODE(flags); return opened(at, path, flags, mode); }
int openat64(int at, const char *path, int flags, ...) { MODE(flags); return opened(at, path, flags, mode); }
int __open_2(const char *path, int flags) { return opened(AT_FDCWD, path, flags, 0); }
int __open64_2(const char *path, int flags) { return opened(AT_FDCWD, path, flags, 0); }
int __openat_2(int at, const char *path, int flags) { return opened(at, path, flags, 0); }
int __openat64_2(int at, const char *path, int flags) { return opened(at, path, flags, 0); }
