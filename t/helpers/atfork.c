/* SPDX-License-Identifier: BSD-2-Clause */
/* A library that registers a fork handler in its constructor. */
#include <pthread.h>
#include <stddef.h>

extern void (*atfork_prepare)(void);
void (*atfork_prepare)(void);

static void prepare(void)
{
	if (atfork_prepare != NULL)
		atfork_prepare();
}

__attribute__((constructor)) static void begin(void)
{
	pthread_atfork(prepare, NULL, NULL);
}
