/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * source.h - where the statistics of a process come from: its file (option export), else its socket
 * (option control).
 */
#ifndef SLUICE_TOP_SOURCE_H
#define SLUICE_TOP_SOURCE_H

#include <stdbool.h>
#include <sys/types.h>

struct source {
	pid_t pid;
	int fd; /* of the file; -1 if the socket is used */
	char path[128];
};

/* Returns false, and writes one line to why (ASK_WHY bytes), if the process cannot be read. */
bool source_open(struct source *s, pid_t pid, char *why);

/* Waits for so many ms. Returns whether the user wants no more; source_read then returns NULL with
 * an empty line. */
extern bool (*source_wait)(unsigned ms);

/* Returns the text (src/reclaim/export.h). On failure returns NULL and writes one line to why. If
 * the process has called exec, or has closed its file, it is opened again. */
char *source_read(struct source *s, char *why);

/* Whether a process that could not be read has ended, also if its parent has not waited for it. */
bool source_has_ended(const struct source *s);

/* The processes that can be looked at, at most n. Removes files of this user's processes that are
 * gone. */
unsigned source_list(pid_t *pids, unsigned n);

#endif
