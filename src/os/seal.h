/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * seal.h - makes the data of sealed.h read-only after the start.
 */
#ifndef SLUICE_SEAL_H
#define SLUICE_SEAL_H

/* From now on a write to sealed data faults. At the end of the start. */
void seal_close(void);

/* Before the library changes an option while the process runs. Any thread; stays in effect. */
void seal_open(void);

#endif
