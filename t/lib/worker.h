/* SPDX-License-Identifier: BSD-2-Clause */
/* worker.h - a thread that runs the jobs it is given and makes no other call; and some jobs. */
#ifndef T_WORKER_H
#define T_WORKER_H

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <string.h>

#include "lib/core.h"
#include "heap/heap.h"
#include "lib/tap.h"

#ifndef OBJECTS
#define OBJECTS 2000u
#endif

struct worker {
	pthread_t thread;
	sem_t go;
	sem_t done;
	void (*job)(struct worker *w); /* NULL ends the thread */
	struct heap *heap;
	_Atomic bool stop;
	unsigned n;
	unsigned char *p[OBJECTS];
};

static inline void *worker_main(void *arg)
{
	struct worker *w = arg;

	for (;;) {
		while (sem_wait(&w->go) != 0)
			;
		if (!w->job)
			return NULL;
		w->job(w);
		w->heap = heap_self;
		sem_post(&w->done);
	}
}

static inline void worker_begin(struct worker *w)
{
	memset(w, 0, sizeof(*w));
	sem_init(&w->go, 0, 0);
	sem_init(&w->done, 0, 0);
	if (pthread_create(&w->thread, NULL, worker_main, w) != 0)
		tap_bail_out("cannot start a thread");
}

static inline void worker_tell(struct worker *w, void (*job)(struct worker *w))
{
	w->job = job;
	sem_post(&w->go);
}

static inline void worker_do(struct worker *w, void (*job)(struct worker *w))
{
	worker_tell(w, job);
	while (sem_wait(&w->done) != 0)
		;
}

static inline void worker_end(struct worker *w)
{
	worker_tell(w, NULL);
	pthread_join(w->thread, NULL);
	sem_destroy(&w->go);
	sem_destroy(&w->done);
}

static inline size_t size_of_object(unsigned i)
{
	return 16 + (size_t)i * 53 % 3000;
}

/* Allocates as many objects as it has places for, of many classes. */
static inline void fill(struct worker *w)
{
	for (w->n = 0; w->n < OBJECTS; w->n++) {
		w->p[w->n] = alloc(size_of_object(w->n));
		memset(w->p[w->n], (int)(w->n % 251), size_of_object(w->n));
	}
}

static inline void free_odd(struct worker *w)
{
	for (unsigned i = 1; i < w->n; i += 2) {
		heap_free(w->p[i]);
		w->p[i] = NULL;
	}
}

static inline void free_all(struct worker *w)
{
	for (unsigned i = 0; i < w->n; i++)
		heap_free(w->p[i]);
	w->n = 0;
}

static inline void fill_and_free_odd(struct worker *w)
{
	fill(w);
	free_odd(w);
}

static inline void fill_and_free_all(struct worker *w)
{
	fill(w);
	free_all(w);
}

/* The thread is as if inside a call, until come_out. */
static inline void stay_inside(struct worker *w)
{
	(void)w;
	atomic_store(&heap_self->busy, 1);
}

static inline void come_out(struct worker *w)
{
	(void)w;
	atomic_store(&heap_self->busy, 0);
}

/* Uses runs of pages; some stay in the pcp. */
static inline void use_pages(struct worker *w)
{
	void *p[8];

	(void)w;
	for (unsigned i = 0; i < 8; i++)
		p[i] = alloc(SMALL_MAX + 1000);
	for (unsigned i = 0; i < 8; i++)
		heap_free(p[i]);
}

static inline void check(struct worker *w)
{
	(void)w;
	heap_free(alloc(16)); /* also clears a mark that may be set */
	heap_check();
}

static inline bool intact(const struct worker *w)
{
	for (unsigned i = 0; i < w->n; i++)
		for (size_t k = 0; w->p[i] && k < size_of_object(i); k++)
			if (w->p[i][k] != (unsigned char)(i % 251))
				return false;
	return true;
}

#endif
