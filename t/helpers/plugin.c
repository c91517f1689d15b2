/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * An object for dlopen that allocates when it is loaded and frees when it is
 * closed, has thread-local storage of its own, and trades blocks with its host.
 */
#include <stdlib.h>
#include <string.h>

int plugin_state(void);
char *plugin_give(size_t n);
void plugin_take(char *p);

enum { BLOCKS = 100 };
static unsigned char *blocks[BLOCKS];
static __thread char *last; /* dynamic TLS: the loader allocates its space by malloc */

__attribute__((constructor)) static void opened(void)
{
	for (int i = 0; i < BLOCKS; i++) {
		blocks[i] = malloc((size_t)(i * i + 1));
		if (blocks[i] != NULL)
			blocks[i][0] = (unsigned char)i;
	}
}

__attribute__((destructor)) static void closed(void)
{
	for (int i = 0; i < BLOCKS; i++)
		free(blocks[i]);
}

/* Returns how many blocks of the constructor are unchanged. */
int plugin_state(void)
{
	int whole = 0;

	for (int i = 0; i < BLOCKS; i++)
		whole += blocks[i] != NULL && blocks[i][0] == (unsigned char)i;
	return whole;
}

char *plugin_give(size_t n)
{
	last = malloc(n < 16 ? 16 : n);
	if (last != NULL)
		memcpy(last, "from the plugin", 16);
	return last;
}

void plugin_take(char *p)
{
	free(p);
}
