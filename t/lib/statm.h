/* SPDX-License-Identifier: BSD-2-Clause */
/* statm.h - how many pages a program has, read without a call of the allocator. */
#ifndef SLUICE_T_HELPERS_STATM_H
#define SLUICE_T_HELPERS_STATM_H

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum statm_field { STATM_SIZE, STATM_RESIDENT };

static inline long statm_pages(enum statm_field field)
{
	char text[128] = "";
	int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
	long pages[2] = { 0, 0 };

	if (fd < 0 || read(fd, text, sizeof(text) - 1) <= 0 ||
	    sscanf(text, "%ld %ld", &pages[0], &pages[1]) != 2)
		abort();
	close(fd);
	return pages[field];
}

static inline long statm_rss_kib(void)
{
	return statm_pages(STATM_RESIDENT) * (sysconf(_SC_PAGESIZE) / 1024);
}

#endif
