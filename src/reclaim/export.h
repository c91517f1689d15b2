/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * export.h - the file in which a process shows its statistics to sluice-top (option export).
 *
 * It is named EXPORT_NAME and the process ID, is readable by its user only, and lies in the first
 * of export_dirs that is safe. The process holds a lock on it (flock) until it ends: a file that is
 * not locked is of a process that is gone. It begins with a line of EXPORT_HEAD bytes,
 *
 *   sluice-export 1 LENGTH SUM
 *
 * LENGTH (10 decimal digits) bytes of text follow, whose FNV-1a hash is SUM (16 hexadecimal
 * digits). A reader that finds another sum has met a write, and reads again. The text has lines
 *
 *   NAME VALUE                                      a statistic of stats.def
 *   time_ns NS                                      the monotonic clock, when they were read
 *   thread TID CACHED PCP REFILLS FLUSHES           of the heaps that hold most; bytes, counts
 */
#ifndef SLUICE_EXPORT_H
#define SLUICE_EXPORT_H

#include "types.h"

#define EXPORT_NAME "sluice."
#define EXPORT_HEAD 44u
#define EXPORT_TEXT_MAX 12288u
#define EXPORT_THREADS 64u
#define EXPORT_MS 250u /* between writes, about */

/* Besides the one that XDG_RUNTIME_DIR names, which comes first. */
#define EXPORT_DIRS "/run", "/dev/shm", "/tmp"

static inline uint64_t export_sum(const char *text, size_t len)
{
	uint64_t sum = UINT64_C(0xcbf29ce484222325);

	for (size_t i = 0; i < len; i++)
		sum = (sum ^ (unsigned char)text[i]) * UINT64_C(0x100000001b3);
	return sum;
}

/* At the start of the process: makes the file. At its end: removes it. */
void export_init(void);
void export_end(void);

/* Background thread only. Whether there is a file, and so a reason not to park. Writes it, if that
 * is due. */
bool export_wanted(void);
void export_tick(void);

/* The text. Background thread only. Returns its length, without the final zero byte. */
size_t export_text(char *text, size_t room);

/* A fork child has no file. copy: see ourfd_fork_child. */
void export_fork_child(bool copy);

#endif
