/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fd.h - which descriptor a file is open at.
 */
#ifndef T_FD_H
#define T_FD_H

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { FD_LIBRARY_MIN = 100, FD_TOP = 1024 }; /* the library's are below FD_TOP */

/* The lowest descriptor from `first` to FD_TOP of the file with that path, or -1. */
static inline int fd_of(const char *path, int first)
{
	char name[64];
	char file[64];

	for (int fd = first; fd < FD_TOP; fd++) {
		ssize_t n;

		snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
		n = readlink(name, file, sizeof(file) - 1);
		file[n > 0 ? n : 0] = '\0';
		if (strcmp(file, path) == 0)
			return fd;
	}
	return -1;
}

#endif
