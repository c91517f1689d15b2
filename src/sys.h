/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sys.h - system calls as such. Those of libc with the same names are cancellation points: a thread with a pending
 * cancel would end inside them, with our locks held. Results and errno are as libc's. Primitive; used by all
 * layers that read or write a file or wait for one. t/meta-cancellation.sh holds that nothing else is called.
 */
#ifndef SLUICE_SYS_H
#define SLUICE_SYS_H

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

static inline int sys_open(const char *path, int flags, mode_t mode)
{
	return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

static inline ssize_t sys_read(int fd, void *buf, size_t len)
{
	return syscall(SYS_read, fd, buf, len);
}

static inline ssize_t sys_write(int fd, const void *buf, size_t len)
{
	return syscall(SYS_write, fd, buf, len);
}

static inline int sys_close(int fd)
{
	return (int)syscall(SYS_close, fd);
}

/* The lowest free descriptor from `from` on. */
static inline int sys_dup_above(int fd, int from)
{
	return (int)syscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, from);
}

static inline int sys_poll(struct pollfd *fds, nfds_t n, int ms)
{
	struct timespec ts = { ms / 1000, (long)(ms % 1000) * 1000000 };

	return (int)syscall(SYS_ppoll, fds, n, ms < 0 ? NULL : &ts, NULL, (size_t)0);
}

static inline int sys_accept4(int fd, struct sockaddr *from, socklen_t *len, int flags)
{
	return (int)syscall(SYS_accept4, fd, from, len, flags);
}

static inline ssize_t sys_recv(int fd, void *buf, size_t len, int flags)
{
	return syscall(SYS_recvfrom, fd, buf, len, flags, NULL, NULL);
}

static inline ssize_t sys_send(int fd, const void *buf, size_t len, int flags)
{
	return syscall(SYS_sendto, fd, buf, len, flags, NULL, (socklen_t)0);
}

#endif
