/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * bedroom.h - threads of a test that sleep until all of them are woken together.
 */
#ifndef SLUICE_T_BEDROOM_H
#define SLUICE_T_BEDROOM_H

#include <pthread.h>
#include <stdbool.h>

static struct {
	pthread_mutex_t mutex;
	pthread_cond_t cond;
	unsigned asleep;
	bool wake;
} bedroom = { .mutex = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER };

/* Called by a sleeper; returns after bedroom_wake. */
static inline void bedroom_sleep(void)
{
	pthread_mutex_lock(&bedroom.mutex);
	bedroom.asleep++;
	pthread_cond_broadcast(&bedroom.cond);
	while (!bedroom.wake)
		pthread_cond_wait(&bedroom.cond, &bedroom.mutex);
	pthread_mutex_unlock(&bedroom.mutex);
}

/* Returns when n threads are asleep. */
static inline void bedroom_wait(unsigned n)
{
	pthread_mutex_lock(&bedroom.mutex);
	while (bedroom.asleep < n)
		pthread_cond_wait(&bedroom.cond, &bedroom.mutex);
	pthread_mutex_unlock(&bedroom.mutex);
}

static inline void bedroom_wake(void)
{
	pthread_mutex_lock(&bedroom.mutex);
	bedroom.wake = true;
	pthread_cond_broadcast(&bedroom.cond);
	pthread_mutex_unlock(&bedroom.mutex);
}

/* After the sleepers have ended: others may sleep. */
static inline void bedroom_again(void)
{
	bedroom.asleep = 0;
	bedroom.wake = false;
}

#endif
