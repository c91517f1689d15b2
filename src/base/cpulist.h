/* SPDX-License-Identifier: BSD-2-Clause */
/* cpulist.h - lists of processors in the format of the kernel, 0-3,8. Primitive; safe anywhere. */
#ifndef SLUICE_CPULIST_H
#define SLUICE_CPULIST_H

#include <stdbool.h>

/* Reads a number below 100,000,000. Returns false if there is none. */
static inline bool cpulist_number(const char **at, unsigned *number)
{
	const char *first = *at;

	*number = 0;
	for (; **at >= '0' && **at <= '9'; ++*at) {
		if (*number > 9999999)
			return false;
		*number = *number * 10 + (unsigned)(**at - '0');
	}
	return *at != first;
}

/* Reads a processor or a range, and the separator behind it if any. Returns false if there is none,
 * or if the range runs backwards. */
static inline bool cpulist_next(const char **at, char separator, unsigned *first, unsigned *last)
{
	if (!cpulist_number(at, first))
		return false;
	*last = *first;
	if (**at == '-' && (++*at, !cpulist_number(at, last)))
		return false;
	if (**at == separator)
		++*at;
	return *last >= *first;
}

#endif
