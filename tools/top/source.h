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
	int fd; /* of the file; -1: by the socket */
	char path[128];
};

/* Return false, and one line in why (ASK_WHY bytes), if it cannot be. */
bool source_open(struct source *s, pid_t pid, char *why);

/* Returns the text (src/reclaim/export.h), or NULL and one line in why. */
char *source_read(struct source *s, char *why);

/* Whether the process has ended: its last figures are not read. */
bool source_has_ended(const struct source *s);

/* The processes that can be looked at, at most n. Removes files of this user's processes that are
 * gone. */
unsigned source_list(pid_t *pids, unsigned n);

#endif
