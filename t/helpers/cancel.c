/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cancel CASE: threads that are cancelled, or leave in other ways, while they call the library.
 *
 *   pending  a thread with a pending cancel returns from each function of the library; meanwhile
 *            other threads allocate, trim and fork
 *   random   threads that allocate, trim and fork are cancelled (deferred) at random moments
 *   async    the same without forks, cancelled asynchronously in the middle of calls
 *   exit     a signal handler ends the thread whose call it interrupted
 *   jump     a signal handler leaves the call that it interrupted by siglongjmp; the thread
 *            continues
 *   stream   malloc_info writes to a stream whose function calls the library, forks and jumps out
 *
 * async, exit and jump are not supported: they may lose memory, and have no other effect. A
 * watchdog names the step that hung.
 */
#include "lib/check.h"

#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sluice/sluice.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/wait.h>

enum { PATIENCE_S = 100, OTHERS = 2, SLOTS = 64, BIG = 3 << 20, STEPS = 40 };

static const char *volatile step = "start";
static volatile size_t step_length = 5;

static void hung(int sig)
{
	(void)sig;
	if (write(STDOUT_FILENO, "HANG: ", 6) != 6 || write(STDOUT_FILENO, step, step_length) < 0)
		_exit(3);
	_exit(2);
}

static void begin(const char *what)
{
	step_length = 0;
	step = what;
	step_length = strlen(what);
	alarm(test_limit(PATIENCE_S));
}

static void start(pthread_t *t, void *(*f)(void *), void *arg)
{
	int err = pthread_create(t, NULL, f, arg);

	if (err != 0) {
		helper_say("no thread: %d", err);
		_exit(3);
	}
}

/* ---- the others ------------------------------------------------------------------------------ */

static _Atomic bool over;
static _Atomic unsigned long done[OTHERS];

static size_t size_of(uint64_t *seed)
{
	uint64_t r = helper_random(seed);

	return r % 200 == 0 ? 300000 : r % 20 == 0 ? 9000 : 1 + r % 900;
}

static void *other(void *arg)
{
	_Atomic unsigned long *count = arg;
	uint64_t seed = 77 + (uint64_t)(count - done);

	while (!atomic_load(&over)) {
		size_t n = size_of(&seed);
		unsigned char *p = malloc(n);

		if (p != NULL) {
			helper_fill(p, n, n);
			CHECK(helper_verify(p, n, n) == n, "%zu bytes were changed", n);
		}
		free(p);
		atomic_fetch_add(count, 1);
	}
	return NULL;
}

/* A thread that fills caches, for drains to empty, and then makes no call. */
static void *sleeper(void *arg)
{
	free(malloc(100));
	free(malloc(5000));
	while (!atomic_load(&over))
		usleep(20000);
	return arg;
}

static pthread_t threads[OTHERS + 1];

static void others_start(void)
{
	for (unsigned i = 0; i < OTHERS; i++)
		start(&threads[i], other, &done[i]);
	start(&threads[OTHERS], sleeper, NULL);
}

static void fork_once(void)
{
	pid_t pid = fork();
	int status = -1;

	if (pid == 0) {
		void *p;

		alarm(test_limit(PATIENCE_S / 2));
		p = malloc(200);
		_exit(p == NULL);
	}
	CHECK(pid > 0, "errno %d", errno);
	if (pid > 0)
		waitpid(pid, &status, 0);
	CHECK(status == 0, "the child of a fork ended with %#x", status);
}

/* All other threads make calls. */
static void others_go_on(void)
{
	for (unsigned i = 0; i < OTHERS; i++) {
		unsigned long seen = atomic_load(&done[i]);

		while (atomic_load(&done[i]) < seen + 20)
			usleep(200);
	}
	free(malloc(BIG));
}

static void others_end(void)
{
	begin("the end: trim");
	malloc_trim(0);
	begin("the end: fork");
	fork_once();
	begin("the end: calls");
	others_go_on();
	atomic_store(&over, true);
	for (unsigned i = 0; i <= OTHERS; i++)
		pthread_join(threads[i], NULL);
}

/* ---- pending --------------------------------------------------------------------------------- */

static int (*drain)(unsigned, struct sluice_drain_report *);
static int (*drain_threads)(unsigned, struct sluice_drain_report *, struct sluice_thread_drain *,
			    size_t *);
static int (*pcp_disable)(void);
static void (*pcp_enable)(void);
static void *(*page_alloc)(unsigned);
static void (*page_free)(void *, unsigned);
static size_t (*alloc_bulk)(unsigned, size_t, void **);
static void (*free_bulk)(unsigned, size_t, void *const *);
static size_t (*alloc_list)(unsigned, size_t, struct sluice_page_list *);
static void *(*list_pop)(struct sluice_page_list *);
static void (*free_list)(unsigned, struct sluice_page_list *);
static size_t (*page_size)(void);
static unsigned (*order_max)(void);
static int (*stat_by_name)(const char *, uint64_t *);
static size_t (*class_stats)(struct sluice_class *, size_t);
static const char *(*version)(void);

static void find(void *fn, const char *name)
{
	void *sym = dlsym(RTLD_DEFAULT, name);

	if (sym == NULL) {
		helper_say("not the library: no %s", name);
		_exit(97);
	}
	memcpy(fn, &sym, sizeof(sym));
}

static void find_all(void)
{
	find(&drain, "sluice_drain");
	find(&drain_threads, "sluice_drain_threads");
	find(&pcp_disable, "sluice_pcp_disable");
	find(&pcp_enable, "sluice_pcp_enable");
	find(&page_alloc, "sluice_page_alloc");
	find(&page_free, "sluice_page_free");
	find(&alloc_bulk, "sluice_page_alloc_bulk");
	find(&free_bulk, "sluice_page_free_bulk");
	find(&alloc_list, "sluice_page_alloc_bulk_list");
	find(&list_pop, "sluice_page_list_pop");
	find(&free_list, "sluice_page_free_bulk_list");
	find(&page_size, "sluice_page_size");
	find(&order_max, "sluice_page_order_max");
	find(&stat_by_name, "sluice_stat");
	find(&class_stats, "sluice_class_stats");
	find(&version, "sluice_version");
}

static FILE *kept;

static void call_family(void)
{
	void *p = NULL;
	char *q = realloc(malloc(10), 5000);

	free(q);
	free(calloc(7, 30));
	free(reallocarray(NULL, 4, 50));
	free(realloc(malloc(BIG), (size_t)2 * BIG));
	if (posix_memalign(&p, 64, 100) == 0)
		free(p);
	free(aligned_alloc(4096, 8192));
	free(memalign(256, 100));
	free(valloc(100));
	free(pvalloc(100));
	p = malloc(100);
	CHECK(malloc_usable_size(p) >= 100, "usable size");
	free(p);
	mallopt(M_TRIM_THRESHOLD, 1 << 20);
}

/* Requests more than is free, so that regions are mapped and limits are checked. */
static void call_growth(void)
{
	enum { BLOCKS = 600 };
	static void *block[BLOCKS];

	for (unsigned i = 0; i < BLOCKS; i++)
		block[i] = malloc(200000);
	for (unsigned i = 0; i < BLOCKS; i++)
		free(block[i]);
}

static void call_trim(void)
{
	malloc_trim(0);
}

static void call_drain(void)
{
	struct sluice_drain_report r;

	CHECK(drain(0, &r) == 0, "errno %d", errno);
	CHECK(drain(31, &r) == 0, "errno %d", errno);
}

static void call_drain_threads(void)
{
	struct sluice_thread_drain t[8];
	size_t n = 8;

	drain_threads(SLUICE_DRAIN_IDLE | SLUICE_DRAIN_GLOBAL | SLUICE_DRAIN_CACHES, NULL, t, &n);
}

static void call_disable(void)
{
	if (pcp_disable() == 0)
		pcp_enable();
}

static void call_pages(void)
{
	struct sluice_page_list list = { NULL, 0 };
	void *a[40];
	size_t n;

	CHECK(page_size() > 0 && order_max() > 0 && version() != NULL, "sizes");
	page_free(page_alloc(0), 0);
	n = alloc_bulk(0, 40, a);
	free_bulk(0, n, a);
	alloc_list(1, 20, &list);
	page_free(list_pop(&list), 1);
	free_list(1, &list);
}

static void call_stats(void)
{
	uint64_t v;

	CHECK(stat_by_name("heaps", &v) == 0, "sluice_stat");
	CHECK(class_stats(NULL, 0) > 0, "sluice_class_stats");
	mallinfo2();
	malloc_stats();
}

static void call_info(void)
{
	CHECK(malloc_info(0, kept) == 0, "errno %d", errno);
}

static void *nothing(void *arg)
{
	free(malloc(50));
	return arg;
}

static void call_thread(void)
{
	static pthread_t t;

	if (pthread_create(&t, NULL, nothing, NULL) == 0)
		pthread_detach(t);
}

/* waitpid is a cancellation point, so the caller waits for the child. */
static void call_fork(void)
{
	if (fork() == 0) {
		alarm(test_limit(PATIENCE_S / 2));
		free(malloc(100));
		_exit(0);
	}
}

static const struct entry {
	const char *name;
	void (*call)(void);
} entries[] = {
	{ "the malloc family", call_family },
	{ "growth", call_growth },
	{ "malloc_trim", call_trim },
	{ "sluice_drain", call_drain },
	{ "sluice_drain_threads", call_drain_threads },
	{ "sluice_pcp_disable", call_disable },
	{ "page blocks", call_pages },
	{ "statistics", call_stats },
	{ "malloc_info", call_info },
	{ "pthread_create", call_thread },
	{ "fork", call_fork },
};

static const struct entry *entry_now;
static volatile bool came_back;

static void *cancelled(void *fresh)
{
	if (fresh == NULL)
		free(malloc(100));
	pthread_cancel(pthread_self());
	entry_now->call();
	came_back = true;
	pthread_testcancel();
	return NULL;
}

static void case_pending(void)
{
	kept = fopen("/dev/null", "w");
	setvbuf(kept, NULL, _IONBF, 0);
	for (unsigned i = 0; i < sizeof(entries) / sizeof(entries[0]); i++) {
		/* Each function also as the first call of a thread. */
		for (unsigned fresh = 0; fresh < 2; fresh++) {
			void *result = NULL;
			pthread_t t;

			entry_now = &entries[i];
			came_back = false;
			begin(entry_now->name);
			start(&t, cancelled, fresh ? &t : NULL);
			pthread_join(t, &result);
			CHECK(came_back, "the thread was cancelled in %s", entry_now->name);
			CHECK(result == PTHREAD_CANCELED, "the thread was not cancelled");
			while (waitpid(-1, NULL, WNOHANG) > 0)
				;
			others_go_on();
			malloc_trim(0);
			fork_once();
		}
	}
	fclose(kept);
}

/* ---- threads that are ended at random -------------------------------------------------------- */

struct bag {
	void *p[SLOTS];
	size_t n[SLOTS];
};

static void bag_step(struct bag *b, uint64_t *seed)
{
	unsigned i = helper_random(seed) % SLOTS;
	void *old = b->p[i];

	if (old != NULL)
		CHECK(helper_verify(old, b->n[i], i) == b->n[i], "a block was changed");
	b->p[i] = NULL;
	free(old);
	b->n[i] = helper_random(seed) % 50 == 0 ? BIG : size_of(seed);
	b->p[i] = malloc(b->n[i]);
	if (b->p[i] != NULL)
		helper_fill(b->p[i], b->n[i] < 4096 ? b->n[i] : (b->n[i] = 4096), i);
}

static void bag_empty(void *arg)
{
	struct bag *b = arg;

	for (unsigned i = 0; i < SLOTS; i++) {
		if (b->p[i] != NULL)
			CHECK(helper_verify(b->p[i], b->n[i], i) == b->n[i], "a block was changed");
		free(b->p[i]);
	}
}

static void work_until_cancelled(struct bag *b, uint64_t seed)
{
	for (unsigned n = 0;; n++) {
		bag_step(b, &seed);
		if (n % 64 == 0)
			malloc_trim(0);
		if (n % 512 == 0)
			call_fork();
		pthread_testcancel();
	}
}

static void *deferred(void *arg)
{
	static _Thread_local struct bag b;

	pthread_cleanup_push(bag_empty, &b);
	work_until_cancelled(&b, (uint64_t)(uintptr_t)arg);
	pthread_cleanup_pop(1);
	return NULL;
}

static void case_random(void)
{
	uint64_t seed = 99;

	for (unsigned i = 0; i < STEPS; i++) {
		void *result = NULL;
		pthread_t t;

		begin("a thread is cancelled");
		start(&t, deferred, (void *)(uintptr_t)(i + 1));
		usleep((useconds_t)(helper_random(&seed) % 8000));
		pthread_cancel(t);
		pthread_join(t, &result);
		CHECK(result == PTHREAD_CANCELED, "the thread was not cancelled");
		begin("the others");
		others_go_on();
		if (i % 8 == 0) {
			begin("fork");
			fork_once();
		}
	}
	begin("the children");
	while (waitpid(-1, NULL, 0) > 0)
		;
}

enum { ASYNC, EXIT, JUMP };
static int way;
static _Thread_local sigjmp_buf *back;
static _Atomic unsigned jumped;
static _Atomic bool may_leave;

/* An interrupted call stays unfinished. */
static void leave(int sig)
{
	(void)sig;
	if (back == NULL)
		return;
	if (way == EXIT) {
		back = NULL;
		pthread_exit(NULL);
	}
	siglongjmp(*back, 1);
}

/*
 * Calls only the library: libc would leave its own locks held. What the thread holds is lost.
 */
static void *interrupted(void *arg)
{
	static _Thread_local uint64_t seed;
	sigjmp_buf here;
	int old;

	seed = (uint64_t)(uintptr_t)arg;
	free(malloc(100));
	if (sigsetjmp(here, 1) != 0)
		atomic_fetch_add(&jumped, 1);
	back = &here;
	atomic_store(&may_leave, true);
	if (way == ASYNC)
		pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &old);
	for (unsigned n = 1; !atomic_load(&over); n++) {
		void *p = malloc(helper_random(&seed) % 50 == 0 ? BIG : size_of(&seed));
		void *q = malloc(size_of(&seed));

		free(p);
		free(q);
		if (n % 256 == 0)
			malloc_trim(0);
	}
	back = NULL;
	return NULL;
}

static void case_left(int how)
{
	struct sigaction a = { .sa_handler = leave };
	uint64_t seed = 5;
	pthread_t t;

	way = how;
	sigaction(SIGUSR1, &a, NULL);
	if (how == JUMP)
		start(&t, interrupted, (void *)(uintptr_t)3);
	for (unsigned i = 0; i < STEPS; i++) {
		unsigned seen = atomic_load(&jumped);

		begin("a thread leaves");
		if (how != JUMP) {
			atomic_store(&may_leave, false);
			start(&t, interrupted, (void *)(uintptr_t)(i + 1));
		}
		while (!atomic_load(&may_leave))
			usleep(200);
		usleep((useconds_t)(1000 + helper_random(&seed) % 5000));
		if (how == ASYNC) {
			pthread_cancel(t);
			pthread_join(t, NULL);
		} else if (how == EXIT) {
			pthread_kill(t, SIGUSR1);
			pthread_join(t, NULL);
		} else {
			pthread_kill(t, SIGUSR1);
			while (atomic_load(&jumped) == seen)
				usleep(500);
		}
		begin("the others");
		others_go_on();
		if (i % 8 == 0) {
			begin("fork");
			fork_once();
		}
	}
	others_end();
	if (how == JUMP)
		pthread_join(t, NULL);
	CHECK(how != JUMP || atomic_load(&jumped) >= STEPS, "%u jumps", atomic_load(&jumped));
}

/* ---- stream ---------------------------------------------------------------------------------- */

static _Atomic unsigned written;
static sigjmp_buf out_of_stream;

static ssize_t stream_write(void *jumps, const char *text, size_t len)
{
	void *p = malloc(len);

	if (p != NULL)
		memcpy(p, text, len);
	free(p);
	if (atomic_fetch_add(&written, 1) % 16 == 0) {
		malloc_trim(0);
		call_drain();
		call_drain_threads();
		call_disable();
		fork_once();
	}
	if (jumps != NULL && atomic_load(&written) % 8 == 0)
		siglongjmp(out_of_stream, 1);
	return (ssize_t)len;
}

static void case_stream(void)
{
	const cookie_io_functions_t io = { .write = stream_write };
	static int jumps = 1;
	FILE *f = fopencookie(NULL, "w", io);
	FILE *g = fopencookie(&jumps, "w", io);

	setvbuf(f, NULL, _IONBF, 0);
	setvbuf(g, NULL, _IONBF, 0);
	begin("malloc_info on a stream of the program's");
	CHECK(malloc_info(0, f) == 0, "errno %d", errno);
	CHECK(atomic_load(&written) > 16, "%u writes", atomic_load(&written));
	fclose(f);
	/* From now on the stream's lock is held, and no other lock. */
	if (sigsetjmp(out_of_stream, 1) == 0) {
		malloc_info(0, g);
		CHECK(0, "nothing jumped");
	}
	others_go_on();
}

int main(int argc, char **argv)
{
	const char *name = argc == 2 ? argv[1] : "";

	find_all();
	signal(SIGALRM, hung);
	others_start();
	if (strcmp(name, "pending") == 0) {
		case_pending();
		others_end();
	} else if (strcmp(name, "random") == 0) {
		case_random();
		others_end();
	} else if (strcmp(name, "async") == 0) {
		case_left(ASYNC);
	} else if (strcmp(name, "exit") == 0) {
		case_left(EXIT);
	} else if (strcmp(name, "jump") == 0) {
		case_left(JUMP);
	} else if (strcmp(name, "stream") == 0) {
		case_stream();
		others_end();
	} else {
		fprintf(stderr, "usage: cancel pending|random|async|exit|jump|stream\n");
		return 2;
	}
	return helper_end();
}
