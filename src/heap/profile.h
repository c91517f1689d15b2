/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * profile.h - the heap profile: sampled objects by the stacks that allocated them.
 */
#ifndef SLUICE_PROFILE_H
#define SLUICE_PROFILE_H

#include "heap/sites.h"
#include "types.h"

/* Whether there is one; set once, while the process has one thread. */
extern bool profile_on;

/* Whether what is sampled is noted; any thread may set it. */
extern _Atomic uint32_t profile_active;

/* The same of threads that have not said so, nor had a sample yet; any thread may set it. */
extern _Atomic uint32_t profile_thread_init;

/* Whether it is noted of the calling thread. */
bool profile_of_thread(void);
void profile_set_thread(bool on);

/* Whether what the calling thread samples is noted. */
bool profile_is_noting(void);

/* Whether the profile is written at each new peak of live memory; any thread may set it. */
extern _Atomic uint32_t profile_gdump;

/* Fills in, by size class, bytes of live objects, and of free memory in slabs that have some. Set
 * at the start, to what is above this layer. Allocates nothing. */
extern void (*profile_by_class)(uint64_t *live, uint64_t *pinned);

/* Takes memory for the tables. Returns false, after a warning, if there is none. While the process
 * has one thread. */
bool profile_init(void);

/* Whether a large allocation of so many bytes is to be sampled. */
bool profile_large_due(size_t bytes);

/* Notes an object, of so many bytes, and the stack of the caller. */
void profile_add(const void *p, size_t bytes);

/* The object, if it was noted, is not in use any more. */
struct profile_note profile_remove(const void *p);
size_t profile_bytes(const void *p);

/* It is in use after all, where it was. */
void profile_restore(const void *p, const struct profile_note *note);

/* Forgets all that was noted. */
void profile_reset(void);

/*
 * Writes the profile to a file, as jemalloc does (heap_v2), with lines of our own between its
 * (doc/profile.md). path: NULL for PREFIX.PID.SEQ.WHY.heap, with the option prof_prefix. Returns 0
 * or a positive errno: EAGAIN while another thread dumps, ENXIO if the path is neither a file nor a
 * terminal. Allocates nothing.
 */
int profile_dump(const char *path, char why);

/* The same; name: what the file is called, or would be, up to PROFILE_NAME_MAX with its end. Empty
 * if none is written because prof_prefix is empty. */
#define PROFILE_NAME_MAX 400u
int profile_dump_named(const char *path, char why, char *name);

/* The text of what they return. */
const char *profile_error(int err);

/* What the options ask for at the end of the process. Waits for a dump under way, up to 1 s. */
void profile_end(void);

#endif
