/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The reserve's thread: up to which mark it fills, when it is woken, and how it follows what a
 * process takes.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "page/buddy.h"
#include "lib/child.h"
#include "base/clock.h"
#include "heap/heap.h"
#include "base/options.h"
#include "page/pagemap.h"
#include "base/park.h"
#include "reclaim/reserve.h"
#include "lib/tap.h"

#define MIB_PAGES ((uint64_t)1 << (20 - PG_SHIFT))
#define LIMIT_MS 60000u

static pthread_t thread;

static uint64_t prefaulted(void)
{
	return zone_prefaulted_pages(&zone_main);
}

/* Waits until the thread sleeps with so many pages prefaulted; gives it a minute. */
static bool rests_at(uint64_t pages)
{
	uint64_t end = clock_ms() + LIMIT_MS;

	while (prefaulted() != pages || !atomic_load(&zone_main.marks.word)) {
		if (clock_ms() > end) {
			tap_diag("%lu pages are prefaulted", (unsigned long)prefaulted());
			return false;
		}
		park_sleep_ms(1);
	}
	return true;
}

static void take(uint64_t pages)
{
	for (uint64_t i = 0; i < pages; i += MIB_PAGES)
		if (!buddy_alloc(&zone_main, MIB_PAGES))
			tap_bail_out("no memory");
}

static void begin(uint64_t low, uint64_t high)
{
	options.low = low;
	options.high = high;
	reserve_again();
	if (pthread_create(&thread, NULL, reserve_main, NULL) != 0)
		tap_bail_out("cannot start a thread");
}

static void end(void)
{
	uint64_t limit = clock_ms() + LIMIT_MS;

	/* As the background thread does, until it has ended. */
	do {
		reserve_end();
		park_sleep_ms(1);
	} while (pthread_tryjoin_np(thread, NULL) != 0 && clock_ms() < limit);
}

static void test_percent(void)
{
	begin(OPTION_PERCENT | 25, OPTION_PERCENT | 50);
	ok(rests_at(8 * MIB_PAGES),
	   "half of a reserve of 16 MiB is populated where high says 50%%");
	take(3 * MIB_PAGES);
	ok(rests_at(5 * MIB_PAGES),
	   "the thread does nothing while more than a quarter of the reserve is left");
	take(2 * MIB_PAGES);
	ok(rests_at(8 * MIB_PAGES), "the reserve is filled again when less than a quarter is left");
	end();
}

static void test_bytes(void)
{
	begin(2 * MIB_PAGES << PG_SHIFT, 4 * MIB_PAGES << PG_SHIFT);
	ok(rests_at(4 * MIB_PAGES), "what is above high is given back");
	take(2 * MIB_PAGES);
	ok(rests_at(2 * MIB_PAGES), "the thread does nothing while low is left");
	take(MIB_PAGES);
	ok(rests_at(4 * MIB_PAGES), "the reserve is filled when less than low is left");
	end();
}

static void test_marks(void)
{
	begin(OPTION_PERCENT | 100, OPTION_PERCENT | 25);
	take(MIB_PAGES);
	ok(rests_at(4 * MIB_PAGES), "high counts for both when low is above high");
	end();
	begin(OPTION_PERCENT, OPTION_PERCENT | 25);
	ok(rests_at(4 * MIB_PAGES), "a reserve with a low of nothing is filled up to high");
	take(3 * MIB_PAGES);
	ok(rests_at(MIB_PAGES),
	   "a reserve with a low of nothing is not filled while anything is left");
	end();
}

static void test_follows(void)
{
	uint64_t made = atomic_load(&zone_main.prefaulted_made);

	begin(OPTION_PERCENT | 75, OPTION_PERCENT | 100);
	ok(rests_at(0), "a reserve that follows the process is empty while nothing is taken");
	is_int(atomic_load(&zone_main.prefaulted_made), made,
	       "nothing is prefaulted for a process that takes nothing");
	take(8 * MIB_PAGES);
	for (unsigned ms = 0;
	     ms < LIMIT_MS && atomic_load(&zone_main.prefaulted_made) - made < 2 * MIB_PAGES; ms++)
		park_sleep_ms(1);
	ok(atomic_load(&zone_main.prefaulted_made) - made >= 2 * MIB_PAGES,
	   "some memory is prefaulted when the process takes memory");
	ok(rests_at(0), "prefaulted memory goes back when the process takes no more");
	end();
	options.reserve = 16 << 20;
}

static void low_above_high(void *arg)
{
	(void)arg;
	options.low = OPTION_PERCENT | 80;
	options.high = OPTION_PERCENT | 60;
	reserve_init();
}

static void mixed(void *arg)
{
	(void)arg;
	options.low = 1 << 30;
	options.high = OPTION_PERCENT | 60;
	reserve_init();
}

static void test_said(void)
{
	struct child c;

	child_run(&c, low_above_high, NULL);
	ok(c.status == 0 && strstr(c.stderr, "option low is above option high"),
	   "a low above high is reported");
	child_run(&c, mixed, NULL);
	ok(c.status == 0 && !*c.stderr, "a low in bytes and a high in percent are not compared");
}

int main(void)
{
	tap_plan(16);
	options.reserve = OPTION_AUTO;
	options.decay_ms = 3600000;
	heap_init();
	heap_init_late();
	ok(reserve_wanted(), "the options ask for a reserve");
	test_follows();
	test_percent();
	test_bytes();
	test_marks();
	test_said();
	return tap_done();
}
