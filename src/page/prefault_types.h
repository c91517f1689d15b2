/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * prefault_types.h - the marks of a zone's reserve.
 */
#ifndef SLUICE_PREFAULT_TYPES_H
#define SLUICE_PREFAULT_TYPES_H

#include "types.h"

/* Any thread, atomic. */
struct prefault_marks {
	/* An allocation that leaves fewer prefaulted pages wakes the reserve's thread, */
	cache_aligned _Atomic uint64_t low;
	_Atomic uint64_t over;  /* as does a free that leaves more. */
	_Atomic uint32_t word;  /* the thread sleeps on it; 1: asleep */
	_Atomic uint64_t after; /* ms, until then nothing is populated */
};

#endif
