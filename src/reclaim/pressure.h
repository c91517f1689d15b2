/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pressure.h - start and fork of the two modules that notice short memory: limits and psi.
 */
#ifndef SLUICE_PRESSURE_H
#define SLUICE_PRESSURE_H

#include <stdbool.h>

/* While the process has one thread. From here on growth and frees respect the limits. */
void pressure_init(void);

/* In a fork child. copy: the child was made by _Fork or a raw clone, without fork handlers. */
void pressure_fork_child(bool copy);

#endif
