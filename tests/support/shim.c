/* Counts and logs what a process does to files below one folder, and kills it at the n-th such call.
 *
 * For LD_PRELOAD. COCO_DIY_SHIM names a file of `struct control`, which is read anew at every call and shared by
 * children. A line of the log is a letter, a tab and a path (of a rename two): W opened for writing, R renamed,
 * U unlinked, M folder made, D folder removed, L linked, F synced, S its file system synced. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

struct control { long count, kill_at, fail_errno; char fail_name[256], prefix[1024], log[1024]; };
static struct control *control;

#define REAL(name) static __typeof__(name) *real; if (!real) real = dlsym(RTLD_NEXT, #name)

__attribute__((constructor)) static void open_control(void) {
    const char *path = getenv("COCO_DIY_SHIM");
    int fd = path ? syscall(SYS_openat, AT_FDCWD, path, O_RDWR) : -1;
    if (fd < 0) return;
    void *at = mmap(0, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    syscall(SYS_close, fd);
    if (at != MAP_FAILED) control = at;
}

static void full_path(int folder, const char *path, char *out) {
    char link[64], base[PATH_MAX];
    if (path && path[0] == '/') { snprintf(out, PATH_MAX, "%s", path); return; }
    if (folder == AT_FDCWD) snprintf(link, sizeof link, "/proc/self/cwd");
    else snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
    ssize_t n = syscall(SYS_readlinkat, AT_FDCWD, link, base, sizeof base - 1);
    base[n < 0 ? 0 : n] = 0;
    snprintf(out, PATH_MAX, path && *path ? "%s/%s" : "%s", base, path);
}

/* Whether the call is to fail; errno is set. */
static int seen(char what, const char *from, const char *path) {
    size_t n = strlen(control->prefix);
    if (!n || strncmp(path, control->prefix, n)) return 0;
    if (__sync_add_and_fetch(&control->count, 1) == control->kill_at) {
        kill(getpid(), SIGKILL);
        for (;;) pause();
    }
    if (control->log[0]) {
        char line[2 * PATH_MAX + 8];
        int length = snprintf(line, sizeof line, from ? "%c\t%s\t%s\n" : "%c\t%s%s\n", what, from ? from : "", path);
        int fd = syscall(SYS_openat, AT_FDCWD, control->log, O_WRONLY | O_CREAT | O_APPEND, 0644);
        if (syscall(SYS_write, fd, line, length) < 0) abort();
        syscall(SYS_close, fd);
    }
    if (what == 'U' && control->fail_errno) {
        const char *name = strrchr(path, '/');
        if (name && !strcmp(name + 1, control->fail_name)) { errno = control->fail_errno; return 1; }
    }
    return 0;
}

#define AT(folder, path, what) char full[PATH_MAX]; \
    if (control) { full_path(folder, path, full); if (seen(what, 0, full)) return -1; }
#define OPENED(folder, call) mode_t mode = 0; \
    if (flags & (O_CREAT | O_TMPFILE)) { va_list more; va_start(more, flags); mode = va_arg(more, mode_t); va_end(more); } \
    if (flags & (O_CREAT | O_WRONLY | O_RDWR | O_TRUNC)) { AT(folder, path, 'W') return call; } return call

int open(const char *path, int flags, ...) { REAL(open); OPENED(AT_FDCWD, real(path, flags, mode)); }
int open64(const char *path, int flags, ...) { REAL(open64); OPENED(AT_FDCWD, real(path, flags, mode)); }
int openat(int d, const char *path, int flags, ...) { REAL(openat); OPENED(d, real(d, path, flags, mode)); }
int openat64(int d, const char *path, int flags, ...) { REAL(openat64); OPENED(d, real(d, path, flags, mode)); }

#define MOVED(d, a, e, b) char from[PATH_MAX], to[PATH_MAX]; \
    if (control) { full_path(d, a, from); full_path(e, b, to); if (seen('R', from, to)) return -1; }
int rename(const char *a, const char *b) { REAL(rename); MOVED(AT_FDCWD, a, AT_FDCWD, b) return real(a, b); }
int renameat(int d, const char *a, int e, const char *b) { REAL(renameat); MOVED(d, a, e, b) return real(d, a, e, b); }

int unlink(const char *p) { REAL(unlink); AT(AT_FDCWD, p, 'U') return real(p); }
int unlinkat(int d, const char *p, int f) { REAL(unlinkat); AT(d, p, f & AT_REMOVEDIR ? 'D' : 'U') return real(d, p, f); }
int rmdir(const char *p) { REAL(rmdir); AT(AT_FDCWD, p, 'D') return real(p); }
int mkdir(const char *p, mode_t m) { REAL(mkdir); AT(AT_FDCWD, p, 'M') return real(p, m); }
int mkdirat(int d, const char *p, mode_t m) { REAL(mkdirat); AT(d, p, 'M') return real(d, p, m); }
int link(const char *a, const char *p) { REAL(link); AT(AT_FDCWD, p, 'L') return real(a, p); }
int linkat(int d, const char *a, int e, const char *p, int f) { REAL(linkat); AT(e, p, 'L') return real(d, a, e, p, f); }
int symlinkat(const char *a, int d, const char *p) { REAL(symlinkat); AT(d, p, 'L') return real(a, d, p); }
int fsync(int fd) { REAL(fsync); AT(fd, 0, 'F') return real(fd); }
int fdatasync(int fd) { REAL(fdatasync); AT(fd, 0, 'F') return real(fd); }
int syncfs(int fd) { REAL(syncfs); AT(fd, 0, 'S') return real(fd); }
