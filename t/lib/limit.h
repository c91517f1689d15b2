/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * limit.h - time limits that a test sets itself by alarm, so that a hang is seen.
 */
#ifndef T_LIMIT_H
#define T_LIMIT_H

#include <stdlib.h>

/* As build-aux/run-test's limits: times SLUICE_TEST_TIMEOUT_MULT, and 0, for none, if that is 0. */
static inline unsigned test_limit(unsigned seconds)
{
	const char *times = getenv("SLUICE_TEST_TIMEOUT_MULT");

	return times && *times ? seconds * (unsigned)strtoul(times, NULL, 10) : seconds;
}

#endif
