/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sys.h - system calls without the cancellation points of libc.
 *
 * A thread that is cancelled ends inside open, read, poll and others of libc. malloc and the other
 * functions of the library are no cancellation points: what such a thread holds would never be
 * released. So the library calls none of these functions (t/meta/cancellation.sh), but the ones
 * below, which have the same arguments, results and errno. Allocates nothing; no lock.
 *
 * Some call functions that POSIX leaves to programs (getauxval): the program may have one of its
 * own. t/meta/imports.sh has the list of what the library takes from others.
 *
 * If an architecture lacks a system call (arm64 has no poll), its successor is used. If it has
 * both, the one that libc uses: seccomp filters allow it.
 */
#ifndef SLUICE_SYS_H
#define SLUICE_SYS_H

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

/* syscall(2): n, up to six arguments. Returns the result, or -1 with errno. No cancellation point.
 * The library's own (syscall.c). */
long sluice_syscall(long n, ...) __attribute__((visibility("hidden")));

/*
 * The following are no cancellation points. They are here because other libraries (tracers,
 * fakeroot) interpose functions of these names, which may call malloc, and we are in malloc.
 */
static inline void *sys_mmap(void *at, size_t len, int prot, int flags)
{
#ifdef __SANITIZE_THREAD__ /* it learns of mappings by intercepting libc's functions */
	return mmap(at, len, prot, flags, -1, 0);
#else
	return (void *)sluice_syscall(SYS_mmap, at, len, prot, flags, -1, 0L);
#endif
}

static inline int sys_munmap(void *at, size_t len)
{
#ifdef __SANITIZE_THREAD__
	return munmap(at, len);
#else
	return (int)sluice_syscall(SYS_munmap, at, len);
#endif
}

static inline int sys_mprotect(void *at, size_t len, int prot)
{
	return (int)sluice_syscall(SYS_mprotect, at, len, prot);
}

static inline int sys_madvise(void *at, size_t len, int advice)
{
	return (int)sluice_syscall(SYS_madvise, at, len, advice);
}

static inline int sys_mincore(const void *at, size_t len, unsigned char *backed)
{
	return (int)sluice_syscall(SYS_mincore, at, len, backed);
}

static inline void *sys_mremap(void *at, size_t old_len, size_t len, int flags, void *to)
{
	return (void *)sluice_syscall(SYS_mremap, at, old_len, len, flags, to);
}

/* These two fail in a sandbox only: -1. They leave errno alone, because malloc calls them. */
static inline pid_t sys_getpid(void)
{
	int saved = errno;
	pid_t pid = (pid_t)sluice_syscall(SYS_getpid);

	errno = saved;
	return pid;
}

static inline pid_t sys_gettid(void)
{
	int saved = errno;
	pid_t tid = (pid_t)sluice_syscall(SYS_gettid);

	errno = saved;
	return tid;
}

static inline int sys_getrlimit(int resource, struct rlimit *limit)
{
	return (int)sluice_syscall(SYS_prlimit64, 0, resource, NULL, limit);
}

static inline int sys_fstatat(int dir, const char *path, struct stat *st, int flags)
{
	return (int)sluice_syscall(SYS_newfstatat, dir, path, st, flags);
}

static inline int sys_fstat(int fd, struct stat *st)
{
	return sys_fstatat(fd, "", st, AT_EMPTY_PATH);
}

/* mode: used with O_CREAT only. */
static inline int sys_open(const char *path, int flags, mode_t mode)
{
	return (int)sluice_syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

static inline int sys_openat(int dir, const char *path, int flags)
{
	return (int)sluice_syscall(SYS_openat, dir, path, flags, 0);
}

static inline ssize_t sys_pread(int fd, void *buf, size_t len, off_t at)
{
	return sluice_syscall(SYS_pread64, fd, buf, len, at);
}

static inline ssize_t sys_pwrite(int fd, const void *buf, size_t len, off_t at)
{
	return sluice_syscall(SYS_pwrite64, fd, buf, len, at);
}

static inline int sys_openat_new(int dir, const char *path, int flags, mode_t mode)
{
	return (int)sluice_syscall(SYS_openat, dir, path, flags, mode);
}

static inline int sys_flock(int fd, int how)
{
	return (int)sluice_syscall(SYS_flock, fd, how);
}

static inline int sys_linkat(int from_dir, const char *from, int dir, const char *path, int flags)
{
	return (int)sluice_syscall(SYS_linkat, from_dir, from, dir, path, flags);
}

static inline int sys_unlinkat(int dir, const char *path)
{
	return (int)sluice_syscall(SYS_unlinkat, dir, path, 0);
}

static inline int sys_close(int fd)
{
	return (int)sluice_syscall(SYS_close, fd);
}

static inline ssize_t sys_read(int fd, void *buf, size_t len)
{
	return sluice_syscall(SYS_read, fd, buf, len);
}

static inline ssize_t sys_write(int fd, const void *buf, size_t len)
{
	return sluice_syscall(SYS_write, fd, buf, len);
}

/* Does not wait for entropy. */
static inline ssize_t sys_getrandom(void *buf, size_t len)
{
	return sluice_syscall(SYS_getrandom, buf, len, 1 /* GRND_NONBLOCK */);
}

static inline int sys_fcntl(int fd, int command, long arg)
{
	return (int)sluice_syscall(SYS_fcntl, fd, command, arg);
}

static inline int sys_poll(struct pollfd *fds, nfds_t n, int ms)
{
#ifdef SYS_poll
	return (int)sluice_syscall(SYS_poll, fds, n, ms);
#else
	struct timespec ts = { ms / 1000, ms % 1000 * 1000000L };

	return (int)sluice_syscall(SYS_ppoll, fds, n, ms < 0 ? NULL : &ts, NULL,
				   (size_t)(_NSIG / 8));
#endif
}

static inline ssize_t sys_recvmsg(int fd, struct msghdr *m, int flags)
{
	return sluice_syscall(SYS_recvmsg, fd, m, flags);
}

static inline ssize_t sys_sendto(int fd, const void *buf, size_t len, int flags, const void *to,
				 socklen_t to_len)
{
	return sluice_syscall(SYS_sendto, fd, buf, len, flags, to, to_len);
}

static inline int sys_socket(int family, int type, int protocol)
{
	return (int)sluice_syscall(SYS_socket, family, type, protocol);
}

static inline int sys_setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
	return (int)sluice_syscall(SYS_setsockopt, fd, level, name, value, len);
}

static inline int sys_bind(int fd, const void *address, socklen_t len)
{
	return (int)sluice_syscall(SYS_bind, fd, address, len);
}

static inline int sys_fstatfs(int fd, struct statfs *st)
{
	return (int)sluice_syscall(SYS_fstatfs, fd, st);
}

static inline int sys_eventfd(unsigned value, int flags)
{
	return (int)sluice_syscall(SYS_eventfd2, value, flags);
}

static inline uid_t sys_geteuid(void)
{
	return (uid_t)sluice_syscall(SYS_geteuid);
}

static inline int sys_prctl(int option, unsigned long arg)
{
	return (int)sluice_syscall(SYS_prctl, option, arg, 0L, 0L, 0L);
}

/* Of the calling thread, with the kernel's masks: the functions of libc refuse to change libc's own
 * signals. before may be NULL. */
static inline void sys_sigmask(int how, const uint64_t *mask, uint64_t *before)
{
	sluice_syscall(SYS_rt_sigprocmask, how, mask, before, sizeof(*mask));
}

/* Sends the signal to the calling thread. */
static inline void sys_raise(int sig)
{
	sluice_syscall(SYS_tgkill, sys_getpid(), sys_gettid(), sig);
}

/* getauxval, by the name that is libc's alone. musl has only the other. */
static inline unsigned long sys_auxval(unsigned long type)
{
#ifdef __GLIBC__
	extern unsigned long __getauxval(unsigned long type);

	return __getauxval(type);
#else
	return getauxval(type);
#endif
}

/*
 * dlopen. Returns NULL in a statically linked program: a direct call would make the linker warn,
 * and the loaded library would bring a second libc.
 */
static inline void *sys_dlopen(const char *file, int mode)
{
	void *symbol = dlsym(RTLD_DEFAULT, "dlopen");
	void *(*fn)(const char *, int);

	memcpy(&fn, &symbol, sizeof(fn));
	return fn ? fn(file, mode) : NULL;
}

#endif
