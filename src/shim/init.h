/* SPDX-License-Identifier: BSD-2-Clause */
/* init.h - the library's constructor and destructor; nothing calls them by hand but unit tests. */
#ifndef SLUICE_INIT_H
#define SLUICE_INIT_H

void sluice_init(void);

#endif
