/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Signal handlers that allocate, trim and fork, whatever lock the interrupted call holds.
 *
 *	handlers ROUNDS
 *
 * Two threads grow and trim. In each round a thread starts, leaves slabs to the pools, and ends;
 * then both growing threads get a signal. So handlers take the locks of pools while the calls that
 * they interrupted hold zones' locks, and the other way round.
 */
#include "lib/check.h"

#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/wait.h>

enum {
	GROWERS = 2,
	BIG = 3 << 20,
	BIGS = 40,
	SMALLS = 400,
	CLASSES = 200, /* sizes of which an ending thread leaves slabs */
	EACH = 8,
	KEPT = 4096,
	TRIM_EVERY = 16, /* signals */
	FORK_EVERY = 128,
};

static _Atomic bool over;
static _Atomic unsigned signals;
static void *_Atomic kept[KEPT];
static _Atomic unsigned keeps;

static void trim(void)
{
#ifdef __GLIBC__
	malloc_trim(0);
#endif
}

static void fork_here(void)
{
	pid_t pid = fork();
	int status = 0;

	if (pid == 0) {
		free(malloc(100));
		_exit(0);
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	CHECK(pid > 0 && status == 0, "fork %d, status %d", (int)pid, status);
}

static void on_signal(int sig)
{
	unsigned n = atomic_fetch_add(&signals, 1);
	int saved = errno;
	char *p[SMALLS];

	(void)sig;
	for (unsigned i = 0; i < SMALLS; i++) {
		p[i] = malloc(16 + (n * 37 + i * 5) % 1000);
		CHECK(p[i] != NULL, "no memory");
	}
	if (n % TRIM_EVERY == 0)
		trim();
	if (n % FORK_EVERY == 0)
		fork_here();
	for (unsigned i = 0; i < SMALLS; i++)
		free(p[i]);
	errno = saved;
}

static void *leave_slabs(void *arg)
{
	for (unsigned i = 0; i < CLASSES; i++) {
		void *p[EACH];

		for (unsigned k = 0; k < EACH; k++)
			p[k] = malloc(16 + i * 5 % 1000);
		free(atomic_exchange(&kept[atomic_fetch_add(&keeps, 1) % KEPT], p[0]));
		for (unsigned k = 1; k < EACH; k++)
			free(p[k]);
	}
	return arg;
}

static void *grow(void *arg)
{
	while (!atomic_load(&over)) {
		void *p[BIGS];

		for (unsigned i = 0; i < BIGS; i++) {
			p[i] = malloc(BIG);
			if (p[i])
				memset(p[i], 1, 1);
		}
		for (unsigned i = 0; i < BIGS; i++)
			free(p[i]);
		trim();
	}
	return arg;
}

int main(int argc, char **argv)
{
	unsigned rounds = argc > 1 ? (unsigned)atoi(argv[1]) : 1000;
	struct sigaction sa = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
	pthread_t grower[GROWERS];
	pthread_t t;

	sigaction(SIGUSR1, &sa, NULL);
	for (unsigned i = 0; i < GROWERS; i++)
		CHECK(pthread_create(&grower[i], NULL, grow, NULL) == 0, "no thread");
	for (unsigned n = 0; n < rounds && !helper_failed; n++) {
		CHECK(pthread_create(&t, NULL, leave_slabs, NULL) == 0, "no thread");
		pthread_join(t, NULL);
		for (unsigned i = 0; i < GROWERS; i++)
			pthread_kill(grower[i], SIGUSR1);
	}
	atomic_store(&over, true);
	for (unsigned i = 0; i < GROWERS; i++)
		pthread_join(grower[i], NULL);
	return helper_end();
}
