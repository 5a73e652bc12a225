/* The wall clock of a process that croupier starts, as croupier wants it to be.
 *
 * Preloaded (ld.so(8), LD_PRELOAD) into a process and all that it starts. It reads a small file that is mapped into
 * memory, so that a change takes hold at the next question, costs no call, allocates nothing, and is safe in a signal
 * handler. The layout is that of system/clocks.py.
 *
 * The wall clock is moved where programs ask for it, and moved back where they wait until a moment of it. Monotonic
 * clocks are moved as well only where the file says so.
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

struct setting {
    int64_t offset_ns; /* added to the true time */
    int64_t since_ns;  /* the true wall time from which the drift counts */
    int64_t drift_ppb; /* parts per billion by which it runs fast; slow if negative */
    int64_t monotonic; /* whether monotonic clocks are moved as well */
};

struct shared {
    char magic[8];
    volatile uint8_t current; /* which setting holds; the other is written, then this byte */
    uint8_t unused[7];
    volatile struct setting settings[2];
};

static const struct shared *ours;
static int (*next_gettime)(clockid_t, struct timespec *);

static int true_time(clockid_t clock, struct timespec *at) {
    return next_gettime ? next_gettime(clock, at) : (int)syscall(SYS_clock_gettime, clock, at);
}

static int64_t ns(const struct timespec *at) { return (int64_t)at->tv_sec * 1000000000 + at->tv_nsec; }

static void put(struct timespec *at, int64_t value) {
    int64_t rest = value % 1000000000;
    at->tv_sec = value / 1000000000 - (rest < 0);
    at->tv_nsec = rest < 0 ? rest + 1000000000 : rest;
}

static struct setting setting(void) {
    struct setting none = {0, 0, 0, 0};
    return ours ? ours->settings[ours->current & 1] : none;
}

static int is_wall(clockid_t clock) { return clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE; }

static int is_moved(const struct setting *now, clockid_t clock) {
    if (is_wall(clock)) return now->offset_ns || now->drift_ppb;
    return now->monotonic && (clock == CLOCK_MONOTONIC || clock == CLOCK_MONOTONIC_COARSE ||
                              clock == CLOCK_MONOTONIC_RAW || clock == CLOCK_BOOTTIME);
}

/* By how much clocks are ahead of the truth now. */
static int64_t ahead_ns(const struct setting *now) {
    struct timespec wall;
    if (!now->drift_ppb || true_time(CLOCK_REALTIME, &wall)) return now->offset_ns;
    return now->offset_ns + (int64_t)((double)(ns(&wall) - now->since_ns) * ((double)now->drift_ppb / 1e9));
}

/* The true moment at which a moved clock will show this one. */
static const struct timespec *true_moment(clockid_t clock, const struct timespec *shown, struct timespec *into) {
    struct setting now = setting();
    struct timespec at;
    if (!shown || !is_moved(&now, clock) || true_time(clock, &at)) return shown;
    int64_t left = ns(shown) - (ns(&at) + ahead_ns(&now));
    put(into, ns(&at) + (int64_t)((double)left / (1.0 + (double)now.drift_ppb / 1e9)));
    if (into->tv_sec < 0) put(into, 0);
    return into;
}

static void *next(const char *name, const char *version) {
    /* Of conditions there is an older kind of the same name, which dlsym may find. */
    void *found = version ? dlvsym(RTLD_NEXT, name, version) : NULL;
    return found ? found : dlsym(RTLD_NEXT, name);
}

__attribute__((constructor)) static void begin(void) {
    next_gettime = (int (*)(clockid_t, struct timespec *))next("clock_gettime", NULL);
    const char *path = getenv("CROUPIER_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *mapped = mmap(NULL, sizeof(struct shared), PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (mapped != MAP_FAILED && !memcmp(mapped, "croupclk", 8)) ours = mapped;
}

int clock_gettime(clockid_t clock, struct timespec *at) {
    int result = true_time(clock, at);
    struct setting now = setting();
    if (!result && is_moved(&now, clock)) put(at, ns(at) + ahead_ns(&now));
    return result;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone) {
    struct timespec now;
    if (zone) memset(zone, 0, sizeof(struct timezone));
    if (clock_gettime(CLOCK_REALTIME, &now)) return -1;
    if (at) {
        at->tv_sec = now.tv_sec;
        at->tv_usec = now.tv_nsec / 1000;
    }
    return 0;
}

time_t time(time_t *into) {
    struct timespec now;
    if (clock_gettime(CLOCK_REALTIME, &now)) return (time_t)-1;
    if (into) *into = now.tv_sec;
    return now.tv_sec;
}

int timespec_get(struct timespec *at, int base) {
    return base == TIME_UTC && !clock_gettime(CLOCK_REALTIME, at) ? base : 0;
}

/* Waits until a moment. */

#define NEXT(name, version, ...)                                                                                       \
    static int (*real)(__VA_ARGS__);                                                                                   \
    if (!real) real = (int (*)(__VA_ARGS__))next(#name, version);                                                      \
    if (!real) return ENOSYS;                                                                                          \
    struct timespec into

int clock_nanosleep(clockid_t clock, int flags, const struct timespec *until, struct timespec *left) {
    NEXT(clock_nanosleep, NULL, clockid_t, int, const struct timespec *, struct timespec *);
    return real(clock, flags, flags & TIMER_ABSTIME ? true_moment(clock, until, &into) : until, left);
}

int sem_timedwait(sem_t *restrict one, const struct timespec *restrict until) {
    NEXT(sem_timedwait, NULL, sem_t *, const struct timespec *);
    return real(one, true_moment(CLOCK_REALTIME, until, &into));
}

int sem_clockwait(sem_t *restrict one, clockid_t clock, const struct timespec *restrict until) {
    NEXT(sem_clockwait, NULL, sem_t *, clockid_t, const struct timespec *);
    return real(one, clock, true_moment(clock, until, &into));
}

int pthread_mutex_timedlock(pthread_mutex_t *restrict one, const struct timespec *restrict until) {
    NEXT(pthread_mutex_timedlock, NULL, pthread_mutex_t *, const struct timespec *);
    return real(one, true_moment(CLOCK_REALTIME, until, &into));
}

int pthread_cond_timedwait(pthread_cond_t *restrict one, pthread_mutex_t *restrict lock,
                           const struct timespec *restrict until) {
    NEXT(pthread_cond_timedwait, "GLIBC_2.3.2", pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
    /* A condition does not say which clock it is about; but no machine has been up for ten years. */
    clockid_t clock = until && until->tv_sec > 315360000 ? CLOCK_REALTIME : CLOCK_MONOTONIC;
    return real(one, lock, true_moment(clock, until, &into));
}

int pthread_cond_clockwait(pthread_cond_t *restrict one, pthread_mutex_t *restrict lock, clockid_t clock,
                           const struct timespec *restrict until) {
    NEXT(pthread_cond_clockwait, NULL, pthread_cond_t *, pthread_mutex_t *, clockid_t, const struct timespec *);
    return real(one, lock, clock, true_moment(clock, until, &into));
}
