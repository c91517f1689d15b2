/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pressure.h - start and fork of what says that memory is short: limits.h and psi.h.
 */
#ifndef SLUICE_PRESSURE_H
#define SLUICE_PRESSURE_H

#include <stdbool.h>

/* From now on growth and frees respect the limits. While the process has one thread. */
void pressure_init(void);

/* In a fork child. */
void pressure_fork_child(bool copy);

#endif
