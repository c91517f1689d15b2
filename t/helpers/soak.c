/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A long run of everything at once: hundreds of threads start and end, threads are cancelled,
 * signal handlers allocate and fork, new processes are made in every way, drains run, and threads
 * free blocks of all sizes that other threads allocated.
 *
 *      soak [--seconds N] [--seed S] [--patience N] [--waves N]
 *           [--only KIND,...] [--without KIND,...]
 *
 * --seconds N   length of the run (default 60); a warm-up of N/4 s, at most 15 s, precedes it
 * --seed S      seed of all random numbers, printed; by default it comes from the clock
 * --patience N  a thread that is in one call for N seconds counts as hanging (default 60), unless
 *               it only waits for the kernel again and again; then after 4 N seconds
 * --waves N     number of threads that start waves of up to 100 other threads (default 3)
 *
 * KIND: see kinds[]. All threads allocate, free and realloc; each kind adds what kinds[] says.
 *
 * Each object carries a pattern derived from its address and the seed, which is checked before the
 * object is freed, and what a thread notes of its objects, on its stack, carries a seal. A separate
 * process watches. If a thread hangs, dies of a signal or finds a change, the watcher prints the
 * stacks of all threads with gdb (if installed) and ends the program. At the end all threads are
 * joined and everything is drained; the resident memory must then be at most 8 MiB above its value
 * after the warm-up.
 */
#include "lib/check.h"
#include "lib/statm.h"

#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sluice/sluice.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

extern char **environ;

enum {
	OWN = 24,          /* objects that a thread has */
	CROSS = 512,       /* objects on their way from thread to thread */
	SEATS = 1024,      /* threads that are watched */
	WAVE = 100,        /* threads of one wave */
	CHURNERS = 4,      /* threads that live throughout */
	CHILDREN_MAX = 16, /* processes at a time */
	WHOLE = 2048,      /* up to here each byte carries the pattern */
	PAGE = 4096,       /* above it 8 bytes of each page, and EDGE at both ends */
	EDGE = 64,
	STACK = 256 << 10,
	SETTLE_S = 30,      /* until memory must be back at the kernel */
	KEPT_KIB = 8 << 10, /* maximal growth from start to end */
};
#define HUGE_MAX ((size_t)40 << 20)
#define BIG_LIVE_MAX ((size_t)256 << 20) /* of blocks above 1 MiB */

enum kind {
	K_CANCEL,
	K_SIGNALS,
	K_HANDLERFORK,
	K_FORK,
	K_VFORK,
	K_SPAWN,
	K_CLONE,
	K_DRAIN,
	K_WAVES,
	K_BIG,
	K_CROSS,
	K_LIMITS,
	K_INFO,
	KINDS
};

static const char *const kinds[KINDS] = {
	[K_CANCEL] = "cancel",   /* threads of waves are cancelled (deferred) */
	[K_SIGNALS] = "signals", /* handlers that allocate, in all threads */
	[K_HANDLERFORK] =
		"handlerfork", /* they fork as well, if they interrupted the malloc family */
	[K_FORK] = "fork",
	[K_VFORK] = "vfork",
	[K_SPAWN] = "spawn",   /* posix_spawn */
	[K_CLONE] = "clone",   /* _Fork, and raw clone */
	[K_DRAIN] = "drain",   /* malloc_trim and sluice_drain */
	[K_WAVES] = "waves",   /* threads that start and end */
	[K_BIG] = "big",       /* blocks above 256 KiB */
	[K_CROSS] = "cross",   /* objects are freed by other threads */
	[K_LIMITS] = "limits", /* RLIMIT_AS falls to the current use, and is lifted again */
	[K_INFO] = "info",     /* malloc_info, mallinfo2 */
};

static unsigned wanted = (1u << KINDS) - 1;

static bool on(enum kind kind)
{
	return wanted >> kind & 1;
}

/* ---- what the watching process sees ---------------------------------------------------------- */

/* A thread that is watched. Written by its thread; `what` points to a literal, which the watcher
 * has at the same address, because it was forked. */
struct seat {
	_Atomic(pid_t) tid; /* 0: free */
	_Atomic unsigned long moved;
	const char *_Atomic what;
};

static struct watched {
	struct seat seat[SEATS];
	_Atomic unsigned long count[KINDS]; /* how often each was done */
	_Atomic unsigned long objects, threads, cancelled, handlers;
	_Atomic int bad_signal; /* the signal that a process died of */
	_Atomic(pid_t) bad_pid, bad_tid;
	_Atomic bool done;
} * watched;

static uint64_t run_seed;
static unsigned patience = 60;
static _Atomic bool over;
static int (*drain)(unsigned, struct sluice_drain_report *);

static __thread struct seat *seat;
/* The thread is in a call of the malloc family and in no other: a handler may fork. */
static __thread volatile sig_atomic_t in_call;

static void doing(const char *what)
{
	if (seat == NULL)
		return;
	atomic_store_explicit(&seat->what, what, memory_order_relaxed);
	atomic_fetch_add_explicit(&seat->moved, 1, memory_order_relaxed);
}

static void count(enum kind kind)
{
	atomic_fetch_add_explicit(&watched->count[kind], 1, memory_order_relaxed);
}

/*
 * RLIMIT_AS is low while it is odd; a child of fork lifts its own. A call that begins and ends with
 * the same even number must have its memory.
 */
static _Atomic unsigned dips;

static struct rlimit usual_limit;

static bool may_fail(unsigned dip)
{
	return (dip & 1) || atomic_load(&dips) != dip;
}

/* Tells the watcher, which prints the stacks and ends us. Also runs as a signal handler. */
static void give_up(int sig)
{
	pid_t none = 0;

	if (atomic_compare_exchange_strong(&watched->bad_pid, &none, getpid())) {
		atomic_store(&watched->bad_tid, (pid_t)syscall(SYS_gettid));
		atomic_store(&watched->bad_signal, sig);
	}
	for (;;)
		syscall(SYS_pause);
}

static void stacks(pid_t pid)
{
	char command[256];

	snprintf(command, sizeof command,
		 "timeout 100 gdb -p %d -batch -nx -ex 'set pagination off' "
		 "-ex 'thread apply all bt 24' 2>&1 | grep -v '^\\[New LWP'",
		 pid);
	helper_say("---- stacks of process %d ----", pid);
	if (system("command -v gdb >/dev/null 2>&1") != 0)
		helper_say("no gdb");
	else if (system(command) < 0)
		helper_say("gdb cannot be run");
}

/* The hang may be in a process that a thread waits for. */
static void stacks_of_children(pid_t pid, pid_t tid)
{
	char text[4096], *at = text, *end;
	int fd;

	snprintf(text, sizeof text, "/proc/%d/task/%d/children", pid, tid);
	fd = open(text, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	ssize_t n = read(fd, text, sizeof text - 1);
	close(fd);
	text[n > 0 ? n : 0] = 0;
	for (long child; (child = strtol(at, &end, 10)) > 0; at = end)
		if (child != getpid())
			stacks((pid_t)child);
}

/* What the watcher knows of a seat. ran_ns, slices: of schedstat, when the call was first seen and
 * when half of the patience was over. */
static struct look {
	unsigned long moved;
	unsigned still; /* seconds in one call */
	bool told;
	unsigned long long ran_ns, slices;
} look_at[SEATS];

/* Processor time of a thread, and how often it got a processor. Returns false if the kernel does
 * not say. */
static bool schedule_of(pid_t pid, pid_t tid, unsigned long long *ran_ns,
			unsigned long long *slices)
{
	char path[64];
	FILE *f;
	bool good;

	snprintf(path, sizeof path, "/proc/%d/task/%d/schedstat", pid, tid);
	f = fopen(path, "re");
	good = f != NULL && fscanf(f, "%llu %*u %llu", ran_ns, slices) == 2;
	if (f != NULL)
		fclose(f);
	return good;
}

/* Whether it waits for a processor, or for a lock within the kernel. */
static bool waits_for_machine(pid_t pid, pid_t tid)
{
	char path[64], state = 0;
	FILE *f;
	bool good;

	snprintf(path, sizeof path, "/proc/%d/task/%d/stat", pid, tid);
	f = fopen(path, "re");
	good = f != NULL && fscanf(f, "%*d %*[^)]) %c", &state) == 1;
	if (f != NULL)
		fclose(f);
	return good && (state == 'R' || state == 'D');
}

static void say_slow(pid_t pid, pid_t tid, const char *what, unsigned still, double ms,
		     unsigned long long slices)
{
	char path[64], where[64] = "";
	FILE *f;

	snprintf(path, sizeof path, "/proc/%d/task/%d/wchan", pid, tid);
	f = fopen(path, "re");
	if (f != NULL) {
		if (fgets(where, sizeof where, f) == NULL)
			*where = 0;
		fclose(f);
	}
	helper_say("slow: thread %d has been in %s for %u s: it ran for %.1f ms, got a processor "
		   "%llu times in the second half, and waits in %s",
		   tid, what, still, ms, slices, where);
}

/*
 * A thread that makes many system calls waits for the processor and for the kernel's lock of the
 * address space each time. On a busy machine that can take longer than the patience. It is no hang:
 * unlike a thread whose wake-up was lost it runs now and then, or would if it got a processor, and
 * unlike one in a livelock it uses little processor time.
 */
static bool is_slow(pid_t pid, pid_t tid, struct look *l, const char *what)
{
	unsigned long long ran_ns, slices;

	if (l->still >= 4 * patience || !schedule_of(pid, tid, &ran_ns, &slices) ||
	    (slices == l->slices && !waits_for_machine(pid, tid)) ||
	    ran_ns - l->ran_ns > patience * 250000000ull)
		return false;
	if (!l->told)
		say_slow(pid, tid, what, l->still, (double)(ran_ns - l->ran_ns) / 1e6,
			 slices - l->slices);
	l->told = true;
	return true;
}

static void look_on(pid_t pid, pid_t tid, struct look *l, unsigned long now)
{
	unsigned long long ran_ns = 0, slices = 0;

	if (tid == 0 || now != l->moved)
		*l = (struct look){ .moved = now };
	else
		l->still++;
	if (l->still != 1 && l->still != patience / 2 + 1)
		return;
	schedule_of(pid, tid, &ran_ns, &slices);
	if (l->still == 1)
		l->ran_ns = ran_ns;
	l->slices = slices;
}

static bool looks_bad(pid_t pid)
{
	pid_t bad = atomic_load(&watched->bad_pid);
	bool found = false;

	if (bad != 0) {
		helper_say("BAD: signal %d in thread %d of process %d (seed %llu)",
			   atomic_load(&watched->bad_signal), atomic_load(&watched->bad_tid), bad,
			   (unsigned long long)run_seed);
		stacks(bad);
		if (bad != pid)
			stacks(pid);
		return true;
	}
	for (unsigned i = 0; i < SEATS; i++) {
		struct seat *s = &watched->seat[i];
		unsigned long now = atomic_load(&s->moved);
		pid_t tid = atomic_load(&s->tid);
		struct look *l = &look_at[i];
		const char *what = atomic_load(&s->what);

		look_on(pid, tid, l, now);
		if (l->still < patience || is_slow(pid, tid, l, what))
			continue;
		helper_say("HANG: thread %d has been in %s for %u s (seed %llu)", tid, what,
			   l->still, (unsigned long long)run_seed);
		if (!found)
			stacks_of_children(pid, tid);
		found = true;
	}
	if (found)
		stacks(pid);
	return found;
}

/* A separate process, so that a stop of the program does not stop it. */
static void watch(pid_t pid)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	unsetenv("LD_PRELOAD");
	while (getppid() == pid && !atomic_load(&watched->done)) {
		sleep(1);
		if (looks_bad(pid)) {
			kill(pid, SIGKILL);
			_exit(1);
		}
	}
	_exit(0);
}

static void handle(int sig, void (*f)(int))
{
	struct sigaction action = { .sa_handler = f, .sa_flags = SA_RESTART };

	sigaction(sig, &action, NULL);
}

struct object {
	unsigned char *p;
	size_t n;
	uintptr_t seal; /* of p and n: whether somebody wrote over them */
};

static __thread const struct object *notes; /* OWN of them: this thread's objects */

/* A fault: prints what the stacks do not show, the registers and what the thread notes. */
static void dies(int sig, siginfo_t *info, void *context)
{
	const ucontext_t *c = context;

	helper_say("signal %d at address %p", sig, info->si_addr);
#if defined(__x86_64__)
	for (int i = 0; i < NGREG; i += 4)
		helper_say("registers %d: %#llx %#llx %#llx %#llx", i, c->uc_mcontext.gregs[i],
			   i + 1 < NGREG ? c->uc_mcontext.gregs[i + 1] : 0,
			   i + 2 < NGREG ? c->uc_mcontext.gregs[i + 2] : 0,
			   i + 3 < NGREG ? c->uc_mcontext.gregs[i + 3] : 0);
#else
	(void)c;
#endif
	for (unsigned i = 0; notes != NULL && i < OWN; i++)
		helper_say("note %u at %p: address %p, size %zu, seal %#zx", i,
			   (const void *)&notes[i], (void *)notes[i].p, notes[i].n,
			   (size_t)notes[i].seal);
	give_up(sig);
}

static void start_watching(void)
{
	pid_t pid = getpid();

	watched = mmap(NULL, sizeof *watched, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		       -1, 0);
	if (watched == MAP_FAILED)
		_exit(98);
	prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);
	if (fork() == 0)
		watch(pid);
	static const int fatal[] = { SIGSEGV, SIGBUS, SIGABRT, SIGILL, SIGFPE };
	for (size_t i = 0; i < sizeof fatal / sizeof *fatal; i++) {
		struct sigaction action = { .sa_sigaction = dies, .sa_flags = SA_SIGINFO };

		sigaction(fatal[i], &action, NULL);
	}
}

static void sit_down(void)
{
	pid_t tid = (pid_t)syscall(SYS_gettid);

	for (unsigned i = 0; i < SEATS && seat == NULL; i++) {
		pid_t none = 0;

		if (atomic_load_explicit(&watched->seat[i].tid, memory_order_relaxed) == 0 &&
		    atomic_compare_exchange_strong(&watched->seat[i].tid, &none, tid))
			seat = &watched->seat[i];
	}
	doing("start");
}

static void stand_up(void)
{
	struct seat *s = seat;

	seat = NULL;
	if (s != NULL)
		atomic_store(&s->tid, 0);
}

/* ---- objects --------------------------------------------------------------------------------- */

/* The state of a thread, on its stack. */
struct own {
	uint64_t random;
	struct object object[OWN];
	bool stays; /* it lives until the end of the run and is never cancelled */
};

static _Atomic size_t big_live;

static uintptr_t pattern(const void *p)
{
	return ((uintptr_t)p ^ (uintptr_t)run_seed * 0x9E3779B97F4A7C15u) >> 3;
}

static void fill_range(unsigned char *p, size_t from, size_t to, uintptr_t seed)
{
	for (size_t i = from; i < to; i++)
		p[i] = helper_byte(seed, i);
}

static void fill(struct object *o)
{
	uintptr_t seed = pattern(o->p);

	if (o->n <= WHOLE) {
		fill_range(o->p, 0, o->n, seed);
		return;
	}
	fill_range(o->p, 0, EDGE, seed);
	for (size_t at = PAGE; at + 8 <= o->n; at += PAGE)
		fill_range(o->p, at, at + 8, seed);
	fill_range(o->p, o->n - EDGE, o->n, seed);
}

static void look_range(const unsigned char *p, size_t from, size_t to, uintptr_t seed, size_t n)
{
	for (size_t i = from; i < to; i++) {
		if (p[i] == helper_byte(seed, i))
			continue;
		helper_say("CORRUPT: byte %zu of %zu at %p is %#x, not %#x", i, n, (const void *)p,
			   p[i], helper_byte(seed, i));
		give_up(0);
	}
}

/* Checks the first `upto` bytes of an object that was filled as n bytes with this seed. */
static void look(const unsigned char *p, size_t n, size_t upto, uintptr_t seed)
{
	if (n <= WHOLE) {
		look_range(p, 0, upto, seed, n);
		return;
	}
	look_range(p, 0, upto < EDGE ? upto : EDGE, seed, n);
	for (size_t at = PAGE; at + 8 <= upto; at += PAGE)
		look_range(p, at, at + 8, seed, n);
	if (upto == n)
		look_range(p, n - EDGE, n, seed, n);
}

static bool big_enter(size_t n)
{
	if (n < 1 << 20)
		return true;
	if (atomic_fetch_add(&big_live, n) + n <= BIG_LIVE_MAX)
		return true;
	atomic_fetch_sub(&big_live, n);
	return false;
}

static void big_leave(size_t n)
{
	if (n >= 1 << 20)
		atomic_fetch_sub(&big_live, n);
}

static size_t random_size(uint64_t *random)
{
	uint64_t r = helper_random(random);
	size_t most = r % 8 ? 1024 : r % 64 ? 32 << 10 : r % 512 ? 256 << 10 : 3 << 20;

	if (r % 8192 == 0)
		most = HUGE_MAX;
	if (!on(K_BIG) && most > 256 << 10)
		most = 256 << 10;
	return 1 + (r >> 16) % most;
}

static uintptr_t seal_of(const struct object *o)
{
	return ~(uintptr_t)o->p ^ o->n << 32;
}

/* Checks that nobody has written over what is noted of an object. */
static void look_at_note(const struct object *o, const char *where)
{
	if (o->p == NULL || o->seal == seal_of(o))
		return;
	helper_say("CORRUPT: the note of an object, %s, at %p: address %p, size %zu, seal %#zx",
		   where, (const void *)o, (void *)o->p, o->n, (size_t)o->seal);
	give_up(0);
}

static void end_object(struct object *o)
{
	if (o->p == NULL)
		return;
	look_at_note(o, "to be freed");
	look(o->p, o->n, o->n, pattern(o->p));
	in_call = 1;
	free(o->p);
	in_call = 0;
	big_leave(o->n);
	o->p = NULL;
}

static void *by_some_function(uint64_t r, size_t n)
{
	size_t align = (size_t)16 << (r >> 8) % 12;
	unsigned char *p;

	if (r % 8 == 0) {
		uintptr_t address;

		p = aligned_alloc(align, n);
		address = (uintptr_t)p;
		if (address % align != 0) {
			helper_say("CORRUPT: %p is not aligned to %zu", (void *)p, align);
			give_up(0);
		}
	} else if (r % 8 == 1) {
		p = calloc(1, n);
		for (size_t i = 0; p != NULL && i < n; i += n <= WHOLE ? 1 : PAGE / 2 + 8) {
			if (p[i] == 0)
				continue;
			helper_say("CORRUPT: calloc(%zu): byte %zu at %p is %#x", n, i, (void *)p,
				   p[i]);
			give_up(0);
		}
	} else {
		p = malloc(n);
	}
	return p;
}

static void new_object(struct own *own, struct object *o)
{
	size_t n = random_size(&own->random);
	uint64_t r = helper_random(&own->random);

	if (!big_enter(n))
		return;
	unsigned dip = atomic_load(&dips);
	in_call = 1;
	o->p = by_some_function(r, n);
	in_call = 0;
	if (o->p == NULL && may_fail(dip)) {
		big_leave(n);
		return;
	}
	if (o->p == NULL || malloc_usable_size(o->p) < n) {
		helper_say("CORRUPT: malloc(%zu) is %p, errno %d", n, (void *)o->p, errno);
		give_up(0);
	}
	o->n = n;
	o->seal = seal_of(o);
	if (n > 256 << 10)
		count(K_BIG);
	fill(o);
	atomic_fetch_add_explicit(&watched->objects, 1, memory_order_relaxed);
}

static void resize_object(struct own *own, struct object *o)
{
	size_t n = random_size(&own->random), old = o->n;
	uintptr_t seed = pattern(o->p);

	look_at_note(o, "to be resized");
	if (!big_enter(n))
		return;
	look(o->p, old, old, seed);
	unsigned dip = atomic_load(&dips);
	in_call = 1;
	unsigned char *p = realloc(o->p, n);
	in_call = 0;
	if (p == NULL && may_fail(dip)) {
		big_leave(n);
		return;
	}
	if (p == NULL) {
		helper_say("CORRUPT: realloc(%zu to %zu) failed, errno %d", old, n, errno);
		give_up(0);
	}
	look(p, old, old < n ? old : n, seed);
	big_leave(old);
	o->p = p;
	o->n = n;
	o->seal = seal_of(o);
	fill(o);
}

/* Objects that wait for another thread to free them. The lock is only tried, never waited for: in a
 * fork child it may belong to a thread that does not exist there. */
static struct {
	_Atomic bool locked;
	struct object object;
} cross[CROSS];

static void exchange_object(uint64_t r, struct object *o)
{
	unsigned i = (unsigned)(r % CROSS);
	struct object other;

	if (atomic_exchange(&cross[i].locked, true))
		return;
	other = cross[i].object;
	look_at_note(&other, "from another thread");
	look_at_note(o, "for another thread");
	cross[i].object = *o;
	atomic_store(&cross[i].locked, false);
	*o = other;
}

static void end_objects(struct own *own)
{
	for (unsigned i = 0; i < OWN; i++)
		end_object(&own->object[i]);
}

static void work_with_objects(struct own *own)
{
	uint64_t r = helper_random(&own->random);
	struct object *o = &own->object[r % OWN];

	if (on(K_CROSS) && (r >> 8) % 8 == 0) {
		count(K_CROSS);
		exchange_object(r >> 16, o);
		end_object(o);
	} else if (o->p == NULL) {
		new_object(own, o);
	} else if ((r >> 8) % 4 == 0) {
		resize_object(own, o);
	} else {
		end_object(o);
	}
}

/* ---- new processes --------------------------------------------------------------------------- */

static _Atomic int children;

static void *thread_of_child(void *arg)
{
	struct own own = { .random = (uint64_t)(uintptr_t)arg | 1 };

	for (unsigned i = 0; i < 40; i++)
		work_with_objects(&own);
	end_objects(&own);
	return NULL;
}

/* In the child: allocates, and frees the objects of its parent's thread and those on their way
 * between other threads. */
static void child(struct own *own, bool with_thread)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	/* fork copies the limit before the memory: the limit may be low although dips is even. */
	setrlimit(RLIMIT_AS, &usual_limit);
	for (unsigned i = 0; i < 30; i++)
		work_with_objects(own);
	end_objects(own);
	if (with_thread) {
		pthread_t t;

		if (pthread_create(&t, NULL, thread_of_child, (void *)(uintptr_t)own->random) == 0)
			pthread_join(t, NULL);
	}
}

static void child_ended(pid_t pid, const char *how)
{
	int status = -1;

	while (waitpid(pid, &status, __WALL) < 0 && errno == EINTR)
		;
	if (status == 0)
		return;
	helper_say("CORRUPT: the child %d of %s ended with %#x", pid, how, (unsigned)status);
	give_up(0);
}

static void by_fork(struct own *own, uint64_t r)
{
	count(K_FORK);
	doing("fork");
	pid_t pid = fork();

	if (pid == 0) {
		child(own, r % 4 == 0);
		if (r / 4 % 8 == 0)
			exit(0);
		_exit(0);
	}
	doing("fork: the child");
	if (pid > 0)
		child_ended(pid, "fork");
}

static void by_clone(struct own *own, uint64_t r)
{
	bool raw = r & 1;

	count(K_CLONE);
	doing(raw ? "raw clone" : "_Fork");
	pid_t pid = raw ? (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0) : _Fork();

	if (pid == 0) {
		child(own, false);
		_exit(0);
	}
	doing(raw ? "raw clone: the child" : "_Fork: the child");
	if (pid > 0)
		child_ended(pid, raw ? "raw clone" : "_Fork");
}

/* The child shares our memory, so it frees what it allocates. */
__attribute__((noinline)) static pid_t vfork_once(size_t n)
{
	pid_t pid = vfork();

	if (pid == 0) {
		if (n != 0)
			free(malloc(n));
		_exit(0);
	}
	return pid;
}

static void by_vfork(uint64_t r)
{
	count(K_VFORK);
	doing("vfork");
	pid_t pid = vfork_once(r % 3 == 0 ? 0 : r % 3 == 1 ? 100 : 300000);

	doing("vfork: the child");
	if (pid > 0)
		child_ended(pid, "vfork");
}

static void by_spawn(uint64_t r)
{
	char name[] = "/bin/true", *command[] = { name, NULL }, *none[] = { NULL };
	unsigned dip = atomic_load(&dips);
	pid_t pid;

	count(K_SPAWN);
	doing("posix_spawn");
	if (posix_spawn(&pid, name, NULL, NULL, command, r & 1 ? environ : none) == 0) {
		doing("posix_spawn: the child");
		if (may_fail(dip)) /* its loader may get no memory either */
			waitpid(pid, NULL, 0);
		else
			child_ended(pid, "posix_spawn");
	}
}

/* Starts a process in one of the chosen ways. waitpid is a cancellation point, and a child must
 * be waited for. */
static void new_process(struct own *own)
{
	static const enum kind ways[] = { K_FORK, K_CLONE, K_VFORK, K_SPAWN };
	uint64_t r = helper_random(&own->random);
	enum kind way = ways[r % 4];
	int state;

	if (!on(way) || atomic_load(&over))
		return;
	if (atomic_fetch_add(&children, 1) < CHILDREN_MAX) {
		pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
		if (way == K_FORK)
			by_fork(own, r >> 8);
		else if (way == K_CLONE)
			by_clone(own, r >> 8);
		else if (way == K_VFORK)
			by_vfork(r >> 8);
		else
			by_spawn(r >> 8);
		pthread_setcancelstate(state, NULL);
	}
	atomic_fetch_sub(&children, 1);
}

/* ---- signals --------------------------------------------------------------------------------- */

static void fork_in_handler(uint64_t *random)
{
	count(K_HANDLERFORK);
	pid_t pid = fork();

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (unsigned i = 0; i < 20; i++)
			free(malloc(helper_random(random) % 4000));
		_exit(0);
	}
	if (pid > 0)
		child_ended(pid, "fork in a handler");
}

/* Allocates, and forks only if it interrupted the malloc family: libc's fork cannot be entered
 * twice. */
static void handler(int sig)
{
	static _Atomic uint64_t turn;
	uint64_t random = run_seed + atomic_fetch_add(&turn, 0x9E3779B97F4A7C15u) + 1;
	bool calling = in_call;
	int saved = errno, state;
	struct object o[3];

	in_call = 0; /* a second signal, in the handler */
	random |= 1;
	atomic_fetch_add_explicit(&watched->handlers, 1, memory_order_relaxed);
	for (unsigned i = 0; i < 3; i++) {
		uint64_t r = helper_random(&random);
		unsigned dip = atomic_load(&dips);

		o[i].n = 1 + (r >> 8) % (r % 16 ? 1000 : r % 128 ? 60000 : 3 << 20);
		o[i].p = malloc(o[i].n);
		if (o[i].p == NULL && !may_fail(dip)) {
			helper_say("CORRUPT: malloc(%zu) in a handler is NULL", o[i].n);
			give_up(0);
		}
		if (o[i].p != NULL)
			fill(&o[i]);
	}
	for (unsigned i = 0; i < 3; i++) {
		if (o[i].p == NULL)
			continue;
		look(o[i].p, o[i].n, o[i].n, pattern(o[i].p));
		free(o[i].p);
	}
	if (sig == SIGUSR1 && calling && on(K_HANDLERFORK) && helper_random(&random) % 16 == 0 &&
	    !atomic_load(&over)) {
		pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
		if (atomic_fetch_add(&children, 1) < CHILDREN_MAX)
			fork_in_handler(&random);
		atomic_fetch_sub(&children, 1);
		pthread_setcancelstate(state, NULL);
	}
	in_call = calling;
	errno = saved;
}

/* Sends signals to any watched thread, and to the process, which also reaches threads that start or
 * end. */
static void *sends_signals(void *arg)
{
	uint64_t random = run_seed ^ (uintptr_t)arg;

	sit_down();
	while (!atomic_load(&over)) {
		uint64_t r = helper_random(&random);

		doing("signals");
		pid_t tid = atomic_load(&watched->seat[(r >> 8) % SEATS].tid);
		if (r % 256 == 0)
			kill(getpid(), SIGUSR2);
		else if (tid != 0 && syscall(SYS_tgkill, getpid(), tid, SIGUSR1) == 0)
			count(K_SIGNALS);
		if (r % 64 == 1)
			usleep(200);
	}
	stand_up();
	return NULL;
}

/* ---- threads --------------------------------------------------------------------------------- */

static void drain_somehow(uint64_t r)
{
	static const unsigned flags[] = {
		0,
		SLUICE_DRAIN_CACHES,
		SLUICE_DRAIN_IDLE,
		SLUICE_DRAIN_PURGE,
		SLUICE_DRAIN_IDLE | SLUICE_DRAIN_GLOBAL | SLUICE_DRAIN_PURGE,
		SLUICE_DRAIN_CACHES | SLUICE_DRAIN_IDLE | SLUICE_DRAIN_PURGE | SLUICE_DRAIN_REGIONS,
	};

	count(K_DRAIN);
	if (drain == NULL || r % 2 == 0) {
		doing("malloc_trim");
		in_call = 1;
		malloc_trim(0);
	} else {
		doing("sluice_drain");
		in_call = 1;
		drain(flags[(r >> 8) % (sizeof flags / sizeof *flags)], NULL);
	}
	in_call = 0;
}

static void ask(void)
{
	char *text = NULL;
	size_t n = 0;
	FILE *to = open_memstream(&text, &n);

	count(K_INFO);
	doing("malloc_info");
	if (to != NULL) {
		malloc_info(0, to);
		fclose(to);
	}
	free(text);
	(void)mallinfo2();
}

static void work(struct own *own)
{
	uint64_t r = helper_random(&own->random);

	doing("objects");
	for (unsigned i = 0; i < 16; i++)
		work_with_objects(own);
	if (r % 64 == 0)
		new_process(own);
	if (on(K_DRAIN) && (r >> 8) % 128 == 0)
		drain_somehow(r >> 16);
	if (on(K_INFO) && (r >> 24) % 512 == 0)
		ask();
}

static void leave(void *arg)
{
	doing("the end of a thread");
	end_objects(arg);
	stand_up();
}

static void *works(void *arg)
{
	struct own own = { .random = run_seed * 31 + (uintptr_t)arg };
	uint64_t r = helper_random(&own.random);

	notes = own.object;
	sit_down();
	atomic_fetch_add_explicit(&watched->threads, 1, memory_order_relaxed);
	pthread_cleanup_push(leave, &own);
	/* If threads are cancelled, a third of them ends only then. */
	for (uint64_t i = 0, n = r % 3 == 0 && on(K_CANCEL) ? 100000 : (r >> 8) % 30;
	     i < n && !atomic_load(&over); i++) {
		work(&own);
		pthread_testcancel();
	}
	pthread_cleanup_pop(1);
	return NULL;
}

static void *churns(void *arg)
{
	struct own own = { .random = run_seed * 37 + (uintptr_t)arg };

	notes = own.object;
	sit_down();
	while (!atomic_load(&over))
		work(&own);
	leave(&own);
	return NULL;
}

static bool start(pthread_t *t, void *(*f)(void *), uint64_t arg)
{
	pthread_attr_t attr;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK);
	int err = pthread_create(t, &attr, f, (void *)(uintptr_t)(arg | 1));
	pthread_attr_destroy(&attr);
	return err == 0;
}

static void cancel(pthread_t t)
{
	if (!on(K_CANCEL))
		return;
	count(K_CANCEL);
	pthread_cancel(t);
}

static void *makes_waves(void *arg)
{
	uint64_t random = run_seed * 41 + (uintptr_t)arg;
	pthread_t t[WAVE];

	sit_down();
	while (!atomic_load(&over)) {
		unsigned most = 1 + (unsigned)(helper_random(&random) % WAVE), n = 0;

		count(K_WAVES);
		while (n < most && start(&t[n], works, helper_random(&random))) {
			doing("pthread_create");
			n++;
		}
		usleep((useconds_t)(helper_random(&random) % 20000));
		/* All at once, or one after another. */
		bool at_once = helper_random(&random) % 2 == 0;
		for (unsigned i = 0; i < n && at_once; i++)
			cancel(t[i]);
		for (unsigned i = 0; i < n; i++) {
			void *result;

			if (!at_once)
				cancel(t[i]);
			doing("pthread_join");
			pthread_join(t[i], &result);
			if (result == PTHREAD_CANCELED)
				atomic_fetch_add(&watched->cancelled, 1);
		}
	}
	stand_up();
	return NULL;
}

/* ---- the run --------------------------------------------------------------------------------- */

static void drain_all(void)
{
	malloc_trim(0);
	if (drain != NULL)
		drain(SLUICE_DRAIN_CACHES | SLUICE_DRAIN_IDLE | SLUICE_DRAIN_PURGE |
			      SLUICE_DRAIN_REGIONS,
		      NULL);
}

static void *sleeps(void *arg)
{
	for (;;)
		sleep(1);
	return arg;
}

/* The first cancellation loads a library; if that failed, libc would end the program. */
static void first_cancel(void)
{
	pthread_t t;

	if (!start(&t, sleeps, 0))
		return;
	pthread_cancel(t);
	pthread_join(t, NULL);
}

/* For a moment, little or nothing more can be mapped. */
static void dip(uint64_t r)
{
	struct rlimit low = usual_limit;

	count(K_LIMITS);
	low.rlim_cur = (rlim_t)statm_pages(STATM_SIZE) * PAGE +
		       (r % 3 ? r % ((uint64_t)8 << 20) : 0);
	atomic_fetch_add(&dips, 1);
	setrlimit(RLIMIT_AS, &low);
	usleep((useconds_t)(r >> 32) % 60000);
	setrlimit(RLIMIT_AS, &usual_limit);
	atomic_fetch_add(&dips, 1);
}

/* Runs everything for some seconds; at the end all threads have ended and all objects are
 * freed. */
static void phase(unsigned seconds, unsigned waves)
{
	pthread_t t[CHURNERS + 64];
	unsigned n = 0;
	uint64_t random = run_seed + seconds;

	atomic_store(&over, false);
	for (unsigned i = 0; i < CHURNERS; i++)
		n += start(&t[n], churns, helper_random(&random));
	for (unsigned i = 0; i < waves && on(K_WAVES); i++)
		n += start(&t[n], makes_waves, helper_random(&random));
	if (on(K_SIGNALS))
		n += start(&t[n], sends_signals, helper_random(&random));
	for (time_t end = time(NULL) + (time_t)seconds; time(NULL) < end;) {
		doing("the run");
		usleep(100000);
		if (on(K_LIMITS))
			dip(helper_random(&random));
	}
	atomic_store(&over, true);
	for (unsigned i = 0; i < n; i++) {
		doing("the end: pthread_join");
		pthread_join(t[i], NULL);
	}
	for (unsigned i = 0; i < CROSS; i++)
		end_object(&cross[i].object);
	doing("the end: drains");
	drain_all();
}

/* The library's background thread and what glibc keeps of threads take a while to go. Waits until
 * the RSS is at most `enough`, or has not fallen for three seconds. */
static long settled_rss(long enough)
{
	long rss = statm_rss_kib();
	unsigned same = 0;

	for (unsigned i = 0; i < SETTLE_S * 2 && rss > enough && same < 6; i++) {
		doing("the end: memory goes");
		usleep(500000);
		drain_all();
		long now = statm_rss_kib();
		same = now < rss ? 0 : same + 1;
		rss = now;
	}
	return rss;
}

/* Prints where the memory is: mappings with more than 256 KiB, the others by length (glibc keeps
 * stacks of STACK bytes), and the library's own statistics. */
static void say_memory(void)
{
	static struct {
		unsigned long length;
		unsigned n;
		long kib;
	} others[64];
	char line[512];
	char name[512] = "";
	unsigned long from = 0, to = 0;
	FILE *maps = fopen("/proc/self/smaps", "re");
	long kib;
	char flag;

	while (maps != NULL && fgets(line, sizeof line, maps) != NULL) {
		line[strcspn(line, "\n")] = 0;
		if (sscanf(line, "%lx-%lx %c", &from, &to, &flag) == 3) {
			memcpy(name, line, sizeof name);
		} else if (sscanf(line, "Rss: %ld kB", &kib) == 1 && kib > 256) {
			helper_say("%ld KiB in %s", kib, name);
		} else if (sscanf(line, "Rss: %ld kB", &kib) == 1 && kib > 0) {
			unsigned i = 0;

			while (i < 63 && others[i].n && others[i].length != to - from)
				i++;
			others[i].length = to - from;
			others[i].n++;
			others[i].kib += kib;
		}
	}
	if (maps != NULL)
		fclose(maps);
	for (unsigned i = 0; i < 64 && others[i].n; i++)
		helper_say("%ld KiB in %u of %lu KiB", others[i].kib, others[i].n,
			   others[i].length >> 10);
	malloc_info(0, stderr);
}

static unsigned kinds_of(const char *list)
{
	unsigned set = 0;

	for (const char *at = list; *at != 0;) {
		size_t n = strcspn(at, ",");
		unsigned i = 0;

		while (i < KINDS && (strlen(kinds[i]) != n || strncmp(kinds[i], at, n) != 0))
			i++;
		if (i == KINDS) {
			fprintf(stderr, "no such kind: %.*s\n", (int)n, at);
			exit(2);
		}
		set |= 1u << i;
		at += n + (at[n] != 0);
	}
	return set;
}

static void say_counts(void)
{
	char line[400];
	size_t n = 0;

	for (unsigned i = 0; i < KINDS; i++)
		n += (size_t)snprintf(line + n, sizeof line - n, " %s %lu", kinds[i],
				      atomic_load(&watched->count[i]));
	helper_say("%lu objects, %lu threads, %lu of them cancelled, %lu handlers;%s",
		   atomic_load(&watched->objects), atomic_load(&watched->threads),
		   atomic_load(&watched->cancelled), atomic_load(&watched->handlers), line);
}

static _Noreturn void wrong(const char *name)
{
	fprintf(stderr,
		"soak: %s: use --seconds N, --seed S, --patience N, --waves N, --only KIND,... or "
		"--without KIND,...\n",
		name);
	exit(2);
}

static uint64_t number(const char *name, const char *value)
{
	char *end;
	uint64_t n = strtoull(value, &end, 0);

	if (end == value || *end != 0)
		wrong(name);
	return n;
}

int main(int argc, char **argv)
{
	unsigned seconds = 60, waves = 3;

	run_seed = (uint64_t)time(NULL) * 1000003 + (uint64_t)getpid();
	for (int i = 1; i < argc; i += 2) {
		const char *name = argv[i];
		const char *value = argv[i + 1]; /* NULL after the last */

		if (value == NULL)
			wrong(name);
		if (strcmp(name, "--seconds") == 0)
			seconds = (unsigned)number(name, value);
		else if (strcmp(name, "--seed") == 0)
			run_seed = number(name, value);
		else if (strcmp(name, "--patience") == 0)
			patience = (unsigned)number(name, value);
		else if (strcmp(name, "--waves") == 0)
			waves = (unsigned)number(name, value);
		else if (strcmp(name, "--only") == 0)
			wanted = kinds_of(value);
		else if (strcmp(name, "--without") == 0)
			wanted &= ~kinds_of(value);
		else
			wrong(name);
	}
	void *sym = dlsym(RTLD_DEFAULT, "sluice_drain");
	if (sym == NULL) {
		fprintf(stderr, "soak: not the library: set LD_PRELOAD\n");
		return 97;
	}
	memcpy(&drain, &sym, sizeof sym);
	helper_say("seed %llu", (unsigned long long)run_seed);
	start_watching();
	sit_down();
	first_cancel();
	getrlimit(RLIMIT_AS, &usual_limit);
	handle(SIGUSR1, handler);
	handle(SIGUSR2, handler);
	phase(seconds / 4 < 15 ? seconds / 4 + 1 : 15, waves < 60 ? waves : 60);
	long before = settled_rss(0);
	phase(seconds, waves < 60 ? waves : 60);
	long after = settled_rss(before + KEPT_KIB);
	say_counts();
	helper_say("%ld KiB at the start, %ld at the end", before, after);
	if (after > before + KEPT_KIB)
		say_memory();
	CHECK(after <= before + KEPT_KIB, "more than %d KiB above the start", KEPT_KIB);
	CHECK(atomic_load(&watched->objects) > 0, "nothing was done");
	atomic_store(&watched->done, true);
	stand_up();
	return helper_end();
}
