/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The smallest auditor (see rtld-audit(7)). It has a C library of its own, and prints at the end on
 * stderr how many objects it saw.
 */
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* <link.h> declares the others. */
static unsigned objects, sluice;

unsigned int la_version(unsigned int version)
{
	free(malloc(100));
	return version;
}

unsigned int la_objopen(struct link_map *map, Lmid_t lmid, uintptr_t *cookie)
{
	(void)lmid;
	*cookie = (uintptr_t)map;
	free(malloc(1000));
	objects++;
	sluice += strstr(map->l_name, "libsluice") != NULL;
	return LA_FLG_BINDTO | LA_FLG_BINDFROM;
}

void la_activity(uintptr_t *cookie, unsigned int flag)
{
	(void)cookie;
	free(calloc(10, flag + 1));
}

__attribute__((destructor)) static void report(void)
{
	fprintf(stderr, "auditor: %u objects, %u of them Sluice\n", objects, sluice);
}
