/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Calls the allocator early and late in the life of a process or a thread.
 *
 * usage: lifecycle CASE [ARGS...]
 */
#include "lib/check.h"

#include <dlfcn.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>

static void start(pthread_t *t, void *(*f)(void *), void *arg)
{
	int e = pthread_create(t, NULL, f, arg);

	if (e != 0) {
		helper_say("pthread_create: %s", strerror(e));
		_exit(98);
	}
}

/* Gives free memory back first, because the background thread does so at its own time. */
static long rss_without_free(void)
{
	malloc_trim(0);
	return helper_rss_kib();
}

static void run_in_thread(void *(*f)(void *), void *arg)
{
	pthread_t t;

	start(&t, f, arg);
	pthread_join(t, NULL);
}

/* ---- before main and after it ---------------------------------------------------------------- */

enum { EARLY = 64 };
static void *early[EARLY];
static int early_stage;

/* Runs before the constructor of any library, the preloaded one included. */
static void before_constructors(int argc, char **argv, char **envp)
{
	(void)argc;
	(void)argv;
	(void)envp;
	for (size_t i = 0; i < EARLY; i++) {
		early[i] = malloc(i * i * 40 + 1);
		if (early[i] != NULL)
			helper_fill(early[i], i * i * 40 + 1, i);
	}
	for (int i = 0; i < EARLY; i += 3) {
		free(early[i]);
		early[i] = NULL;
	}
	early_stage = 1;
}

__attribute__((section(".preinit_array"),
	       used)) static void (*const preinit)(int, char **, char **) = before_constructors;

__attribute__((constructor)) static void in_constructor(void)
{
	for (size_t i = 0; i < EARLY; i += 3) {
		early[i] = calloc(1, i * i * 40 + 1);
		if (early[i] != NULL)
			helper_fill(early[i], i * i * 40 + 1, i);
	}
	early_stage = early_stage == 1 ? 2 : -1;
}

static int report_late;

/* Checks that every early block is whole; frees half of them and allocates others. */
static void early_check(int stage)
{
	CHECK(early_stage == stage, "stage %d, not %d", early_stage, stage);
	for (size_t i = 0; i < EARLY; i++) {
		size_t n = i * i * 40 + 1;

		CHECK(early[i] != NULL && helper_verify(early[i], n, i) == n, "block %zu was lost",
		      i);
		if (i % 2 == 0) {
			free(early[i]);
			early[i] = malloc(n);
			helper_fill(early[i], n, i);
		}
	}
	early_stage = stage + 1;
}

static void at_exit_handler(void)
{
	if (report_late)
		early_check(3);
}

__attribute__((destructor)) static void in_destructor(void)
{
	if (!report_late)
		return;
	early_check(4);
	for (int i = 0; i < EARLY; i++)
		free(early[i]);
	if (helper_end() != 0)
		_exit(97);
}

static int case_process(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	report_late = 1;
	atexit(at_exit_handler);
	early_check(2);
	return 0; /* helper_end() is in the destructor */
}

/* ---- dlopen and dlclose of objects that allocate --------------------------------------------- */

static const char *plugin_path;

static void *plugin_rounds(void *arg)
{
	int rounds = (int)(intptr_t)arg;
	char *kept = NULL;

	for (int i = 0; i < rounds; i++) {
		void *h = dlopen(plugin_path, i & 1 ? RTLD_NOW : RTLD_LAZY);
		CHECK(h != NULL, "dlopen: %s", dlerror());
		if (h == NULL)
			break;
		char *(*give)(size_t);
		void (*take)(char *);
		int (*state)(void);
		*(void **)&give = dlsym(h, "plugin_give");
		*(void **)&take = dlsym(h, "plugin_take");
		*(void **)&state = dlsym(h, "plugin_state");
		CHECK(dlsym(h, "no_such_symbol") == NULL && dlerror() != NULL,
		      "dlsym of a missing name");
		CHECK(state() == 100, "the constructor's blocks: %d of 100 are whole", state());
		if (kept != NULL) {
			CHECK(strcmp(kept, "from the plugin") == 0, "a block of a closed plugin");
			take(kept);
		}
		kept = give(20 + (size_t)i * 37);
		take(give(200000));
		dlclose(h);
		CHECK(strcmp(kept, "from the plugin") == 0, "a block of a closed plugin");
	}
	free(kept);
	return NULL;
}

static int case_dlopen(int argc, char **argv)
{
	pthread_t t[3];

	if (argc < 3)
		return 2;
	plugin_path = argv[2];
	plugin_rounds((void *)(intptr_t)100);
	for (int i = 0; i < 3; i++)
		start(&t[i], plugin_rounds, (void *)(intptr_t)50);
	for (int i = 0; i < 3; i++)
		pthread_join(t[i], NULL);
	return helper_end();
}

/* ---- pthread keys ---------------------------------------------------------------------------- */

enum { KEYS = 16, ROUNDS = 4 };
static pthread_key_t keys[KEYS];
static _Atomic int key_calls;

/* Each value is a block that says which round it is in. The destructor sets the key again until the
 * last round. */
static void key_destructor(void *value)
{
	int *v = value;
	int round = v[0], key = v[1];

	atomic_fetch_add(&key_calls, 1);
	CHECK(helper_verify(v + 2, 100, (uintptr_t)key) == 100, "value of key %d, round %d", key,
	      round);
	free(v);
	free(malloc((size_t)key * 700 + 1));
	free(calloc(1, 100000));
	if (round < ROUNDS) {
		v = malloc(108 + (size_t)round * 3000);
		if (v == NULL)
			abort();
		v[0] = round + 1;
		v[1] = key;
		helper_fill(v + 2, 100, (uintptr_t)key);
		pthread_setspecific(keys[key], v);
	}
}

static void *key_thread(void *arg)
{
	for (int k = 0; k < KEYS; k++) {
		int *v = malloc(108);
		if (v == NULL)
			abort();
		v[0] = 1;
		v[1] = k;
		helper_fill(v + 2, 100, (uintptr_t)k);
		pthread_setspecific(keys[k], v);
	}
	return arg;
}

static int case_keys(int argc, char **argv)
{
	enum { THREADS = 200 };

	(void)argc;
	(void)argv;
	for (int k = 0; k < KEYS; k++)
		pthread_key_create(&keys[k], key_destructor);
	for (int i = 0; i < THREADS; i++)
		run_in_thread(key_thread, NULL);
	CHECK(key_calls == THREADS * KEYS * ROUNDS, "%d calls of destructors", key_calls);
	return helper_end();
}

/* ---- memory that destructors of keys allocate last of all ------------------------------------ */

static pthread_key_t late_key;
static _Atomic(void *) late_kept[8];

/* Allocates in each round. Another thread frees what the last round allocated. */
static void late_destructor(void *value)
{
	intptr_t round = (intptr_t)value;

	for (size_t i = 0; i < 8; i++) {
		size_t n = (size_t)round * 20000 + i * 3000 + 24;
		void *p = malloc(n);
		if (p == NULL)
			abort();
		memset(p, (int)i, n);
		free(atomic_exchange(&late_kept[i], p));
	}
	if (round < ROUNDS)
		pthread_setspecific(late_key, (void *)(round + 1));
}

static void *late_thread(void *arg)
{
	pthread_setspecific(late_key, (void *)1);
	return arg;
}

static int case_late_keys(int argc, char **argv)
{
	long base = 0;

	(void)argc;
	(void)argv;
	pthread_key_create(&late_key, late_destructor);
	for (int i = 0; i < 1200; i++) {
		if (i == 200)
			base = rss_without_free();
		run_in_thread(late_thread, NULL);
	}
	long grown = rss_without_free() - base;
	CHECK(grown < 4096, "1,000 threads whose key destructors allocate: %ld KiB more", grown);
	return helper_end();
}

/* ---- the first call a thread makes ----------------------------------------------------------- */

static void *first_free(void *arg)
{
	free(arg);
	void *p = malloc(100);
	CHECK(p != NULL, "malloc after a first free");
	free(p);
	return NULL;
}

static void *first_free_only(void *arg)
{
	free(arg);
	return NULL;
}

static void *first_realloc(void *arg)
{
	size_t old = malloc_usable_size(arg);
	unsigned char *p = realloc(arg, old * 3 + 100);

	CHECK(p != NULL && helper_verify(p, 16, 3) == 16, "realloc as the first call");
	free(p);
	return NULL;
}

static void *first_realloc_null(void *arg)
{
	free(realloc(NULL, 1000));
	return arg;
}

static void *first_realloc_zero(void *arg)
{
	CHECK(realloc(arg, 0) == NULL, "realloc(p, 0) as the first call");
	return NULL;
}

static void *first_usable(void *arg)
{
	CHECK(malloc_usable_size(arg) >= 16, "malloc_usable_size as the first call");
	free(arg);
	return NULL;
}

static void *first_trim(void *arg)
{
	malloc_trim(0);
	free(arg);
	return NULL;
}

static void *first_calloc(void *arg)
{
	free(arg);
	unsigned char *p = calloc(1, 5000);
	size_t i = 0;
	while (p != NULL && i < 5000 && p[i] == 0)
		i++;
	CHECK(i == 5000, "calloc");
	free(p);
	return NULL;
}

static int case_first(int argc, char **argv)
{
	static void *(*const first[])(
		void *) = { first_free,         first_free_only, first_realloc, first_realloc_null,
			    first_realloc_zero, first_usable,    first_trim,    first_calloc };
	static const size_t n[] = { 16, 100, 1000, 10000, 40000, 200000, 5000000, 100000000 };
	enum { F = sizeof first / sizeof *first, N = sizeof n / sizeof *n };

	(void)argc;
	(void)argv;
	for (int round = 0; round < 20; round++)
		for (int f = 0; f < F; f++)
			for (int s = 0; s < N; s++) {
				unsigned char *p = malloc(n[s]);
				if (p == NULL)
					abort();
				helper_fill(p, 16, 3);
				run_in_thread(first[f], p);
				if (first[f] == first_realloc_null)
					free(p);
			}
	CHECK(helper_rss_kib() < 200 * 1024, "%ld KiB resident", helper_rss_kib());
	return helper_end();
}

/* ---- the thread that initialised the library ends first -------------------------------------- */

static void *goes_on(void *arg)
{
	static _Atomic int left = 3;
	struct timespec ms = { 0, 1000000 };
	uint64_t seed = (uint64_t)(intptr_t)arg;

	for (int i = 0; i < 200; i++) {
		unsigned char *p[50];
		for (int k = 0; k < 50; k++) {
			size_t n = helper_random(&seed) % 30000 + 1;
			p[k] = malloc(n);
			if (p[k] == NULL)
				abort();
			memset(p[k], k, n);
		}
		for (int k = 0; k < 50; k++) {
			CHECK(p[k][0] == k, "a block changed");
			free(p[k]);
		}
		if (i % 10 == 0)
			nanosleep(&ms, NULL);
	}
	if (atomic_fetch_sub(&left, 1) == 1) {
		/* the blocks that the initial thread left behind */
		for (size_t i = 0; i < EARLY; i++) {
			CHECK(helper_verify(early[i], i * i * 40 + 1, i) == i * i * 40 + 1,
			      "block %zu was lost", i);
			free(early[i]);
		}
		exit(helper_end());
	}
	return NULL;
}

static int case_main_exits(int argc, char **argv)
{
	pthread_t t;

	(void)argc;
	(void)argv;
	for (intptr_t i = 1; i <= 3; i++)
		start(&t, goes_on, (void *)i);
	pthread_exit(NULL);
}

static void at_exit(void)
{
	printf("2 checks, 0 failed\n");
}

static void *ends_soon(void *arg)
{
	free(malloc(1000));
	usleep(50000);
	return arg;
}

/* The first thread ends, then all others: the process ends as by exit(0). */
static int case_all_exit(int argc, char **argv)
{
	pthread_t t;

	(void)argc;
	(void)argv;
	atexit(at_exit);
	for (int i = 0; i < 3; i++)
		start(&t, ends_soon, NULL);
	pthread_exit(NULL);
}

/* ---- many threads, one after the other and some at a time ------------------------------------ */

static _Atomic int many_allocate;

static void *many_thread(void *arg)
{
	if (many_allocate) {
		void *p[20];
		for (size_t i = 0; i < 20; i++)
			p[i] = malloc(i * i * 100 + 10);
		for (int i = 0; i < 20; i++)
			free(p[i]);
	}
	return arg;
}

static int case_many(int argc, char **argv)
{
	enum { TOTAL = 10000, AT_A_TIME = 10 };

	(void)argc;
	(void)argv;
	for (int allocate = 1; allocate >= 0; allocate--) {
		long base = 0;

		many_allocate = allocate;
		for (int i = 0; i < TOTAL; i += AT_A_TIME) {
			pthread_t t[AT_A_TIME];

			if (i == 1000)
				base = rss_without_free();
			for (int k = 0; k < AT_A_TIME; k++)
				start(&t[k], many_thread, NULL);
			for (int k = 0; k < AT_A_TIME; k++)
				pthread_join(t[k], NULL);
		}
		long grown = rss_without_free() - base;
		CHECK(grown < 8192, "9,000 threads that allocate %s: %ld KiB more",
		      allocate ? "a little" : "nothing", grown);
	}
	return helper_end();
}

/* ---- a signal handler that allocates --------------------------------------------------------- */

enum { SLOTS = 256 };
static _Atomic(unsigned char *) exchange_slots[SLOTS];
static _Atomic unsigned long handled;
static _Atomic int storm_over;

/* A block with its size and a pattern; sizes of every kind. */
static unsigned char *storm_block(uint64_t *seed)
{
	uint64_t r = helper_random(seed);
	size_t n = 16 + (r & 15 ? r / 16 % 2000 : r & 0xf0 ? r / 256 % 40000 : r / 256 % 400000);
	unsigned char *p;

	switch (r >> 60) {
	case 0:
		p = calloc(1, n);
		break;
	case 1:
		p = aligned_alloc(64, n);
		break;
	case 2:
		p = realloc(malloc(n / 2 + 1), n);
		break;
	default:
		p = malloc(n);
	}
	if (p == NULL)
		return NULL;
	memcpy(p, &n, sizeof n);
	helper_fill(p + 8, n < 200 ? n - 9 : 190, n);
	p[n - 1] = (unsigned char)n;
	return p;
}

static void storm_free(unsigned char *p)
{
	size_t n;

	if (p == NULL)
		return;
	memcpy(&n, p, sizeof n);
	CHECK(n >= 16 && n < 500000, "a block's size was overwritten: %zu", n);
	size_t head = n < 200 ? n - 9 : 190;
	CHECK(helper_verify(p + 8, head, n) == head, "a block of %zu lost its pattern", n);
	CHECK(p[n - 1] == (unsigned char)n, "a block of %zu lost its last byte", n);
	free(p);
}

static void storm_handler(int sig)
{
	static uint64_t seed = 12345;
	int saved = errno;

	(void)sig;
	for (int i = 0; i < 3; i++) {
		size_t slot = helper_random(&seed) % SLOTS;
		storm_free(atomic_exchange(&exchange_slots[slot], storm_block(&seed)));
	}
	handled++;
	errno = saved;
}

struct storm {
	pid_t pid, tid;
};

static void *storm_sender(void *arg)
{
	struct storm *s = arg;
	uint64_t seed = 99;

	while (!storm_over) {
		syscall(SYS_tgkill, s->pid, s->tid, SIGUSR1);
		/* interrupts the code at a different place each time */
		for (volatile uint64_t spin = helper_random(&seed) % 3000; spin > 0; spin--)
			;
		free(malloc(1000));
	}
	return NULL;
}

static int case_signals(int argc, char **argv)
{
	double seconds = argc > 2 ? atof(argv[2]) : 2;
	struct sigaction sa = { .sa_handler = storm_handler, .sa_flags = SA_RESTART };
	struct storm s = { getpid(), (pid_t)syscall(SYS_gettid) };
	struct timespec t0, t1;
	uint64_t seed = 7;
	unsigned long rounds = 0;
	double took;
	pthread_t t;

	/* A run that is stuck fails. */
	alarm(test_limit((unsigned)seconds + 100));
	sigaction(SIGUSR1, &sa, NULL);
	clock_gettime(CLOCK_MONOTONIC, &t0);
	start(&t, storm_sender, &s);
	do {
		for (int i = 0; i < 1000; i++) {
			size_t slot = helper_random(&seed) % SLOTS;
			unsigned char *p = storm_block(&seed);

			CHECK(p != NULL, "an allocation failed");
			storm_free(atomic_exchange(&exchange_slots[slot], p));
		}
		rounds++;
		clock_gettime(CLOCK_MONOTONIC, &t1);
		took = (double)(t1.tv_sec - t0.tv_sec) + (double)(t1.tv_nsec - t0.tv_nsec) / 1e9;
		/* If both threads share a processor, one signal arrives in each time slice, and
		 * on a loaded machine the slices are far apart. */
	} while (took < seconds || handled <= (took < 20 ? 500 : 50));
	storm_over = 1;
	pthread_join(t, NULL);
	for (int i = 0; i < SLOTS; i++)
		storm_free(atomic_exchange(&exchange_slots[i], NULL));
	fprintf(stderr, "%lu signals handled, %lu rounds\n", handled, rounds);
	CHECK(handled > 50, "only %lu signals were handled", handled);
	CHECK(rounds > 5, "only %lu rounds", rounds);
	return helper_end();
}

/* ---- cancellation ---------------------------------------------------------------------------- */

static FILE *locked_file;

/* Cancelled in the middle of fputs, which holds the file's lock. */
static void *cancelled_in_stdio(void *arg)
{
	free(malloc(100));
	pthread_cancel(pthread_self());
	fputs("to be cancelled\n", locked_file);
	return arg;
}

/* The C library loads libgcc_s for that. No library that came with ours may come before it. */
static int case_cancel(int argc, char **argv)
{
	pthread_t t;
	void *result = NULL;

	(void)argc;
	(void)argv;
	locked_file = fopen("/dev/null", "w");
	if (locked_file == NULL)
		abort();
	setvbuf(locked_file, NULL, _IONBF, 0);
	start(&t, cancelled_in_stdio, NULL);
	pthread_join(t, &result);
	CHECK(result == PTHREAD_CANCELED, "the thread was not cancelled");
	int e = ftrylockfile(locked_file);
	CHECK(e == 0, "the thread that was cancelled holds the file's lock still");
	return helper_end();
}

/* ---- a sandbox ------------------------------------------------------------------------------- */

static _Atomic unsigned polls_refused;
static unsigned seconds_slept;

static void refused(int sig, siginfo_t *info, void *context)
{
	ucontext_t *u = context;

	(void)sig;
	(void)info;
	atomic_fetch_add(&polls_refused, 1);
#if defined(__x86_64__)
	u->uc_mcontext.gregs[REG_RAX] = -EPERM;
#else
	u->uc_mcontext.regs[0] = (unsigned long)-EPERM;
#endif
}

static void *cache_and_sleep(void *arg)
{
	const struct timespec ts = { 1, 0 };
	void *p = malloc(1000);

	free(malloc(100));
	/* Waits until the background thread has run. */
	do {
		nanosleep(&ts, NULL);
		seconds_slept++;
	} while (polls_refused == 0 && seconds_slept < 60);
	free(p);
	return arg;
}

/* A filter that the library does not know of sends SIGSYS for poll, as a browser's sandbox does:
 * the background thread takes the signal, and sleeps nevertheless. */
static int case_sandbox(int argc, char **argv)
{
#ifdef SYS_poll
	const unsigned short poll_number = SYS_poll;
#else
	const unsigned short poll_number = SYS_ppoll;
#endif
	struct sock_filter rules[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, poll_number, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog program = { sizeof rules / sizeof *rules, rules };
	struct sigaction action = { .sa_sigaction = refused, .sa_flags = SA_SIGINFO };

	(void)argc;
	(void)argv;
	if (sigaction(SIGSYS, &action, NULL) != 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
	    helper_raw_syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, (long)&program) != 0)
		return 77;
	run_in_thread(cache_and_sleep, NULL);
	CHECK(polls_refused > 0, "the background thread did not run");
	CHECK(polls_refused < 1000 * seconds_slept, "it tried %u times in %u s", polls_refused,
	      seconds_slept);
	return helper_end();
}

static const struct {
	const char *name;
	int (*run)(int, char **);
} cases[] = {
	{ "process", case_process },   { "dlopen", case_dlopen },
	{ "keys", case_keys },         { "late-keys", case_late_keys },
	{ "first", case_first },       { "main-exits", case_main_exits },
	{ "all-exit", case_all_exit }, { "many", case_many },
	{ "signals", case_signals },   { "cancel", case_cancel },
	{ "sandbox", case_sandbox },
};

int main(int argc, char **argv)
{
	for (size_t i = 0; argc > 1 && i < sizeof cases / sizeof *cases; i++)
		if (strcmp(cases[i].name, argv[1]) == 0)
			return cases[i].run(argc, argv);
	fprintf(stderr, "usage: lifecycle CASE [ARGS...]\n");
	return 2;
}
