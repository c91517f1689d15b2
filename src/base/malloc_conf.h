/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * malloc_conf.h - MALLOC_CONF, the options of jemalloc, for programs that come from there.
 */
#ifndef SLUICE_MALLOC_CONF_H
#define SLUICE_MALLOC_CONF_H

#include <stdbool.h>

/* decay_ms has bounds that dirty_decay_ms of jemalloc has not: what lies outside becomes the
 * nearest that it takes, and -1 (never) the most. */
#define DECAY_MS_LEAST 10
#define DECAY_MS_MOST 3600000

/* MALLOC_CONF had confirm_conf:true. */
extern bool malloc_conf_confirmed;

/*
 * Reads MALLOC_CONF ("name:value,name:value") from the environment, unless the program has gained
 * privileges, and sets the options that have a counterpart here and were not set by their own
 * names. The others are ignored without a word; confirm_conf:true asks for one line that says which
 * were taken and which were not. After options_load, before the process has a second thread.
 */
void malloc_conf_load(void);

#endif
