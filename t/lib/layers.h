/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * layers.h - the layers of the statistics, and what the kernel says of the same memory. Allocates
 * nothing.
 */
#ifndef T_LAYERS_H
#define T_LAYERS_H

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SMAPS ((size_t)8 << 20)
#define SLACK_KIB 256

/* Resident KiB of all private mappings without a name. text: SMAPS bytes that are none of them. */
static inline long smaps_kib(char *text)
{
	size_t len = 0;
	bool anonymous = false;
	long kib = 0;
	int fd = open("/proc/self/smaps", O_RDONLY | O_CLOEXEC);

	for (ssize_t n; fd >= 0 && (n = read(fd, text + len, SMAPS - 1 - len)) > 0;)
		len += (size_t)n;
	close(fd);
	text[len] = '\0';
	for (char *line = text, *end; (end = strchr(line, '\n')) != NULL; line = end + 1) {
		char perms[8];
		char inode[24];
		int at = 0;

		*end = '\0';
		if (sscanf(line, "%*x-%*x %7s %*s %*s %23s%n", perms, inode, &at) == 2 && at)
			anonymous = perms[3] == 'p' && strcmp(inode, "0") == 0 &&
				    !strchr(line + at, '[') && !strchr(line + at, '/');
		else if (anonymous && strncmp(line, "Rss:", 4) == 0)
			kib += atol(line + 4);
	}
	return kib;
}

static inline bool near(long a, long b)
{
	long off = a > b ? a - b : b - a;

	return off <= SLACK_KIB || off * 100 <= b;
}

/* " NAME KIB" for each layer. stat_kib: of a statistic. Returns the length. */
static inline int layers_print(char *line, size_t bytes, long (*stat_kib)(const char *name))
{
	static const char *const layers[] = { "live",       "cached", "pcp",      "dirty",
					      "prefaulted", "pinned", "mapcache", "metadata" };
	int n = 0;

	for (size_t i = 0; i < sizeof layers / sizeof *layers; i++) {
		char name[32];

		snprintf(name, sizeof name, "layer_%s", layers[i]);
		n += snprintf(line + n, bytes - (size_t)n, " %s %ld", layers[i], stat_kib(name));
	}
	return n;
}

#endif
