/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * mallctl.h - the table of the names of mallctl, for mallctl.c and stats_print.c.
 */
#ifndef SLUICE_MALLCTL_H
#define SLUICE_MALLCTL_H

#include "page/pcp.h"
#include "types.h"

enum ctl_type {
	CTL_VOID,
	CTL_BOOL,
	CTL_UNSIGNED,
	CTL_U32,
	CTL_SIZE,
	CTL_SSIZE,
	CTL_U64,
	CTL_S64,
	CTL_STRING,
};

#define CTL_PARTS 8u   /* of a name, at most */
#define CTL_INDICES 2u /* in a name, at most */

/* The indices of a name, in the place of its %s. */
struct ctl_at {
	size_t index[CTL_INDICES];
};

/* A value of any type is a uint64_t; a string is the address of its first byte. */
#define CTL_TEXT(text) ((uintptr_t)(text))

/* What a call writes. data is NULL if it writes nothing. */
struct ctl_new {
	const void *data;
	size_t bytes;
	uint64_t value; /* of data, if it is of the row's type */
};

struct ctl_row {
	const char *name;
	enum ctl_type type;
	uint64_t (*get)(const struct ctl_at *at); /* NULL: a call does something */
	int (*set)(const struct ctl_new *new);    /* NULL if the name is read-only */
	bool creates;                             /* reading it does something */
	bool renews;   /* a call that writes it reads what it has become */
	bool defaults; /* a call may write nothing, although there is a type */
};

extern const struct ctl_row ctl_rows[];
extern const unsigned ctl_rows_count;

/* Lengths of large objects that "arenas.lextent" lists: the run classes above SMALL_MAX, then four
 * for each doubling, up to 7 x 2^60. */
#define CTL_RUNS (unsigned)(RUN_CLASSES - (SMALL_MAX >> PG_SHIFT))
#define CTL_LEXTENTS (CTL_RUNS + 4 * 41 + 3)

/* Part i of a name, and its length; NULL if the name has fewer. */
const char *ctl_part(const char *name, unsigned i, size_t *len);

/* The end of the rows, from `row` on, whose names have the same first parts, i of them (not 0). */
unsigned ctl_rows_end(unsigned row, unsigned i);

/* How many arenas the program thinks there are. */
unsigned ctl_arenas(void);

/* How many values the index has that follows this part of a name. */
size_t ctl_index_count(const char *part, size_t len);

/* Read the statistics that the rows show again. */
void ctl_refresh(void);

/* The version that "version" shows, as jemalloc writes its own. */
#define JEMALLOC_VERSION "5.3.0-0-g0sluice" PACKAGE_VERSION

#endif
