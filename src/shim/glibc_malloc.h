/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * glibc_malloc.h - <malloc.h> as glibc has it. If the C library declares less (musl), we still
 * export the whole family: programs look the names up, or bring declarations like these.
 */
#ifndef SLUICE_GLIBC_MALLOC_H
#define SLUICE_GLIBC_MALLOC_H

#include <malloc.h>

#ifndef __GLIBC__
#include <stddef.h>
#include <stdio.h>

struct mallinfo {
	int arena;
	int ordblks;
	int smblks;
	int hblks;
	int hblkhd;
	int usmblks;
	int fsmblks;
	int uordblks;
	int fordblks;
	int keepcost;
};

struct mallinfo2 {
	size_t arena;
	size_t ordblks;
	size_t smblks;
	size_t hblks;
	size_t hblkhd;
	size_t usmblks;
	size_t fsmblks;
	size_t uordblks;
	size_t fordblks;
	size_t keepcost;
};

#define M_MXFAST 1
#define M_TRIM_THRESHOLD (-1)
#define M_TOP_PAD (-2)
#define M_MMAP_THRESHOLD (-3)
#define M_MMAP_MAX (-4)
#define M_CHECK_ACTION (-5)
#define M_PERTURB (-6)
#define M_ARENA_TEST (-7)
#define M_ARENA_MAX (-8)

struct mallinfo mallinfo(void);
struct mallinfo2 mallinfo2(void);
int malloc_info(int options, FILE *out);
void malloc_stats(void);
int malloc_trim(size_t pad);
int mallopt(int param, int value);
void *pvalloc(size_t size);
#endif

#endif
