/* SPDX-License-Identifier: BSD-2-Clause */
/* wish.h - what sluice-top and sluice-stat have in common: arguments, and all output but the live
 * view. */
#ifndef SLUICE_TOP_WISH_H
#define SLUICE_TOP_WISH_H

#include <stdio.h>

#include "top/sample.h"
#include "top/source.h"

enum form { FORM_SCREEN, FORM_LINES, FORM_JSON, FORM_PROMETHEUS, FORM_PLOT, FORM_ONCE };

struct wish {
	enum form form;
	bool chosen;         /* an argument names the form */
	double delay;        /* seconds */
	unsigned long count; /* samples; 0: no end */
	enum sample_order order;
	bool plain; /* no colours */
	const char *file;
	pid_t pid;
};

enum { EXIT_UNREAD = 1, EXIT_USAGE = 2 };

extern const char *wish_me; /* the name of the tool; set by main */

_Noreturn __attribute__((format(printf, 2, 3))) void die(int status, const char *fmt, ...);

/* Ends the program if the arguments are wrong, or ask for help. form: the form of the output if no
 * argument names one. usage: what --help prints before the options that both tools have. */
void wish_parse(struct wish *w, int argc, char **argv, enum form form, const char *usage);

/* Prints samples in the form asked for. Returns the exit status. */
int wish_print(const struct wish *w, struct source *s);

/* The screen as text, once: see screen.h. NULL in sluice-stat. */
extern void (*wish_once)(const struct sample *now, const struct sample *before, struct wish *w);

/* Sleeps for the delay. */
void wish_sleep(double seconds);

#endif
