/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Preloaded before the library into a workload of sluice-bench: whether the layers of the
 * statistics add up to what the kernel backs, within 1 % or 256 KiB, at rest: less what was never
 * touched (untouched_bytes), and after a drain without that.
 *
 * Each block is touched as a whole, so what is untouched is the allocator's doing. Every call
 * passes a gate, which is closed during a check, so all threads of the program are outside of the
 * allocator then. A check is made when the program reads its CPU time (the workloads do so before
 * and after their steady part) and at its end, there also after a drain. It is repeated while the
 * background thread is at work.
 *
 * What the kernel backs: the private mappings without a name in smaps, less what the program mapped
 * itself. Threads get shared stacks, so that these do not count. With REST_OTHERS=1, in a program
 * whose libraries have such mappings as well: what the library asks the kernel (resident_bytes).
 *
 * A server does not end by itself, and forks. With REST_GO, a thread in each process waits for that
 * file to exist, and checks then, at rest and after a drain.
 *
 * Appends to the file REST_LOG a line for each check: "right" or "WRONG", when, which process, and
 * the figures in KiB.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "../lib/layers.h"

#define TRIES 40
#define STACK ((size_t)256 << 10)
#define MAPS 4096u

static struct {
	uintptr_t at;
	size_t bytes;
} maps[MAPS]; /* what the program mapped */
static _Atomic unsigned map_count;

#define GATE ((pthread_rwlock_t)PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP)

static pthread_rwlock_t gate = GATE;
static _Thread_local unsigned depth __attribute__((tls_model("initial-exec")));
static pid_t process;
static char *text; /* of smaps */
static bool others;
/* Copies, because a server may use the memory of its environment for its title. */
static char log_file[256];
static char go_file[256];

static void *next(const char *name)
{
	return dlsym(RTLD_NEXT, name);
}

/* ---- the gate ------------------------------------------------------------------------------ */

static void enter(void)
{
	if (depth++ == 0)
		pthread_rwlock_rdlock(&gate);
}

static void leave(void)
{
	if (--depth == 0)
		pthread_rwlock_unlock(&gate);
}

/* ---- what the kernel says ------------------------------------------------------------------ */

static long own_kib(void)
{
	unsigned char vec[1024];
	long pages = 0;

	for (unsigned i = 0; i < map_count && i < MAPS; i++) {
		for (size_t at = 0; at < maps[i].bytes; at += sizeof vec * 4096) {
			size_t n = maps[i].bytes - at;

			n = n < sizeof vec * 4096 ? n : sizeof vec * 4096;
			if (mincore((void *)(maps[i].at + at), n, vec) != 0)
				continue;
			for (size_t j = 0; j < (n + 4095) / 4096; j++)
				pages += vec[j] & 1;
		}
	}
	return pages * 4;
}

static long stat_kib(const char *name)
{
	static int (*stat)(const char *, uint64_t *);
	uint64_t n = 0;

	if (!stat)
		*(void **)&stat = next("sluice_stat");
	if (!stat || stat(name, &n) != 0)
		_exit(97);
	return (long)(n >> 10);
}

static void drain_all(void)
{
	static int (*drain)(unsigned, uint64_t, void *);

	if (!drain)
		*(void **)&drain = next("sluice_drain");
	if (!drain || drain(0, 0, NULL) != 0)
		_exit(99);
}

/* A drain is made behind the closed gate, so that no thread takes anything after it. */
static void check(const char *when, bool drained)
{
	char line[600];
	long sum;
	long untouched;
	long resident;
	long kernel;
	bool right;
	int fd;
	int n;

	if (!*log_file || getpid() != process || depth)
		return;
	depth++;
	pthread_rwlock_wrlock(&gate);
	for (int i = 0;; i++) {
		if (drained)
			drain_all();
		sum = stat_kib("layer_sum");
		untouched = stat_kib("untouched_bytes");
		resident = stat_kib("resident_bytes");
		kernel = others ? resident : smaps_kib(text) - own_kib();
		right = near(sum - untouched, kernel) && near(resident, kernel) &&
			(!drained || near(sum, kernel));
		if (right || i == TRIES)
			break;
		usleep(10000);
	}
	n = snprintf(line, sizeof line,
		     "%s %s: process %d, sum %ld, untouched %ld, resident %ld, kernel %ld:",
		     right ? "right" : "WRONG", when, (int)process, sum, untouched, resident,
		     kernel);
	n += layers_print(line + n, sizeof line - (size_t)n, stat_kib);
	line[n++] = '\n';
	fd = open(log_file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
	if (fd < 0 || write(fd, line, (size_t)n) != n)
		_exit(98);
	close(fd);
	pthread_rwlock_unlock(&gate);
	depth--;
}

/* ---- the allocator's functions ------------------------------------------------------------- */

static void *touched(void *p, size_t from)
{
	size_t n = p ? malloc_usable_size(p) : 0;

	if (n > from)
		memset((char *)p + from, 1, n - from);
	leave();
	return p;
}

void *malloc(size_t n)
{
	static void *(*fn)(size_t);

	if (!fn)
		*(void **)&fn = next("malloc");
	enter();
	return touched(fn(n), 0);
}

void free(void *p)
{
	static void (*fn)(void *);

	if (!fn)
		*(void **)&fn = next("free");
	enter();
	fn(p);
	leave();
}

void *calloc(size_t n, size_t size)
{
	static void *(*fn)(size_t, size_t);
	void *p;

	if (!fn)
		*(void **)&fn = next("calloc");
	enter();
	p = fn(n, size);
	if (p)
		memset(p, 0, malloc_usable_size(p));
	leave();
	return p;
}

void *realloc(void *p, size_t n)
{
	static void *(*fn)(void *, size_t);
	size_t had = p ? malloc_usable_size(p) : 0;

	if (!fn)
		*(void **)&fn = next("realloc");
	enter();
	return touched(fn(p, n), had);
}

int posix_memalign(void **out, size_t align, size_t n)
{
	static int (*fn)(void **, size_t, size_t);
	int err;

	if (!fn)
		*(void **)&fn = next("posix_memalign");
	enter();
	err = fn(out, align, n);
	touched(err ? NULL : *out, 0);
	return err;
}

void *memalign(size_t align, size_t n)
{
	static void *(*fn)(size_t, size_t);

	if (!fn)
		*(void **)&fn = next("memalign");
	enter();
	return touched(fn(align, n), 0);
}

void *aligned_alloc(size_t align, size_t n)
{
	return memalign(align, n);
}

void *reallocarray(void *p, size_t n, size_t size)
{
	return size && n > SIZE_MAX / size ? NULL : realloc(p, n * size);
}

/* C++'s operators would pass the gate by. What they make is a block of malloc here. */

#define OPERATOR(type, name, body, ...)                                                            \
	type name(__VA_ARGS__);                                                                    \
	type name(__VA_ARGS__)                                                                     \
	{                                                                                          \
		body;                                                                              \
	}
#define NEW(name, ...) OPERATOR(void *, name, return malloc(n), size_t n, ##__VA_ARGS__)
#define NEW_ALIGNED(name, ...)                                                                     \
	OPERATOR(void *, name, return aligned_alloc(align, n), size_t n, size_t align,             \
		 ##__VA_ARGS__)
#define DELETE(name, ...) OPERATOR(void, name, free(p), void *p, ##__VA_ARGS__)
#define UNUSED(declaration) __attribute__((unused)) declaration

NEW(_Znwm)
NEW(_Znam)
NEW(_ZnwmRKSt9nothrow_t, UNUSED(const void *tag))
NEW(_ZnamRKSt9nothrow_t, UNUSED(const void *tag))
NEW_ALIGNED(_ZnwmSt11align_val_t)
NEW_ALIGNED(_ZnamSt11align_val_t)
NEW_ALIGNED(_ZnwmSt11align_val_tRKSt9nothrow_t, UNUSED(const void *tag))
NEW_ALIGNED(_ZnamSt11align_val_tRKSt9nothrow_t, UNUSED(const void *tag))
DELETE(_ZdlPv)
DELETE(_ZdaPv)
DELETE(_ZdlPvm, UNUSED(size_t n))
DELETE(_ZdaPvm, UNUSED(size_t n))
DELETE(_ZdlPvRKSt9nothrow_t, UNUSED(const void *tag))
DELETE(_ZdaPvRKSt9nothrow_t, UNUSED(const void *tag))
DELETE(_ZdlPvSt11align_val_t, UNUSED(size_t align))
DELETE(_ZdaPvSt11align_val_t, UNUSED(size_t align))
DELETE(_ZdlPvmSt11align_val_t, UNUSED(size_t n), UNUSED(size_t align))
DELETE(_ZdaPvmSt11align_val_t, UNUSED(size_t n), UNUSED(size_t align))

/* ---- when, and what is not the library's --------------------------------------------------- */

int clock_gettime(clockid_t clock, struct timespec *ts)
{
	if (clock == CLOCK_PROCESS_CPUTIME_ID)
		check("at work", false);
	return (int)syscall(SYS_clock_gettime, clock, ts);
}

void *mmap(void *at, size_t bytes, int prot, int flags, int fd, off_t offset)
{
	void *p = (void *)syscall(SYS_mmap, at, bytes, prot, flags, fd, offset);

	if (p != MAP_FAILED && flags & MAP_ANONYMOUS) {
		unsigned i = map_count++;

		if (i < MAPS) {
			maps[i].at = (uintptr_t)p;
			maps[i].bytes = bytes;
		}
	}
	return p;
}

int munmap(void *at, size_t bytes)
{
	for (unsigned i = 0; i < map_count && i < MAPS; i++)
		if (maps[i].at == (uintptr_t)at)
			maps[i].bytes = 0;
	return (int)syscall(SYS_munmap, at, bytes);
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*start)(void *), void *arg)
{
	static int (*fn)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
	pthread_attr_t own;
	void *stack = (void *)syscall(SYS_mmap, NULL, STACK, PROT_READ | PROT_WRITE,
				      MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0L);

	if (!fn)
		*(void **)&fn = next("pthread_create");
	if (stack == MAP_FAILED)
		return 11;
	pthread_attr_init(&own);
	if (attr)
		own = *attr;
	pthread_attr_setstack(&own, stack, STACK);
	return fn(thread, &own, start, arg);
}

/* ---- the checks at the end ----------------------------------------------------------------- */

static void *watch(void *arg)
{
	(void)arg;
	while (access(go_file, F_OK) != 0)
		usleep(20000);
	check("at rest", false);
	check("drained", true);
	return NULL;
}

/* The signals of a server are for its own threads. */
static void watch_begin(void)
{
	pthread_t thread;
	sigset_t all;
	sigset_t old;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	if (pthread_create(&thread, NULL, watch, NULL) != 0)
		_exit(96);
	pthread_detach(thread);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}

static void begin_in_child(void)
{
	process = getpid();
	gate = GATE;
	watch_begin();
}

static void copy_variable(char *to, size_t size, const char *name)
{
	const char *value = getenv(name);

	if (value && (size_t)snprintf(to, size, "%s", value) >= size)
		_exit(95);
}

__attribute__((constructor)) static void begin(void)
{
	char word[2] = "";

	process = getpid();
	text = (char *)syscall(SYS_mmap, NULL, SMAPS, PROT_READ | PROT_WRITE,
			       MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0L);
	copy_variable(word, sizeof word, "REST_OTHERS");
	others = *word;
	copy_variable(log_file, sizeof log_file, "REST_LOG");
	copy_variable(go_file, sizeof go_file, "REST_GO");
	if (*go_file) {
		pthread_atfork(NULL, NULL, begin_in_child);
		watch_begin();
	}
}

__attribute__((destructor)) static void end(void)
{
	check("at the end", false);
	check("drained", true);
}
