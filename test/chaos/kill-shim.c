/*
 * Loaded into every process of a node (LD_PRELOAD). Kills the process in which a named operation on a file of the node's
 * data directory is reached, before or after it is done, or with a write half done: what a power cut leaves, as far as a
 * process can tell. The rule is one line in the file `kill-at` beside the data directory:
 *
 *   WHEN OPERATION COUNT      WHEN: before, after, half (of a pwrite)
 *
 * and names the COUNTth such operation from when the rule was first seen; the file is removed then. Nothing happens
 * without it.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DATA "/data"

static atomic_int seen;
static _Atomic ino_t seen_rule;

/* The path of `kill-at` for a file below a data directory; 0: it is below none. */
static int rule_path(const char *file, char *rule, size_t size) {
  const char *data = strstr(file, DATA "/");
  if (data == NULL) {
    size_t length = strlen(file);
    size_t suffix = strlen(DATA);
    if (length < suffix || strcmp(file + length - suffix, DATA) != 0) return 0;
    data = file + length - suffix;
  }
  int written = snprintf(rule, size, "%.*s/kill-at", (int)(data - file), file);
  return written > 0 && (size_t)written < size;
}

/* 'b', 'a' or 'h' when it is the operation's turn to end the process then. */
static char turn(const char *file, const char *operation) {
  char path[PATH_MAX];
  if (!rule_path(file, path, sizeof path)) return 0;
  int fd = openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 0;
  struct stat info;
  char text[128];
  ssize_t length = read(fd, text, sizeof text - 1);
  int failed = fstat(fd, &info);
  close(fd);
  if (failed != 0 || length <= 0) return 0;
  text[length] = 0;
  char when[16], name[32];
  int count;
  if (sscanf(text, "%15s %31s %d", when, name, &count) != 3 || strcmp(name, operation) != 0) return 0;
  /* A rule comes by rename: a new file is a new rule. */
  if (atomic_exchange(&seen_rule, info.st_ino) != info.st_ino) atomic_store(&seen, 0);
  if (atomic_fetch_add(&seen, 1) + 1 != count) return 0;
  /* Once: whoever replaces this process lives. */
  unlinkat(AT_FDCWD, path, 0);
  return when[0];
}

static char turn_fd(int fd, const char *operation) {
  char link[64], path[PATH_MAX];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length <= 0) return 0;
  path[length] = 0;
  return turn(path, operation);
}

static void die(void) {
  kill(getpid(), SIGKILL);
  for (;;) pause();
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

#define AROUND(when, type, call)    \
  char when_ = (when);              \
  if (when_ == 'b') die();          \
  type result_ = (call);            \
  if (when_ == 'a') die();          \
  return result_

static ssize_t write_at(__typeof__(&pwrite64) real, int fd, const void *bytes, size_t size, off64_t at) {
  char when = turn_fd(fd, "pwrite");
  if (when == 'b') die();
  if (when == 'h') {
    real(fd, bytes, size / 2, at);
    die();
  }
  ssize_t written = real(fd, bytes, size, at);
  if (when == 'a') die();
  return written;
}

ssize_t pwrite(int fd, const void *bytes, size_t size, off_t at) {
  return write_at(REAL(pwrite64), fd, bytes, size, at);
}
ssize_t pwrite64(int fd, const void *bytes, size_t size, off64_t at) {
  return write_at(REAL(pwrite64), fd, bytes, size, at);
}
int fdatasync(int fd) { AROUND(turn_fd(fd, "fdatasync"), int, REAL(fdatasync)(fd)); }
int fsync(int fd) { AROUND(turn_fd(fd, "fsync"), int, REAL(fsync)(fd)); }
int ftruncate64(int fd, off64_t size) { AROUND(turn_fd(fd, "ftruncate"), int, REAL(ftruncate64)(fd, size)); }
int ftruncate(int fd, off_t size) { AROUND(turn_fd(fd, "ftruncate"), int, REAL(ftruncate)(fd, size)); }
int rename(const char *from, const char *to) { AROUND(turn(to, "rename"), int, REAL(rename)(from, to)); }
int unlink(const char *path) { AROUND(turn(path, "unlink"), int, REAL(unlink)(path)); }

/* Only what creates is a step: `mode` is there only then. */
static int create(__typeof__(&open64) real, const char *path, int flags, mode_t mode) {
  AROUND((flags & O_CREAT) != 0 ? turn(path, "create") : 0, int, real(path, flags, mode));
}
#define MODE(mode, flags)             \
  mode_t mode = 0;                    \
  if (((flags) & O_CREAT) != 0) {     \
    va_list rest;                     \
    va_start(rest, flags);            \
    mode = va_arg(rest, mode_t);      \
    va_end(rest);                     \
  }
int open(const char *path, int flags, ...) {
  MODE(mode, flags)
  return create(REAL(open64), path, flags, mode);
}
int open64(const char *path, int flags, ...) {
  MODE(mode, flags)
  return create(REAL(open64), path, flags, mode);
}
