/* A disk that fails: preloaded, it makes calls on chosen files fail, and counts them.
 *
 * At the start of a process, from its environment; later by `fault_set` (from Python: ctypes).
 *   FAULT_PATH   text that a file's path contains, or several, parted by '|'
 *   FAULT_CALL   "write" (write, pwrite, writev, ftruncate, creating open, mkdir, rename),
 *                "sync" (fsync, fdatasync, syncfs) or "any"
 *   FAULT_ERRNO  the number that the calls fail with, such as 28 (ENOSPC) or 5 (EIO)
 *   FAULT_AFTER  so many matching calls succeed before the first one fails
 *   FAULT_TIMES  so many fail then, and later ones succeed; 0: all of them fail
 *   FAULT_WHILE  a file: nothing fails while it is not there
 *   FAULT_LOG    a file that gets a line "call path" for each call that was made to fail
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { WRITE = 1, SYNC = 2 };

static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
static char path_text[PATH_MAX], while_path[PATH_MAX], log_path[PATH_MAX];
static int calls, number;
static long after, times, matched, failed;

#define REAL(name) \
    static __typeof__(name) *real; \
    if (!real) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

static void copy(char *to, const char *from) {
    snprintf(to, PATH_MAX, "%s", from ? from : "");
}

void fault_set(const char *path, const char *call, int errno_, long after_, long times_,
               const char *while_, const char *log) {
    pthread_mutex_lock(&turn);
    copy(path_text, path);
    copy(while_path, while_);
    copy(log_path, log);
    calls = !strcmp(call, "write") ? WRITE : !strcmp(call, "sync") ? SYNC : WRITE | SYNC;
    number = errno_;
    after = after_;
    times = times_;
    matched = failed = 0;
    pthread_mutex_unlock(&turn);
}

long fault_matched(void) { return matched; }

static long number_of(const char *name) {
    const char *text = getenv(name);
    return text ? atol(text) : 0;
}

__attribute__((constructor)) static void from_environment(void) {
    const char *path = getenv("FAULT_PATH"), *call = getenv("FAULT_CALL");
    if (path && *path)
        fault_set(path, call ? call : "any", (int)number_of("FAULT_ERRNO"),
                  number_of("FAULT_AFTER"), number_of("FAULT_TIMES"), getenv("FAULT_WHILE"),
                  getenv("FAULT_LOG"));
}

static int is_chosen(const char *path) {
    char texts[PATH_MAX], *rest = texts, *text;
    copy(texts, path_text);
    while ((text = strsep(&rest, "|")))
        if (*text && strstr(path, text)) return 1;
    return 0;
}

static void note(const char *call, const char *path) {
    char line[PATH_MAX + 32];
    int length = snprintf(line, sizeof line, "%s %s\n", call, path);
    long file = syscall(SYS_openat, AT_FDCWD, log_path, O_WRONLY | O_CREAT | O_APPEND, 0644);
    if (file < 0) return;
    syscall(SYS_write, file, line, length);
    syscall(SYS_close, file);
}

/* Whether this call fails; if so, errno is set. */
static int fails(int kind, const char *call, const char *path) {
    int result = 0;
    if (!(calls & kind) || !is_chosen(path)) return 0;
    if (*while_path && syscall(SYS_faccessat, AT_FDCWD, while_path, F_OK) != 0) return 0;
    pthread_mutex_lock(&turn);
    if (matched++ >= after && number && (!times || failed < times)) {
        failed++;
        result = 1;
        if (*log_path) note(call, path);
    }
    pthread_mutex_unlock(&turn);
    if (result) errno = number;
    return result;
}

static int fails_at(int kind, const char *call, int file) {
    char link[64], path[PATH_MAX];
    ssize_t length;
    int kept = errno;
    if (!*path_text) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    length = syscall(SYS_readlinkat, AT_FDCWD, link, path, sizeof path - 1);
    errno = kept;
    if (length <= 0) return 0;
    path[length] = 0;
    return fails(kind, call, path);
}

static int fails_to_create(const char *call, const char *path, int flags) {
    return (flags & O_CREAT) && *path_text && syscall(SYS_faccessat, AT_FDCWD, path, F_OK) != 0 &&
           fails(WRITE, call, path);
}

#define ON_FILE(result, kind, name, parameters, arguments) \
    result name parameters { \
        REAL(name); \
        return fails_at(kind, #name, file) ? (result)-1 : real arguments; \
    }

ON_FILE(ssize_t, WRITE, write, (int file, const void *data, size_t size), (file, data, size))
ON_FILE(ssize_t, WRITE, pwrite, (int file, const void *data, size_t size, off_t at),
        (file, data, size, at))
ON_FILE(ssize_t, WRITE, pwrite64, (int file, const void *data, size_t size, off64_t at),
        (file, data, size, at))
ON_FILE(ssize_t, WRITE, writev, (int file, const struct iovec *parts, int count),
        (file, parts, count))
ON_FILE(int, WRITE, ftruncate, (int file, off_t size), (file, size))
ON_FILE(int, WRITE, ftruncate64, (int file, off64_t size), (file, size))
ON_FILE(int, WRITE, posix_fallocate, (int file, off_t at, off_t size), (file, at, size))
ON_FILE(int, SYNC, fsync, (int file), (file))
ON_FILE(int, SYNC, fdatasync, (int file), (file))
ON_FILE(int, SYNC, syncfs, (int file), (file))

#define OPENS(name, parameters, before, path, flags) \
    int name parameters { \
        mode_t mode = 0; \
        va_list rest; \
        REAL(name); \
        if (flags & (O_CREAT | __O_TMPFILE)) { \
            va_start(rest, flags); \
            mode = va_arg(rest, mode_t); \
            va_end(rest); \
        } \
        return fails_to_create(#name, path, flags) ? -1 : real(before path, flags, mode); \
    }
#define COMMA ,
#define NOTHING

OPENS(open, (const char *path, int flags, ...), NOTHING, path, flags)
OPENS(open64, (const char *path, int flags, ...), NOTHING, path, flags)
OPENS(openat, (int folder, const char *path, int flags, ...), folder COMMA, path, flags)
OPENS(openat64, (int folder, const char *path, int flags, ...), folder COMMA, path, flags)

int mkdir(const char *path, mode_t mode) {
    REAL(mkdir);
    return *path_text && fails(WRITE, "mkdir", path) ? -1 : real(path, mode);
}

int rename(const char *from, const char *to) {
    REAL(rename);
    return *path_text && fails(WRITE, "rename", to) ? -1 : real(from, to);
}
