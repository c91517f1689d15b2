/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Memory of the library itself: what it reads, how much lies in one mapping, and what threads do
 * that find a chunk used up while another one maps the next.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include <pthread.h>
#include <string.h>

#include "base/delay.h"
#include "base/options.h"
#include "lib/points.h"
#include "lib/tap.h"
#include "os/vm.h"
#include "page/meta.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define PIECE (132 * KIB) /* one in a chunk of 256 KiB */
#define PIECES 60u
#define THREADS 64u
#define EACH 2u /* together as much as the longest chunk */
#define PATIENCE_MS 60000u

static unsigned char *piece(void)
{
	unsigned char *p = meta_alloc(PIECE);

	if (!p)
		tap_bail_out("no memory");
	return p;
}

static void test_pieces(void)
{
	unsigned char *before = NULL;
	unsigned beside = 0;
	bool good = true;

	for (unsigned i = 0; i < PIECES; i++) {
		unsigned char *p = piece();

		good &= (uintptr_t)p % META_ALIGN == 0 && p[0] == 0 && p[PIECE - 1] == 0;
		memset(p, 0x5a, PIECE);
		beside += before && p == before + PIECE;
		before = p;
	}
	ok(good, "memory of the library reads as zero and is aligned");
	ok(beside > PIECES / 2, "the more of it there is the more lies in one mapping (%u of %u)",
	   beside, PIECES);
}

/* ---- a slow mapping ------------------------------------------------------------------------- */

static _Atomic unsigned mapping; /* threads that have mapped a chunk and are stopped there */
static _Atomic unsigned mapped;  /* in all */
static _Atomic unsigned ended;
static unsigned char *pieces[THREADS][EACH];
static pthread_barrier_t go;

/* Stops until all other threads have ended, or are stopped here as well. */
static void at_point(enum delay_point p)
{
	if (p != DELAY_meta_chunk)
		return;
	atomic_fetch_add(&mapped, 1);
	atomic_fetch_add(&mapping, 1);
	for (unsigned i = 0; i < PATIENCE_MS; i++) {
		if (atomic_load(&mapping) + atomic_load(&ended) >= THREADS)
			break;
		sleep_us(1000);
	}
	atomic_fetch_sub(&mapping, 1);
}

static void *take_pieces(void *arg)
{
	unsigned char **mine = arg;

	pthread_barrier_wait(&go);
	for (unsigned i = 0; i < EACH; i++) {
		mine[i] = meta_alloc(PIECE);
		if (mine[i])
			mine[i][0] = mine[i][PIECE - 1] = (unsigned char)(1 + i);
	}
	atomic_fetch_add(&ended, 1);
	return NULL;
}

/* Whether each has memory of its own. */
static bool pieces_differ(void)
{
	bool good = true;

	for (unsigned i = 0; i < THREADS * EACH; i++) {
		unsigned char *p = pieces[i / EACH][i % EACH];
		unsigned char want = (unsigned char)(1 + i % EACH);

		good &= p && p[0] == want && p[PIECE - 1] == want;
		for (unsigned k = 0; k < i && good; k++) {
			unsigned char *q = pieces[k / EACH][k % EACH];

			good = p >= q + PIECE || q >= p + PIECE;
		}
	}
	return good;
}

static void test_slow_mapping(void)
{
	uint64_t before = meta_bytes();
	pthread_t t[THREADS];

	pthread_barrier_init(&go, NULL, THREADS);
	delay_hook(at_point);
	for (unsigned i = 0; i < THREADS; i++)
		if (pthread_create(&t[i], NULL, take_pieces, pieces[i]) != 0)
			tap_bail_out("cannot create a thread");
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	delay_hook(NULL);
	pthread_barrier_destroy(&go);
	ok(atomic_load(&mapped) > 0 && atomic_load(&mapped) <= 3,
	   "of %u threads that find a chunk used up few map the next one (%u)", THREADS,
	   atomic_load(&mapped));
	ok(pieces_differ(), "each has memory of its own meanwhile");
	ok(meta_bytes() - before >= THREADS * EACH * 2 * META_ALIGN,
	   "what they have written counts as backed");
}

/* ---- a mapping that is refused -------------------------------------------------------------- */

/* Pieces until n of them lie beside the one before; how many that took, or `most`. */
static unsigned pieces_until(unsigned n, unsigned most)
{
	unsigned char *before = NULL;
	unsigned i;

	for (i = 0; i < most && n; i++) {
		unsigned char *p = meta_alloc(PIECE);

		n -= before && p == before + PIECE;
		before = p;
	}
	return i;
}

static unsigned chunks;

static void refuse_chunk(enum delay_point p)
{
	if (p == DELAY_meta_chunk)
		chunks++;
}

static void test_refused(void)
{
	unsigned failed = 0;
	unsigned n;

	/* One that begins. */
	delay_hook(refuse_chunk);
	for (chunks = 0; !chunks;)
		piece();
	/* All is refused until it and the next one are used up. */
	options.vm_fail_at = 1;
	options.vm_fail_count = UINT32_MAX;
	for (unsigned i = 0; i < 400 && failed < 3; i++)
		failed += !meta_alloc(PIECE);
	is_int(failed, 3, "where no memory can be mapped there is none when the chunks are full");
	options.vm_fail_at = 0;
	n = pieces_until(100, 400);
	delay_hook(NULL);
	ok(n < 400, "after a refused mapping there are chunks again (%u)", n);
}

int main(void)
{
	tap_plan(7);
	vm_init();
	test_pieces();
	test_slow_mapping();
	test_refused();
	return tap_done();
}
