/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A wrong free at a place where printing a backtrace is hard.
 *
 * usage: stop CASE [MODULE]
 *
 * MODULE: what to load in the case loader. "survived" on stdout means that nothing stopped it;
 * status 77 that this machine cannot do it.
 */
#include <dlfcn.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include "lib/check.h"
#include "lib/statm.h"

/* Volatile: the compiler must neither warn of the misuse nor make use of it. The last store keeps
 * the frame that called free. */
static void *volatile victim;

static void misuse(void)
{
	victim = malloc(100);
	free(victim);
	free(victim);
	victim = NULL;
}

static void in_thread(void *(*f)(void *), void *arg, pthread_t *t)
{
	pthread_t own;

	if (pthread_create(t ? t : &own, NULL, f, arg) != 0)
		exit(3);
}

/* ---- signals --------------------------------------------------------------------------------- */

static void handler(int sig)
{
	(void)sig;
	misuse();
}

static void case_handler(const char *arg)
{
	const struct sigaction action = { .sa_handler = handler };

	(void)arg;
	if (sigaction(SIGUSR1, &action, NULL) != 0)
		exit(3);
	raise(SIGUSR1);
}

/* The usual size of a stack for signals. */
static void case_small_stack(const char *arg)
{
	static char stack[16384];
	const stack_t s = { .ss_sp = stack, .ss_size = sizeof stack };
	struct sigaction action = { .sa_handler = handler, .sa_flags = SA_ONSTACK };

	(void)arg;
	if (sigaltstack(&s, NULL) != 0 || sigaction(SIGUSR1, &action, NULL) != 0)
		exit(3);
	raise(SIGUSR1);
}

static void say(const char *text)
{
	if (write(STDOUT_FILENO, text, strlen(text)) < 0)
		_exit(3);
}

static void child_seen(int sig)
{
	(void)sig;
	say("SIGCHLD\n");
}

static void *waits(void *arg)
{
	if (waitpid(-1, NULL, 0) > 0)
		say("a child\n");
	return arg;
}

static void before_fork(void)
{
	say("fork\n");
}

/* The program must have no children, whatever it checks. */
static void case_children(const char *arg)
{
	(void)arg;
	signal(SIGCHLD, child_seen);
	pthread_atfork(before_fork, NULL, NULL);
	for (int i = 0; i < 4; i++)
		in_thread(waits, NULL, NULL);
	misuse();
}

/* ---- locks ----------------------------------------------------------------------------------- */

static void late_destructor(void *arg)
{
	static int round;
	pthread_key_t *key = arg;

	if (++round < 4)
		pthread_setspecific(*key, key);
	else
		misuse();
}

static void *ends(void *arg)
{
	static pthread_key_t key;

	free(malloc(100));
	pthread_key_create(&key, late_destructor);
	pthread_setspecific(key, &key);
	return arg;
}

/* In the last round of destructors the thread has no heap left: the misuse is found under a
 * lock. */
static void case_lock(const char *arg)
{
	pthread_t t;

	(void)arg;
	in_thread(ends, NULL, &t);
	pthread_join(t, NULL);
}

static _Atomic int churning;

static void *churns(void *arg)
{
	for (;;) {
		size_t n = (size_t)(40 + churning % 7) << 16;
		char *p = malloc(n);

		if (p)
			p[n / 2] = 1;
		free(p);
		churning++;
	}
	return arg;
}

/* Others hold the locks of the core. */
static void start_churn(void)
{
	for (int i = 0; i < 3; i++)
		in_thread(churns, NULL, NULL);
	while (churning < 10)
		usleep(1000);
}

/* The misuse is found inside the thread's heap. */
static void case_churn(const char *arg)
{
	(void)arg;
	start_churn();
	misuse();
}

/* The misuse is found outside the thread's heap. */
static void case_churn_foreign(const char *arg)
{
	char on_stack[64];

	(void)arg;
	free(malloc(100));
	start_churn();
	victim = (void *)(((uintptr_t)on_stack + 15) & ~(uintptr_t)15);
	free(victim);
	victim = NULL;
}

static void *loads(void *arg)
{
	if (!dlopen(arg, RTLD_NOW))
		exit(3);
	return arg;
}

/* Another thread is inside dlopen for longer than the test lasts: the module's constructor says so
 * in the environment, and sleeps. */
static void case_loader(const char *module)
{
	char path[4096];

	snprintf(path, sizeof path, "%s", module);
	in_thread(loads, path, NULL);
	while (!getenv("STOP_LOADING"))
		usleep(1000);
	misuse();
}

static void *misuses(void *arg)
{
	pthread_barrier_wait(arg);
	misuse();
	return arg;
}

/* All threads commit the misuse at once. */
static void case_many(const char *arg)
{
	enum { THREADS = 8 };
	pthread_barrier_t barrier;

	(void)arg;
	pthread_barrier_init(&barrier, NULL, THREADS);
	for (int i = 1; i < THREADS; i++)
		in_thread(misuses, &barrier, NULL);
	misuses(&barrier);
}

/* ---- limits ---------------------------------------------------------------------------------- */

static void address_limit(bool hard)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_AS, &limit) != 0)
		exit(3);
	limit.rlim_cur = ((rlim_t)statm_pages(STATM_SIZE) + 4) * (rlim_t)sysconf(_SC_PAGESIZE);
	if (hard)
		limit.rlim_max = limit.rlim_cur;
	if (setrlimit(RLIMIT_AS, &limit) != 0)
		exit(3);
	misuse();
}

static void case_soft_limit(const char *arg)
{
	(void)arg;
	address_limit(false);
}

static void case_file_limit(const char *arg)
{
	struct rlimit limit;

	(void)arg;
	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		exit(3);
	limit.rlim_cur = 3;
	if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
		exit(3);
	misuse();
}

static void case_hard_limit(const char *arg)
{
	(void)arg;
	address_limit(true);
}

static void refused(int sig, siginfo_t *info, void *context)
{
	ucontext_t *u = context;

	(void)sig;
	(void)info;
	say("refused\n");
#if defined(__x86_64__)
	u->uc_mcontext.gregs[REG_RAX] = -EPERM;
#else
	u->uc_mcontext.regs[0] = (unsigned long)-EPERM;
#endif
}

/* A filter that the library did not see refuses clone, by an errno or by SIGSYS, as a browser's
 * sandbox does. */
static void no_clone(unsigned action)
{
	struct sock_filter rules[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, action),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog program = { sizeof rules / sizeof *rules, rules };
	struct sigaction sigsys = { .sa_sigaction = refused, .sa_flags = SA_SIGINFO };

	if (sigaction(SIGSYS, &sigsys, NULL) != 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
	    helper_raw_syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, (long)&program) != 0)
		exit(77);
	misuse();
}

static void case_no_clone(const char *arg)
{
	(void)arg;
	no_clone(SECCOMP_RET_ERRNO | EPERM);
}

static void case_trapped_clone(const char *arg)
{
	(void)arg;
	no_clone(SECCOMP_RET_TRAP);
}

static const struct {
	const char *name;
	void (*run)(const char *);
} cases[] = {
	{ "handler", case_handler },
	{ "small-stack", case_small_stack },
	{ "children", case_children },
	{ "lock", case_lock },
	{ "churn", case_churn },
	{ "churn-foreign", case_churn_foreign },
	{ "loader", case_loader },
	{ "many", case_many },
	{ "soft-limit", case_soft_limit },
	{ "file-limit", case_file_limit },
	{ "hard-limit", case_hard_limit },
	{ "no-clone", case_no_clone },
	{ "trapped-clone", case_trapped_clone },
};

int main(int argc, char **argv)
{
	for (size_t i = 0; argc > 1 && i < sizeof cases / sizeof *cases; i++)
		if (strcmp(cases[i].name, argv[1]) == 0) {
			cases[i].run(argc > 2 ? argv[2] : "");
			puts("survived");
			return 0;
		}
	fprintf(stderr, "usage: stop CASE [MODULE]\n");
	return 2;
}
