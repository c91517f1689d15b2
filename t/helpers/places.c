/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which files the library opens, and where.
 *
 * usage: places chroot DIR one|threads   enters DIR and allocates there; with threads, for 3 s
 *        places calls                    threads allocate and sleep while each call that makes a
 *                                        descriptor raises SIGSYS: only the program's own may do so
 *        places low                      close(0) and open, while threads allocate
 *        places control                  as calls, until a line arrives on standard input
 *        places directories one|threads  no open descriptor is that of a directory, also in a child
 *        places unmount TARGET           unmounts TARGET while threads allocate (in a mount
 *                                        namespace of its own)
 */
#include "lib/check.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>

static _Atomic int ending;

static void nap_ms(long ms)
{
	const struct timespec ts = { ms / 1000, ms % 1000 * 1000000 };

	nanosleep(&ts, NULL);
}

static void *churn(void *arg)
{
	static _Thread_local void *v[2000];

	(void)arg;
	while (!ending) {
		for (int i = 0; i < 2000; i++)
			v[i] = malloc(3000);
		for (int i = 0; i < 2000; i++)
			free(v[i]);
		nap_ms(20);
	}
	return NULL;
}

static void in_chroot(const char *dir, bool threads)
{
	pthread_t t;

	CHECK(chroot(dir) == 0 && chdir("/") == 0, "%s: %s", dir, strerror(errno));
	if (threads && pthread_create(&t, NULL, churn, NULL) == 0) {
		nap_ms(3000);
		ending = 1;
		pthread_join(t, NULL);
	}
	for (int i = 0; i < 200000; i++) {
		char *q = malloc(500);

		if (!q)
			abort();
		q[0] = 1;
	}
}

/* ---- calls ----------------------------------------------------------------------------------- */

static _Atomic int seen;
static _Atomic long last;

static void refused(int sig, siginfo_t *info, void *context)
{
	ucontext_t *u = context;

	(void)sig;
	last = info->si_syscall;
	atomic_fetch_add(&seen, 1);
#if defined(__x86_64__)
	u->uc_mcontext.gregs[REG_RAX] = -EPERM;
#else
	u->uc_mcontext.regs[0] = (unsigned long)-EPERM;
#endif
}

/* By a raw system call, which the library does not see, so that it behaves as always. */
static void trap_makers(void)
{
	static const int makers[] = { SYS_openat, SYS_socket,   SYS_accept4, SYS_accept,
				      SYS_dup,    SYS_eventfd2, SYS_pipe2,   SYS_memfd_create };
	struct sock_filter code[32];
	struct sock_fprog program = { 0, code };
	struct sigaction action = { .sa_sigaction = refused, .sa_flags = SA_SIGINFO };
	const uint32_t at = offsetof(struct seccomp_data, nr);

	code[program.len++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, at);
	for (size_t i = 0; i < sizeof makers / sizeof *makers; i++) {
		code[program.len++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K,
								   (uint32_t)makers[i], 0, 1);
		code[program.len++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K,
								   SECCOMP_RET_TRAP);
	}
	code[program.len++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	if (sigaction(SIGSYS, &action, NULL) != 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
	    helper_raw_syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, (long)&program) != 0)
		exit(77);
}

static void calls(bool until_line)
{
	pthread_t t[4];
	char line[8];

	trap_makers();
	for (int i = 0; i < 4; i++)
		if (pthread_create(&t[i], NULL, churn, NULL) != 0)
			abort();
	if (until_line) {
		helper_say("ready");
		while (read(STDIN_FILENO, line, sizeof line) < 0 && errno == EINTR)
			;
	} else {
		nap_ms(3000);
	}
	ending = 1;
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	CHECK(seen == 0, "%d descriptors made, the last by call %ld", seen, last);
}

static void low(void)
{
	pthread_t t;
	long bad = 0;

	CHECK(pthread_create(&t, NULL, churn, NULL) == 0, "no thread");
	for (int round = 0; round < 150; round++) {
		for (int k = 0; k < 2000; k++) {
			close(0);
			bad += open("/dev/null", O_RDONLY) != 0;
		}
		nap_ms(10);
	}
	ending = 1;
	pthread_join(t, NULL);
	CHECK(bad == 0, "%ld times the lowest was not had", bad);
}

/* ---- what is open ---------------------------------------------------------------------------- */

static int directories(void)
{
	int n = 0;

	for (int fd = 3; fd < 1024; fd++) {
		struct stat st;

		n += fstat(fd, &st) == 0 && S_ISDIR(st.st_mode);
	}
	return n;
}

static void no_directory(bool threads)
{
	pthread_t t;
	int status = -1;
	pid_t child;

	if (threads) {
		CHECK(pthread_create(&t, NULL, churn, NULL) == 0, "no thread");
		nap_ms(300);
	}
	free(malloc(1));
	CHECK(directories() == 0, "%d directories are open", directories());
	child = fork();
	if (child == 0)
		_exit(directories());
	CHECK(waitpid(child, &status, 0) == child && status == 0, "status %x", (unsigned)status);
	ending = 1;
	if (threads)
		pthread_join(t, NULL);
}

static void unmount(const char *target)
{
	static int fd[1024];
	pthread_t t;
	int n = 0;

	CHECK(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0, "%s", strerror(errno));
	CHECK(pthread_create(&t, NULL, churn, NULL) == 0, "no thread");
	nap_ms(100);
	errno = 0;
	CHECK(umount2(target, 0) == 0, "%s: %s", target, strerror(errno));
	/* The program may use all numbers that are free now. */
	while (n < 1024 && (fd[n] = open("/dev/null", O_RDONLY)) >= 0)
		n++;
	CHECK(n > 200, "%d files", n);
	nap_ms(1500);
	while (n--)
		CHECK(fcntl(fd[n], F_GETFD) >= 0, "%d was closed", fd[n]);
	ending = 1;
	pthread_join(t, NULL);
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";

	CHECK(dlsym(RTLD_DEFAULT, "sluice_stat") != NULL, "the library is not there");
	if (argc > 3 && strcmp(what, "chroot") == 0)
		in_chroot(argv[2], strcmp(argv[3], "threads") == 0);
	else if (strcmp(what, "calls") == 0 || strcmp(what, "control") == 0)
		calls(strcmp(what, "control") == 0);
	else if (strcmp(what, "low") == 0)
		low();
	else if (argc > 2 && strcmp(what, "directories") == 0)
		no_directory(strcmp(argv[2], "threads") == 0);
	else if (argc > 2 && strcmp(what, "unmount") == 0)
		unmount(argv[2]);
	return helper_end();
}
