/* SPDX-License-Identifier: BSD-2-Clause */
/* free_once.h - many threads free one object at the same moment; exactly one succeeds. */
#ifndef T_FREE_ONCE_H
#define T_FREE_ONCE_H

#include <pthread.h>
#include <stdint.h>

#define FREE_ONCE_THREADS 4u
#define FREE_ONCE_ROUNDS 200u

/* free_one returns, as a pointer, whether it freed its argument. Returns the number of rounds in
 * which not exactly one thread did. */
static inline unsigned freed_not_once(void *(*make)(void), void *(*free_one)(void *))
{
	pthread_t t[FREE_ONCE_THREADS];
	unsigned bad = 0;

	for (unsigned round = 0; round < FREE_ONCE_ROUNDS; round++) {
		void *p = make();
		unsigned n = 0;

		for (unsigned i = 0; i < FREE_ONCE_THREADS; i++)
			pthread_create(&t[i], NULL, free_one, p);
		for (unsigned i = 0; i < FREE_ONCE_THREADS; i++) {
			void *result;

			pthread_join(t[i], &result);
			n += (unsigned)(uintptr_t)result;
		}
		bad += n != 1;
	}
	return bad;
}

#endif
