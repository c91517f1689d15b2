/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * links.c - see links.h: the key, and random numbers. Primitive; used by heap_thread (its start),
 * by the files of the heap that link free objects or choose at random, and by fork.
 *
 * The first call of malloc draws the keys, before any object is allocated. A child of fork keeps
 * the key of its parent, by which its objects are linked. The kernel is not asked again, because a
 * sandbox may kill for it: later numbers are SipHash-2-4 (Aumasson and Bernstein 2012) of a count
 * and of what the fork children on the way here have mixed in, so that one number does not tell
 * others. Allocates nothing, does not wait for the kernel's entropy.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "base/links.h"

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/sys.h"

#define WORDS 5u /* of the keys */

/* Unit tests use it without link_init. */
struct link_key link_key SEALED = { 1, 1, 0, UINT64_C(0x9e3779b97f4a7c15), { 0, 0 } };

/* The finalizer of splitmix64 (Steele et al. 2014). */
static uint64_t mix(uint64_t v)
{
	v = (v ^ (v >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	v = (v ^ (v >> 27)) * UINT64_C(0x94d049bb133111eb);
	return v ^ (v >> 31);
}

static uint64_t rotated(uint64_t v, unsigned bits)
{
	return v << bits | v >> (64 - bits);
}

static void sip_rounds(uint64_t v[4], unsigned n)
{
	while (n--) {
		v[0] += v[1];
		v[2] += v[3];
		v[1] = rotated(v[1], 13) ^ v[0];
		v[3] = rotated(v[3], 16) ^ v[2];
		v[0] = rotated(v[0], 32) + v[3];
		v[2] += v[1];
		v[3] = rotated(v[3], 21) ^ v[0];
		v[1] = rotated(v[1], 17) ^ v[2];
		v[2] = rotated(v[2], 32);
	}
}

/* SipHash-2-4 of two words. */
static uint64_t sip(const uint64_t key[2], uint64_t a, uint64_t b)
{
	const uint64_t message[3] = { a, b, UINT64_C(16) << 56 };
	uint64_t v[4] = {
		key[0] ^ UINT64_C(0x736f6d6570736575),
		key[1] ^ UINT64_C(0x646f72616e646f6d),
		key[0] ^ UINT64_C(0x6c7967656e657261),
		key[1] ^ UINT64_C(0x7465646279746573),
	};

	for (unsigned i = 0; i < 3; i++) {
		v[3] ^= message[i];
		sip_rounds(v, 2);
		v[0] ^= message[i];
	}
	v[2] ^= 0xff;
	sip_rounds(v, 4);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

static void draw(uint64_t word[WORDS])
{
	int saved = errno;
	uint64_t start[2] = { (uintptr_t)__builtin_frame_address(0), 0 };
	const void *kernel; /* 16 bytes that exec drew, from which libc makes its own secrets */

	if (sys_getrandom(word, WORDS * sizeof(*word)) != (ssize_t)(WORDS * sizeof(*word))) {
		kernel = (const void *)sys_auxval(AT_RANDOM);
		if (kernel)
			memcpy(start, kernel, sizeof(start));
		/* Libc's secrets cannot be computed from ours. */
		for (unsigned i = 0; i < WORDS; i++)
			word[i] = sip(start, i, (uintptr_t)&link_key);
	}
	errno = saved;
}

static _Atomic uint64_t numbers; /* drawn so far */
static _Atomic uint64_t lineage; /* differs between a parent and its children */

uint64_t link_random(void)
{
	uint64_t which = atomic_load_explicit(&lineage, memory_order_relaxed);
	uint64_t n = atomic_fetch_add_explicit(&numbers, 1, memory_order_relaxed);

	return sip(link_key.random, n, which);
}

void link_fork_child(uint32_t tid)
{
	uint64_t parent = atomic_load_explicit(&lineage, memory_order_relaxed);

	atomic_store_explicit(&lineage, mix(mix(parent + tid) + clock_ns()), memory_order_relaxed);
}

uint64_t mark_number(uint32_t serial)
{
	return mix(link_key.mark + serial);
}

/* Of an odd number, mod 2^64. Each step doubles the number of correct bits, initially 3. */
static uint64_t inverse_of(uint64_t odd)
{
	uint64_t x = odd;

	for (int i = 0; i < 5; i++)
		x *= 2 - odd * x;
	return x;
}

void link_init(void)
{
	uint64_t word[WORDS] = { 0 };

	draw(word);
	link_key.multiplier = word[0] | 1;
	link_key.inverse = inverse_of(link_key.multiplier);
	link_key.addend = word[1];
	link_key.mark = word[2];
	link_key.random[0] = word[3];
	link_key.random[1] = word[4];
}
