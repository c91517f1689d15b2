/* SPDX-License-Identifier: BSD-2-Clause */
/* cases.h - a helper of t/die whose argument names one of its cases. */
#ifndef SLUICE_T_CASES_H
#define SLUICE_T_CASES_H

#include <stdio.h>
#include <string.h>

struct die_case {
	const char *name;
	void (*run)(void);
};

/* Runs the case that the only argument names, and says "survived" if it returns. Returns main's
 * exit status. */
static int die_main(const char *program, const struct die_case *cases, size_t n, int argc,
		    char **argv)
{
	for (size_t i = 0; argc == 2 && i < n; i++) {
		if (strcmp(cases[i].name, argv[1]) == 0) {
			cases[i].run();
			puts("survived");
			return 0;
		}
	}
	fprintf(stderr, "usage: %s CASE\n", program);
	return 2;
}

#endif
