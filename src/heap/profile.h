/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * profile.h - the heap profile: sampled objects by the stacks that allocated them.
 */
#ifndef SLUICE_PROFILE_H
#define SLUICE_PROFILE_H

#include "types.h"

/* Whether there is one; set once, while the process has one thread. */
extern bool profile_on;

/* Whether what is sampled is noted; any thread may set it. */
extern _Atomic uint32_t profile_active;

/* Takes memory for the tables. Returns false, after a warning, if there is none. While the process
 * has one thread. */
bool profile_init(void);

/* Whether a large allocation of so many bytes is to be sampled. */
bool profile_large_due(size_t bytes);

/* Notes an object, of so many bytes, and the stack of the caller. */
void profile_add(const void *p, size_t bytes);

/* What was noted of an object; bytes are 0 if it was not. */
struct profile_note {
	size_t bytes;
	uint32_t site;
	uint32_t epoch; /* of profile_reset */
};

/* The object, if it was noted, is not in use any more. */
struct profile_note profile_remove(const void *p);
size_t profile_bytes(const void *p);

/* It is in use after all, where it was. */
void profile_restore(const void *p, const struct profile_note *note);

/* Forgets all that was noted. */
void profile_reset(void);

/*
 * Writes the profile to a file, as jemalloc does (heap_v2). path: NULL for PREFIX.PID.SEQ.WHY.heap,
 * with the option prof_prefix. Returns 0 or a positive errno. Allocates nothing.
 */
int profile_dump(const char *path, char why);

/* What the options ask for at the end of the process. */
void profile_end(void);

#endif
