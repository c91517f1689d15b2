/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * On one processor a thread without priority has a lock, or another thread's heap or pcp, and
 * does not run because a hog of middle priority does. A SCHED_FIFO thread of high priority calls
 * malloc: its call returns before the hog ends.
 *
 * It would not if it waited for the holder's next time slice, nor if it span until the holder is
 * done. What the holder still has to do takes more time than the kernel sets aside for threads
 * without priority beside a real-time one (5 % by default) while the hog runs. Both are measured by
 * the processor time that they get, so that other load of the machine does not matter.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include <sched.h>
#include <semaphore.h>

#include "lib/barrier.h"
#include "base/delay.h"
#include "shim/init.h"
#include "base/options.h"
#include "lib/points.h"
#include "lib/realtime.h"

#define WORK_MS 300
#define HOG_MS 3000

static _Atomic int
	stage; /* 1: the holder holds, 2: the hog may run, 3: the call is made, 4: it is over */
static enum delay_point hold_at;
static bool (*hold_when)(void);
static atomic_bool hog_ended;
static bool in_time;
static bool was_held;
static int cpu;
static struct heap *urgent; /* the heap of the real-time thread */
static sem_t ready;
static _Thread_local bool holder;

/* The holder holds, and needs the processor to finish. */
static void at_point(enum delay_point p)
{
	uint64_t end;

	if (!holder || p != hold_at || atomic_load(&stage) != 0 || (hold_when && !hold_when()))
		return;
	atomic_store(&stage, 1);
	while (atomic_load(&stage) < 3)
		;
	end = thread_ms() + WORK_MS;
	while (thread_ms() < end)
		;
}

static bool urgent_is_held(void)
{
	return (atomic_load(&urgent->claim) & CLAIM_STATE) == CLAIM_HELD;
}

static void drain_urgent_pages(void)
{
	pcp_drain(&urgent->pcp);
}

static void long_run(void)
{
	heap_free(alloc((size_t)4 << 20));
}

/* Its first object of a class that has abandoned slabs. */
static void adopt(void)
{
	heap_free(alloc(200));
}

static const struct {
	enum delay_point point;
	void (*hold)(void);
	void (*call)(void);
	bool first; /* the call is the thread's first */
	bool barrier;
	bool (*when)(void);
	const char *label;
} cases[] = {
	{ DELAY_held_BUDDY, pages, long_run, false, false, NULL, "the zone's lock" },
	{ DELAY_held_POOL, abandon_own, adopt, false, false, NULL, "the lock of a class's pool" },
	{ DELAY_held_GROW, grow, grow, false, false, NULL, "the regions' lock" },
	{ DELAY_held_FALLBACK, fall_back, fall_back, false, false, NULL, "the fallback heap" },
	{ DELAY_held_REGISTRY, one_call, one_call, true, false, NULL, "the list of heaps" },
	{ DELAY_held_PCP, drain_urgent_pages, pages, false, false, NULL, "its pcp" },
	{ DELAY_held_CONTROL, drain_all, grow, false, true, NULL, "a drain's lock" },
	{ DELAY_claim_taken, drain_all, pages, false, true, urgent_is_held, "its own heap" },
	{ DELAY_fork_locked, fork_once, pages, false, false, NULL, "all locks, in a fork" },
};

static void *low_main(void *arg)
{
	unsigned i = *(unsigned *)arg;

	pin(cpu);
	if (cases[i].point != DELAY_held_REGISTRY)
		one_call();
	holder = true;
	cases[i].hold();
	return NULL;
}

static void *hog_main(void *arg)
{
	uint64_t end;

	pin(cpu);
	set_fifo(10);
	while (atomic_load(&stage) < 2)
		sleep_us(1000);
	/* Measured from the call on, because the sleep before depends on the machine. */
	while (atomic_load(&stage) < 3)
		;
	end = thread_ms() + HOG_MS;
	while (atomic_load(&stage) < 4 && thread_ms() < end)
		;
	atomic_store(&hog_ended, true);
	return arg;
}

static void *high_main(void *arg)
{
	unsigned i = *(unsigned *)arg;
	uint64_t spun;

	pin(cpu);
	set_fifo(20);
	if (!cases[i].first)
		one_call();
	urgent = heap_self;
	sem_post(&ready);
	while (atomic_load(&stage) < 1)
		sleep_us(1000);
	atomic_store(&stage, 2);
	sleep_us(50000); /* now the hog runs, and the holder does not */
	was_held = atomic_load(&stage) == 2;
	atomic_store(&stage, 3);
	spun = thread_ms();
	cases[i].call();
	in_time = !atomic_load(&hog_ended) && thread_ms() - spun < HOG_MS / 2; /* and it did not
									        * spin */
	atomic_store(&stage, 4);
	return NULL;
}

static void test_case(unsigned i)
{
	pthread_t low;
	pthread_t hog;
	pthread_t high;

	if (cases[i].barrier && (UNDER_TSAN || !membarrier_global())) {
		tap_skip(1, "no membarrier, or ThreadSanitizer, which does not know it");
		return;
	}
	if (cases[i].point == DELAY_fork_locked && tap_emulated()) {
		tap_skip(1, "the emulator cannot fork while it has several threads");
		return;
	}
	abandon_own(); /* so that there are slabs to adopt */
	hold_at = cases[i].point;
	hold_when = cases[i].when;
	atomic_store(&hog_ended, false);
	in_time = false;
	atomic_store(&stage, 0);
	start(&high, high_main, &i);
	while (sem_wait(&ready) != 0)
		;
	start(&hog, hog_main, NULL);
	start(&low, low_main, &i);
	pthread_join(high, NULL);
	pthread_join(hog, NULL);
	pthread_join(low, NULL);
	ok(was_held && in_time,
	   "while a thread that does not run has %s a real-time thread gets on", cases[i].label);
}

static void *fifo_allowed(void *arg)
{
	return set_fifo(1) ? arg : NULL;
}

int main(void)
{
	pthread_t t;
	void *allowed;

	options.background = BACKGROUND_NEVER;
	sluice_init();
	one_call();
	sem_init(&ready, 0, 0);
	start(&t, fifo_allowed, &ready);
	pthread_join(t, &allowed);
	if (!allowed)
		tap_skip_all("this user may not use SCHED_FIFO");
	tap_plan(sizeof(cases) / sizeof(cases[0]));
	cpu = sched_getcpu();
	delay_hook(at_point);
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		test_case(i);
	delay_hook(NULL);
	return tap_done();
}
