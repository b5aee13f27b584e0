/* A disk between a store and the kernel: it remembers what was promised, and it can break.
 *
 * Preloaded into a process, it passes every call on and writes a log of what happens to some files
 * (POWER_CUT_FILES, the ends of their paths, between colons; LMDB's is the first): each write, each
 * sync, and the marks that the process sets. From the log a test builds the files as a power cut
 * would have left them at any moment.
 *
 * A log entry: kind (8 bytes), file (8), offset (8), length (8), then `length` bytes of data.
 *   w  a write, in the page cache only          s  a sync that succeeded
 *   d  a write through O_DSYNC: on the disk     x  a sync that failed
 *   m  a mark
 *
 * power_cut_fail arms a failure of one kind: 'w', 's' or 'd' as above, or 'r', a write of a meta
 * page into the page cache, with which LMDB takes back a failed 'd'. A write fails either at once,
 * or after it has reached the page cache, as it does when the disk refuses it later.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define FILES 4096

static int log_file = -1;
static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;
static const char *targets;
static char watched[FILES]; /* 'w' or 'd': what a write to this descriptor is */
static char which[FILES];   /* to which of the files */

static struct {
    int calls; /* how many calls of that kind fail; below 0: all */
    int error;
    int reaches; /* a failing write reaches the page cache */
} failures[128];

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

__attribute__((constructor)) static void start(void)
{
    targets = getenv("POWER_CUT_FILES");
    log_file = syscall(SYS_openat, AT_FDCWD, getenv("POWER_CUT_LOG"),
                       O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static void put(const void *data, size_t length)
{
    while (length > 0) {
        long done = syscall(SYS_write, log_file, data, length);
        if (done < 0)
            abort();
        data = (const char *)data + done;
        length -= done;
    }
}

static void record(char kind, int file, uint64_t offset, const void *data, uint64_t length)
{
    uint64_t head[4] = {(uint64_t)kind, file, offset, length};
    pthread_mutex_lock(&one_at_a_time);
    put(head, sizeof head);
    put(data, length);
    pthread_mutex_unlock(&one_at_a_time);
}

void power_cut_mark(const char *text) { record('m', 0, 0, text, strlen(text)); }

void power_cut_fail(char kind, int calls, int error, int reaches)
{
    failures[(int)kind].calls = calls;
    failures[(int)kind].error = error;
    failures[(int)kind].reaches = reaches;
}

static int breaks(char kind)
{
    if (failures[(int)kind].calls == 0)
        return 0;
    failures[(int)kind].calls--;
    errno = failures[(int)kind].error;
    return 1;
}

static char kind_of(int file) { return file >= 0 && file < FILES ? watched[file] : 0; }

/* Which of the targets a path ends with; -1: none. */
static int target_of(const char *path)
{
    size_t length = strlen(path);
    int number = 0;
    for (const char *end = targets; *end; number++) {
        size_t size = strcspn(end, ":");
        if (length >= size && memcmp(path + length - size, end, size) == 0)
            return number;
        end += size + (end[size] == ':');
    }
    return -1;
}

static int opened(int file, const char *path, int flags)
{
    if (file >= 0 && file < FILES) {
        int target = target_of(path);
        watched[file] = target < 0 ? 0 : (flags & O_DSYNC) ? 'd' : 'w';
        which[file] = target;
    }
    return file;
}

#define MODE_IF_ANY(mode)                                 \
    mode_t mode = 0;                                      \
    if (flags & O_CREAT) {                                \
        va_list more;                                     \
        va_start(more, flags);                            \
        mode = va_arg(more, mode_t);                      \
        va_end(more);                                     \
    }

int open(const char *path, int flags, ...)
{
    MODE_IF_ANY(mode)
    return opened(NEXT(open)(path, flags, mode), path, flags);
}

int open64(const char *path, int flags, ...)
{
    MODE_IF_ANY(mode)
    return opened(NEXT(open64)(path, flags, mode), path, flags);
}

int close(int file)
{
    if (kind_of(file))
        watched[file] = 0;
    return NEXT(close)(file);
}

static ssize_t write_at(int file, const struct iovec *parts, int count, off_t offset)
{
    ssize_t (*really)(int, const struct iovec *, int, off_t) = NEXT(pwritev);
    char kind = kind_of(file);
    if (!kind)
        return really(file, parts, count, offset);
    char fault = kind == 'w' && which[file] == 0 && offset < 2 * sysconf(_SC_PAGESIZE) ? 'r' : kind;
    int broken = breaks(fault);
    if (broken && !failures[(int)fault].reaches)
        return -1;
    ssize_t done = really(file, parts, count, offset), left = done;
    for (int i = 0; left > 0; i++) {
        ssize_t length = left < (ssize_t)parts[i].iov_len ? left : (ssize_t)parts[i].iov_len;
        record(broken ? 'w' : kind, which[file], offset, parts[i].iov_base, length);
        offset += length;
        left -= length;
    }
    if (broken) {
        errno = failures[(int)fault].error;
        return -1;
    }
    return done;
}

ssize_t pwrite(int file, const void *data, size_t length, off_t offset)
{
    struct iovec part = {(void *)data, length};
    return kind_of(file) ? write_at(file, &part, 1, offset)
                         : NEXT(pwrite)(file, data, length, offset);
}

ssize_t pwrite64(int file, const void *data, size_t length, off_t offset)
{
    return pwrite(file, data, length, offset);
}

ssize_t writev(int file, const struct iovec *parts, int count)
{
    if (!kind_of(file))
        return NEXT(writev)(file, parts, count);
    off_t offset = lseek(file, 0, SEEK_CUR);
    ssize_t done = write_at(file, parts, count, offset);
    if (done > 0)
        lseek(file, offset + done, SEEK_SET);
    return done;
}

static int synced(int file, int (*really)(int))
{
    if (!kind_of(file))
        return really(file);
    if (breaks('s')) {
        record('x', which[file], 0, "", 0);
        errno = failures['s'].error;
        return -1;
    }
    int result = really(file);
    record(result == 0 ? 's' : 'x', which[file], 0, "", 0);
    return result;
}

int fdatasync(int file) { return synced(file, NEXT(fdatasync)); }

int fsync(int file) { return synced(file, NEXT(fsync)); }
