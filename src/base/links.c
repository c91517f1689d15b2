/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * links.c - see links.h: the key. Primitive; used by heap_thread (its start) and by the
 * files of the heap that link free objects.
 *
 * The first call of malloc draws the key, before any object is allocated. A child of fork keeps the
 * key of its parent, by which its objects are linked. Allocates nothing, does not wait for the
 * kernel's entropy.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "base/links.h"

#include <errno.h>
#include <string.h>
#include <sys/auxv.h>

#include "base/sys.h"

/* Unit tests use it without link_init. */
struct link_key link_key SEALED = { 1, 1, 0, UINT64_C(0x9e3779b97f4a7c15) };

/* The finalizer of splitmix64 (Steele et al. 2014). */
static uint64_t mix(uint64_t v)
{
	v = (v ^ (v >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	v = (v ^ (v >> 27)) * UINT64_C(0x94d049bb133111eb);
	return v ^ (v >> 31);
}

static void draw(uint64_t word[3])
{
	int saved = errno;
	const void *kernel; /* 16 bytes that exec drew, from which libc makes its own secrets */

	if (sys_getrandom(word, 3 * sizeof(*word)) != (ssize_t)(3 * sizeof(*word))) {
		kernel = (const void *)getauxval(AT_RANDOM);
		if (kernel)
			memcpy(word, kernel, 2 * sizeof(*word));
		else
			word[0] = (uintptr_t)__builtin_frame_address(0);
		/* Each word depends on both, so that libc's cannot be computed from ours. */
		word[0] = mix(word[0] + mix(word[1]));
		word[1] = mix(word[0] + (uintptr_t)&link_key);
		word[2] = mix(word[1] + word[0]);
	}
	errno = saved;
}

void link_random(void *out, size_t bytes)
{
	uint64_t word[3] = { 0, 0, 0 };

	draw(word);
	memcpy(out, word, bytes < sizeof(word) ? bytes : sizeof(word));
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
	uint64_t word[3] = { 0, 0, 0 };

	draw(word);
	link_key.multiplier = word[0] | 1;
	link_key.inverse = inverse_of(link_key.multiplier);
	link_key.addend = word[1];
	link_key.mark = word[2];
}
