#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# The library makes no call that is a cancellation point of libc: a thread with a pending cancel would end inside of it,
# with our locks held. It makes the system calls themselves (src/sys.h).
. "${0%/*}/tap.sh"
need nm binutils
plan 3

# pthreads(7): those that must and those that may be, but for names that no library without files or users calls.
# fprintf and fwrite are not among them: malloc_info writes to the caller's stream, with no lock of ours.
names='accept accept4 aio_suspend clock_nanosleep close connect creat epoll_pwait epoll_wait fallocate fclose fcntl
	fdatasync fflush fgets flock fopen fputs fread fsync futimens getaddrinfo getc getchar getline glob ioctl lockf lseek
	mq_receive mq_send msgrcv msgsnd msync nanosleep open openat opendir pause poll popen posix_fadvise ppoll pread
	preadv printf pselect pthread_cond_clockwait pthread_cond_timedwait pthread_cond_wait pthread_join
	pthread_rwlock_rdlock pthread_rwlock_wrlock pthread_testcancel pthread_tryjoin_np pthread_timedjoin_np putc
	puts pwrite pwritev read readdir readv recv recvfrom recvmmsg recvmsg select semop sem_timedwait sem_wait send
	sendfile sendmmsg sendmsg sendto sigpause sigsuspend sigtimedwait sigwait sigwaitinfo sleep splice sync syslog
	system tcdrain tee usleep vfprintf vmsplice wait wait3 wait4 waitid waitpid write writev'

# Each by itself, and as __NAME, NAME64, __NAME64, __NAME_chk and __libc_NAME.
# shellcheck disable=SC2086
printf '%s\n' $names | awk '{
	print; print "__" $1; print $1 "64"; print "__" $1 "64"; print "__" $1 "_chk"; print "__libc_" $1; print "__" $1 "_2"
}' | LC_ALL=C sort -u >"$TMP/forbidden"

called() {
	awk '{ sub(/@.*/, "", $NF); print $NF }' | LC_ALL=C sort -u | LC_ALL=C comm -12 - "$TMP/forbidden" | tr '\n' ' '
}

is "$(nm -D --undefined-only "$SLUICE_LIB" | called)" "" "the library calls none of them"
core=$builddir/.libs/libsluice-core.a
[ -f "$core" ] || core=$builddir/libsluice-core.a
is "$(nm --undefined-only "$core" 2>/dev/null | grep ' U ' | called)" "" "nor does a file of the core"
is "$(printf '                 U nanosleep@GLIBC_2.2.5\n                 U __read_chk\n U mmap\n' | called)" \
	"__read_chk nanosleep " "a call of one would be found"
