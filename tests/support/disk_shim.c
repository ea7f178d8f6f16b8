/* Stands between a process and its disk (LD_PRELOAD). Writes down every change of the files in one folder
 * and every sync, so that the state "only what was synced" can be rebuilt for any moment; or lets writes
 * fail from some moment on.
 *
 * DISK_FOLDER         the folder, an absolute path without links
 * DISK_LOG            file that takes the records, see `struct record`
 * DISK_FAIL_BYTES     writes to files there fail once so many bytes were written
 * DISK_FAIL_SYNCS     syncs there fail after so many
 * DISK_FAIL_ERRNO     and so they fail
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* Followed by the path and the data; in Python's words "=c3xidQQII". */
struct __attribute__((packed)) record {
  char what;             /* C create, W write, T truncate, U unlink, R rename, B sync begins, E sync ends */
  char padding[3];
  int32_t thread;
  double at_s;           /* CLOCK_MONOTONIC */
  uint64_t inode;        /* of the file, or of the folder itself */
  uint64_t offset;       /* of a write; the size for a truncation */
  uint32_t path_length;  /* W and T have none */
  uint32_t data_length;  /* the second path of a rename; the bytes of a write */
};

static char folder[PATH_MAX];
static size_t folder_length;
static int log_descriptor = -1;
static long long fail_after = -1, written, syncs_fail_after = -1, synced;
static int fail_errno = EIO;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

__attribute__((constructor)) static void begin(void) {
  const char *where = getenv("DISK_FOLDER"), *log = getenv("DISK_LOG"), *bytes = getenv("DISK_FAIL_BYTES");
  const char *syncs = getenv("DISK_FAIL_SYNCS"), *number = getenv("DISK_FAIL_ERRNO");
  if (where == NULL) return;
  strncpy(folder, where, sizeof folder - 1);
  folder_length = strlen(folder);
  if (log != NULL) log_descriptor = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (bytes != NULL) fail_after = atoll(bytes);
  if (syncs != NULL) syncs_fail_after = atoll(syncs);
  if (number != NULL) fail_errno = atoi(number);
}

static int is_inside(const char *path) {
  return folder_length && strncmp(path, folder, folder_length) == 0
      && (path[folder_length] == '/' || path[folder_length] == 0);
}

/* The path behind a descriptor, if it is in the folder. */
static int path_of(int descriptor, char *path) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
  ssize_t length = folder_length ? readlink(link, path, PATH_MAX - 1) : -1;
  if (length < 0) return 0;
  path[length] = 0;
  return is_inside(path);
}

static int absolute(const char *name, char *path) {
  if (name[0] == '/') {
    strncpy(path, name, PATH_MAX - 1);
  } else {
    char here[PATH_MAX];
    if (getcwd(here, sizeof here) == NULL) return 0;
    if (strncmp(name, "./", 2) == 0) name += 2;
    if (snprintf(path, PATH_MAX, "%s/%s", here, name) >= PATH_MAX) return 0;
  }
  return is_inside(path);
}

static void note(char what, uint64_t inode, uint64_t offset, const char *path, const void *data, size_t length) {
  if (log_descriptor < 0) return;
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  struct record record = {what, {0}, (int32_t)syscall(SYS_gettid), now.tv_sec + now.tv_nsec * 1e-9, inode,
                          offset, path ? strlen(path) : 0, length};
  struct iovec parts[3] = {{&record, sizeof record}, {(void *)path, record.path_length}, {(void *)data, length}};
  syscall(SYS_writev, log_descriptor, parts, 3);
}

static uint64_t inode_of(int descriptor) {
  struct stat found;
  return fstat(descriptor, &found) == 0 ? found.st_ino : 0;
}

static int fails(int descriptor, size_t size) {
  char path[PATH_MAX];
  if (fail_after < 0 || !path_of(descriptor, path) || strstr(path, "-shm") || strstr(path, "-lock")) return 0;
  written += size;
  return written > fail_after;
}

#define OPENED(call)                                                       \
  char path[PATH_MAX];                                                     \
  struct stat found;                                                       \
  mode_t mode = 0;                                                         \
  if (flags & O_CREAT) { va_list more; va_start(more, flags); mode = va_arg(more, int); va_end(more); } \
  int watched = (flags & (O_CREAT | O_TRUNC)) && absolute(name, path);     \
  if (!watched) return call;                                               \
  pthread_mutex_lock(&lock);                                               \
  int is_new = lstat(path, &found) != 0;                                   \
  int descriptor = call;                                                   \
  if (descriptor >= 0 && is_new) note('C', inode_of(descriptor), 0, path, NULL, 0); \
  else if (descriptor >= 0 && (flags & O_TRUNC)) note('T', inode_of(descriptor), 0, NULL, NULL, 0); \
  int kept = errno;                                                        \
  pthread_mutex_unlock(&lock);                                             \
  errno = kept;                                                            \
  return descriptor;

int open(const char *name, int flags, ...) { OPENED(REAL(open)(name, flags, mode)) }
int open64(const char *name, int flags, ...) { OPENED(REAL(open64)(name, flags, mode)) }

#define WRITTEN(call, where)                                               \
  char path[PATH_MAX];                                                     \
  if (!path_of(descriptor, path)) return call;                             \
  if (fails(descriptor, size)) { errno = fail_errno; return -1; }          \
  pthread_mutex_lock(&lock);                                               \
  ssize_t done = call;                                                     \
  if (done > 0) note('W', inode_of(descriptor), where, NULL, data, done);  \
  int kept = errno;                                                        \
  pthread_mutex_unlock(&lock);                                             \
  errno = kept;                                                            \
  return done;

ssize_t pwrite64(int descriptor, const void *data, size_t size, off64_t offset) {
  WRITTEN(REAL(pwrite64)(descriptor, data, size, offset), offset)
}
ssize_t pwrite(int descriptor, const void *data, size_t size, off_t offset) {
  WRITTEN(REAL(pwrite)(descriptor, data, size, offset), offset)
}
ssize_t write(int descriptor, const void *data, size_t size) {
  WRITTEN(REAL(write)(descriptor, data, size), lseek(descriptor, 0, SEEK_CUR) - done)
}

#define TRUNCATED(call)                                                    \
  char path[PATH_MAX];                                                     \
  if (!path_of(descriptor, path)) return call;                             \
  pthread_mutex_lock(&lock);                                               \
  int done = call;                                                         \
  if (done == 0) note('T', inode_of(descriptor), size, NULL, NULL, 0);     \
  pthread_mutex_unlock(&lock);                                             \
  return done;

int ftruncate64(int descriptor, off64_t size) { TRUNCATED(REAL(ftruncate64)(descriptor, size)) }
int ftruncate(int descriptor, off_t size) { TRUNCATED(REAL(ftruncate)(descriptor, size)) }

#define SYNCED(call)                                                       \
  char path[PATH_MAX];                                                     \
  if (!path_of(descriptor, path)) return call;                             \
  if (syncs_fail_after >= 0 && ++synced > syncs_fail_after) { errno = fail_errno; return -1; } \
  uint64_t inode = inode_of(descriptor);                                   \
  pthread_mutex_lock(&lock);                                               \
  note('B', inode, 0, path, NULL, 0);                                      \
  pthread_mutex_unlock(&lock);                                             \
  int done = call;                                                         \
  pthread_mutex_lock(&lock);                                               \
  if (done == 0) note('E', inode, 0, path, NULL, 0);                       \
  pthread_mutex_unlock(&lock);                                             \
  return done;

int fsync(int descriptor) { SYNCED(REAL(fsync)(descriptor)) }
int fdatasync(int descriptor) { SYNCED(REAL(fdatasync)(descriptor)) }

int unlink(const char *name) {
  char path[PATH_MAX];
  if (!absolute(name, path)) return REAL(unlink)(name);
  pthread_mutex_lock(&lock);
  int done = REAL(unlink)(name), kept = errno;
  if (done == 0) note('U', 0, 0, path, NULL, 0);
  pthread_mutex_unlock(&lock);
  errno = kept;
  return done;
}

int rename(const char *from, const char *to) {
  char path[PATH_MAX], target[PATH_MAX];
  if (!absolute(from, path) || !absolute(to, target)) return REAL(rename)(from, to);
  pthread_mutex_lock(&lock);
  int done = REAL(rename)(from, to);
  if (done == 0) note('R', 0, 0, path, target, strlen(target));
  pthread_mutex_unlock(&lock);
  return done;
}

/* `kbetl` renames by it to a name that must be free. An exchange is not simulated: the caller is told that this
 * file system has none. */
int renameat2(int from_folder, const char *from, int to_folder, const char *to, unsigned int flags) {
  char path[PATH_MAX], target[PATH_MAX];
  if (from_folder != AT_FDCWD || to_folder != AT_FDCWD || !absolute(from, path) || !absolute(to, target))
    return syscall(SYS_renameat2, from_folder, from, to_folder, to, flags);
  if (flags & RENAME_EXCHANGE) {
    errno = EINVAL;
    return -1;
  }
  pthread_mutex_lock(&lock);
  int done = syscall(SYS_renameat2, from_folder, from, to_folder, to, flags);
  if (done == 0) note('R', 0, 0, path, target, strlen(target));
  pthread_mutex_unlock(&lock);
  return done;
}
