/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * seccomp HOW CASE: installs a seccomp filter that kills the process at each system call that is
 * not listed here, and then allocates. Listed are the calls of glibc's malloc (brk, mmap, munmap,
 * mremap, madvise, mprotect, futex); read, lseek, write, exit and rt_sigprocmask (at the end of a
 * thread) for the program itself; and, in cases that make threads, the calls for that.
 *
 * HOW: prctl, seccomp, tsync (for all threads), raw (by a system call instruction of the program,
 * so that the library does not see it). CASE:
 *   one      one thread: objects of all sizes, growth, realloc, trim
 *   late     threads that exist before the filter call malloc for the first time after it
 *   threads  threads are also made after the filter, and free what other threads allocated
 *   joined   threads have ended just before the filter, which does not list the end of a thread
 *   ending   the same, and the thread of the library is about to end (in a build that waits there)
 *   idle     all is freed and no thread calls malloc: the memory is still given back (tsync only)
 *   fork     a fork child allocates
 *   denied   mprotect is refused (EPERM): many small objects do not need many mappings
 *   twice    an object is freed twice: the error line is written
 *   refused  all calls are allowed, but getpid and gettid fail (EPERM)
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/check.h"

#define OBJECTS 60000
#define THREADS 6

static int statm;
static int maps;
static const char *how;
static _Atomic uint32_t go;
static _Atomic int stay;
static _Atomic uint32_t begun;

static void nap(void)
{
	static uint32_t never;
	const struct timespec ts = { 0, 10000000 };

	syscall(SYS_futex, &never, FUTEX_WAIT, 0, &ts, NULL, 0);
}

/* ---- the filter ------------------------------------------------------------------------------ */

static struct sock_filter code[128];
static unsigned short length;

static void put(uint16_t op, uint32_t k, uint8_t yes, uint8_t no)
{
	code[length++] = (struct sock_filter){ op, yes, no, k };
}

static void name_call(int number, uint32_t what)
{
	put(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)number, 0, 1);
	put(BPF_RET | BPF_K, what, 0, 0);
}

/* Only getpid and gettid do not work. */
static void refuse(void)
{
	put(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr), 0, 0);
	name_call(SYS_getpid, SECCOMP_RET_ERRNO | EPERM);
	name_call(SYS_gettid, SECCOMP_RET_ERRNO | EPERM);
	put(BPF_RET | BPF_K, SECCOMP_RET_ALLOW, 0, 0);
}

/* Threads end before the filter, and none may after it. */
static bool ends_before(const char *cas)
{
	return strcmp(cas, "joined") == 0 || strcmp(cas, "ending") == 0;
}

static void list(const char *cas)
{
	static const int always[] = { SYS_brk,     SYS_mmap,  SYS_munmap,     SYS_mremap,
				      SYS_madvise, SYS_futex, SYS_read,       SYS_write,
				      SYS_exit,    SYS_lseek, SYS_exit_group, SYS_rt_sigprocmask };
	static const int making[] = { SYS_clone3, SYS_clone, SYS_set_robust_list, SYS_rseq };

	put(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr), 0, 0);
	for (size_t i = 0; i < sizeof(always) / sizeof(always[0]); i++)
		if (!ends_before(cas) || (always[i] != SYS_exit && always[i] != SYS_rt_sigprocmask))
			name_call(always[i], SECCOMP_RET_ALLOW);
	name_call(SYS_mprotect,
		  strcmp(cas, "denied") == 0 ? SECCOMP_RET_ERRNO | 1 : SECCOMP_RET_ALLOW);
	if (strcmp(cas, "threads") == 0 || strcmp(cas, "fork") == 0)
		for (size_t i = 0; i < sizeof(making) / sizeof(making[0]); i++)
			name_call(making[i], SECCOMP_RET_ALLOW);
	if (strcmp(cas, "fork") == 0)
		name_call(SYS_wait4, SECCOMP_RET_ALLOW);
	put(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS, 0, 0);
}

static void install(const char *cas)
{
	struct sock_fprog program = { 0, code };
	long r;

	if (strcmp(cas, "refused") == 0)
		refuse();
	else
		list(cas);
	program.len = length;
	/* In the case idle, main has done so before there were threads. */
	if (strcmp(cas, "idle") != 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		exit(77);
	if (strcmp(how, "raw") == 0)
		r = helper_raw_syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, (long)&program);
	else if (strcmp(how, "prctl") == 0)
		r = prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
	else
		r = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
			    strcmp(how, "tsync") == 0 ? SECCOMP_FILTER_FLAG_TSYNC : 0, &program);
	if (r != 0)
		exit(77);
}

/* ---- what it does in it ---------------------------------------------------------------------- */

static char *shared[THREADS][OBJECTS / THREADS];

static size_t size_of(unsigned i)
{
	static const size_t sizes[] = { 24, 500, 3000, 20000, 100, 48, 1200, 64 };

	return i % 2000 == 7 ? 3 << 20 : sizes[i % 8];
}

static void use(char **object, unsigned n)
{
	unsigned bad = 0;

	errno = E2BIG;
	for (unsigned i = 0; i < n; i++) {
		object[i] = malloc(size_of(i));
		if (!object[i])
			bad++;
		else
			memset(object[i], 'x', size_of(i) < 4096 ? size_of(i) : 4096);
	}
	CHECK(bad == 0, "as it says");
	for (unsigned i = 0; i < n; i += 3)
		if ((object[i] = realloc(object[i], size_of(i) * 3)) == NULL)
			bad++;
	CHECK(bad == 0, "as it says");
	CHECK(errno == E2BIG, "calls that succeed change errno");
}

static void drop(char **object, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		free(object[i]);
}

static void *worker(void *arg)
{
	unsigned me = (unsigned)(uintptr_t)arg;

	atomic_fetch_add(&begun, 1); /* libc's own calls at the start of a thread are over */
	while (!atomic_load(&go))
		nap();
	use(shared[me], OBJECTS / THREADS);
	while (atomic_load(&stay))
		nap();
	return NULL;
}

static void start_all(pthread_t *t)
{
	uint32_t before = atomic_load(&begun);

	for (unsigned i = 0; i < THREADS; i++)
		if (pthread_create(&t[i], NULL, worker, (void *)(uintptr_t)i) != 0)
			_exit(3);
	while (atomic_load(&begun) - before < THREADS)
		nap();
}

static void join_all(pthread_t *t)
{
	for (unsigned i = 0; i < THREADS; i++)
		CHECK(pthread_join(t[i], NULL) == 0, "as it says");
	for (unsigned i = 0; i < THREADS; i++)
		drop(shared[i], OBJECTS / THREADS);
}

static void one(void)
{
	static char *object[OBJECTS];
	void *big = malloc(50 << 20);
	void *aligned = NULL;

	use(object, OBJECTS);
	CHECK(big != NULL, "as it says");
	void *bigger = realloc(big, 90 << 20);
	CHECK(bigger != NULL, "as it says");
	free(bigger != NULL ? bigger : big);
	CHECK(posix_memalign(&aligned, 1 << 20, 100) == 0, "as it says");
	free(aligned);
	drop(object, OBJECTS);
	malloc_trim(0);
	use(object, OBJECTS);
	drop(object, OBJECTS);
}

static long resident_mib(void)
{
	char text[128] = "";
	long pages = 0;
	char *at;

	lseek(statm, 0, SEEK_SET);
	if (read(statm, text, sizeof(text) - 1) <= 0 || (at = strchr(text, ' ')) == NULL)
		return -1;
	pages = strtol(at, NULL, 10);
	return pages / (1048576 / 4096);
}

static unsigned mappings(void)
{
	static char text[1 << 16];
	unsigned lines = 0;
	ssize_t n;

	lseek(maps, 0, SEEK_SET);
	while ((n = read(maps, text, sizeof(text))) > 0)
		for (ssize_t i = 0; i < n; i++)
			lines += text[i] == '\n';
	return lines;
}

/* Waits up to a minute: the memory must be given back by listed calls alone. */
static void idle(void)
{
	static char *object[100000];
	long most;

	for (unsigned i = 0; i < 100000; i++)
		memset(object[i] = malloc(900), 'x', 900);
	most = resident_mib();
	CHECK(most > 80, "as it says");
	drop(object, 100000);
	for (unsigned i = 0; i < 6000 && resident_mib() > most - 60; i++)
		nap();
	CHECK(resident_mib() <= most - 60, "as it says");
	for (unsigned i = 0; i < 200; i++)
		nap();
}

static void denied(void)
{
	static char *object[20000];
	unsigned before = mappings();

	for (unsigned i = 0; i < 20000; i++)
		object[i] = malloc(2000);
	CHECK(mappings() < before + 200, "as it says");
	drop(object, 20000);
}

static void fork_one(void)
{
	int status = 0;
	pid_t pid = fork();

	if (pid == 0) {
		one();
		_exit(helper_failed != 0);
	}
	CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0, "as it says");
}

static void twice(void)
{
	char *volatile p = malloc(100);

	free(p);
	free(p);
}

static void joined(void)
{
	one();
	for (int i = 0; i < 150; i++) /* a background thread that is left ends within this time */
		nap();
	one();
}

int main(int argc, char **argv)
{
	const char *cas = argc > 2 ? argv[2] : "";
	pthread_t t[THREADS];
	bool before = strcmp(cas, "late") == 0 || strcmp(cas, "threads") == 0 ||
		      strcmp(cas, "idle") == 0;

	how = argc > 1 ? argv[1] : "";
	statm = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
	maps = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
	free(malloc(10));
	CHECK(getenv("SECCOMP_PLAIN") || dlsym(RTLD_DEFAULT, "sluice_stat") != NULL,
	      "the library is not there");
	/* Without these calls the library's thread ends as well, and cannot start again. */
	atomic_store(&stay, strcmp(cas, "idle") == 0);
	if (strcmp(cas, "idle") == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		return 77;
	if (before)
		start_all(t);
	for (int i = 0; i < 4 && ends_before(cas); i++) {
		start_all(t);
		atomic_store(&go, 1);
		join_all(t);
		atomic_store(&go, 0);
	}
	for (int i = 0; i < 30 && strcmp(cas, "ending") == 0; i++)
		nap();
	install(cas);
	atomic_store(&go, 1);
	if (strcmp(cas, "one") == 0)
		one();
	else if (ends_before(cas))
		joined();
	else if (strcmp(cas, "idle") == 0)
		idle();
	else if (strcmp(cas, "denied") == 0)
		denied();
	else if (strcmp(cas, "fork") == 0)
		fork_one();
	else if (strcmp(cas, "twice") == 0)
		twice();
	atomic_store(&stay, 0);
	if (before)
		join_all(t);
	if (strcmp(cas, "threads") == 0 || strcmp(cas, "refused") == 0) {
		start_all(t);
		join_all(t);
		one();
	}
	return helper_end();
}
