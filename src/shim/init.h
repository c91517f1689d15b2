/* SPDX-License-Identifier: BSD-2-Clause */
/* init.h - what the library's constructor does; only unit tests call it otherwise. */
#ifndef SLUICE_INIT_H
#define SLUICE_INIT_H

void sluice_init(void);

#endif
