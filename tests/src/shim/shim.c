/* Faults between a program and its operating system, for tests: loaded with LD_PRELOAD, steered through one shared page.
 *
 * - The time of day is off by what the page says. Monotonic clocks are untouched.
 * - A flush (fsync, fdatasync) or a write (pwrite) of a file whose path holds the pattern fails, as often as the page says.
 *   A failed flush either was carried out all the same, or loses what was written since it was armed: the old bytes
 *   come back, as if the kernel had dropped the dirty pages.
 *
 * The layout of the page is in shim.rs. A process without a page is left alone.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

struct page {
    _Atomic int64_t clock_offset_ns;
    _Atomic int64_t flush_mode; /* 0 none, 1 carried out and reported as failed, 2 failed and lost */
    _Atomic int64_t flushes_left;
    _Atomic int64_t write_errno; /* 0 none */
    _Atomic int64_t writes_left;
    _Atomic int64_t flush_hits;
    _Atomic int64_t write_hits;
    _Atomic int64_t reserved;
    char pattern[128];
};

static struct page *page;
static int (*real_clock_gettime)(clockid_t, struct timespec *);
static int (*real_fsync)(int);
static int (*real_fdatasync)(int);
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);

__attribute__((constructor)) static void attach(void) {
    real_clock_gettime = dlsym(RTLD_NEXT, "clock_gettime");
    real_fsync = dlsym(RTLD_NEXT, "fsync");
    real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
    real_pwrite = dlsym(RTLD_NEXT, "pwrite64");
    const char *path = getenv("FAULT_SHIM_PAGE");
    if (path == NULL) return;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        fprintf(stderr, "fault shim: cannot open %s\n", path);
        abort();
    }
    void *mapped = mmap(NULL, sizeof(struct page), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (mapped == MAP_FAILED) abort();
    page = mapped;
}

/* Time of day */

int clock_gettime(clockid_t clock, struct timespec *ts) {
    int result = real_clock_gettime(clock, ts);
    if (result == 0 && page != NULL && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        int64_t now = (int64_t)ts->tv_sec * 1000000000 + ts->tv_nsec + atomic_load(&page->clock_offset_ns);
        if (now < 0) now = 0;
        ts->tv_sec = now / 1000000000;
        ts->tv_nsec = now % 1000000000;
    }
    return result;
}

int gettimeofday(struct timeval *tv, void *zone) {
    (void)zone;
    struct timespec ts;
    int result = clock_gettime(CLOCK_REALTIME, &ts);
    if (result == 0) {
        tv->tv_sec = ts.tv_sec;
        tv->tv_usec = ts.tv_nsec / 1000;
    }
    return result;
}

time_t time(time_t *out) {
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    if (out != NULL) *out = ts.tv_sec;
    return ts.tv_sec;
}

/* Files */

static int concerns(int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    return strstr(path, page->pattern) != NULL;
}

/* Takes one of `left`; whether there was one. */
static int take(_Atomic int64_t *left) {
    int64_t seen = atomic_load(left);
    while (seen > 0)
        if (atomic_compare_exchange_weak(left, &seen, seen - 1)) return 1;
    return 0;
}

struct old {
    struct old *before;
    int fd;
    off_t offset, size_before;
    size_t length;
    char bytes[];
};

static struct old *olds;
static pthread_mutex_t olds_lock = PTHREAD_MUTEX_INITIALIZER;

/* Remembers what a write is about to replace. */
static void remember(int fd, size_t length, off_t offset) {
    struct stat status;
    if (fstat(fd, &status) != 0) return;
    struct old *old = malloc(sizeof *old + length);
    if (old == NULL) return;
    ssize_t got = pread(fd, old->bytes, length, offset);
    old->fd = fd;
    old->offset = offset;
    old->size_before = status.st_size;
    old->length = got < 0 ? 0 : (size_t)got;
    pthread_mutex_lock(&olds_lock);
    old->before = olds;
    olds = old;
    pthread_mutex_unlock(&olds_lock);
}

/* Puts everything remembered back, the latest first. */
static void lose(void) {
    pthread_mutex_lock(&olds_lock);
    while (olds != NULL) {
        struct old *old = olds;
        olds = old->before;
        struct stat status;
        if (fstat(old->fd, &status) == 0) {
            if (real_pwrite(old->fd, old->bytes, old->length, old->offset) < 0) abort();
            if (status.st_size > old->size_before && ftruncate(old->fd, old->size_before) != 0) abort();
        }
        free(old);
    }
    pthread_mutex_unlock(&olds_lock);
}

static void forget(void) {
    pthread_mutex_lock(&olds_lock);
    while (olds != NULL) {
        struct old *old = olds;
        olds = old->before;
        free(old);
    }
    pthread_mutex_unlock(&olds_lock);
}

static int flush(int fd, int (*real)(int)) {
    if (page == NULL) return real(fd);
    int64_t mode = atomic_load(&page->flush_mode);
    if (mode == 0 || atomic_load(&page->flushes_left) <= 0 || !concerns(fd) || !take(&page->flushes_left)) {
        /* A fault that was taken away unmet: what is flushed now is no longer lost by the next one. */
        if (mode == 0) forget();
        return real(fd);
    }
    if (mode == 1) {
        if (real(fd) != 0) return -1;
    } else {
        lose();
    }
    atomic_fetch_add(&page->flush_hits, 1);
    errno = EIO;
    return -1;
}

int fsync(int fd) { return flush(fd, real_fsync); }
int fdatasync(int fd) { return flush(fd, real_fdatasync); }

static ssize_t overwrite(int fd, const void *bytes, size_t length, off_t offset) {
    if (page != NULL) {
        int64_t error = atomic_load(&page->write_errno);
        if (error != 0 && atomic_load(&page->writes_left) > 0 && concerns(fd) && take(&page->writes_left)) {
            atomic_fetch_add(&page->write_hits, 1);
            errno = (int)error;
            return -1;
        }
        if (atomic_load(&page->flush_mode) == 2 && atomic_load(&page->flushes_left) > 0 && concerns(fd))
            remember(fd, length, offset);
    }
    return real_pwrite(fd, bytes, length, offset);
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t offset) { return overwrite(fd, bytes, length, offset); }
ssize_t pwrite64(int fd, const void *bytes, size_t length, off_t offset) { return overwrite(fd, bytes, length, offset); }
