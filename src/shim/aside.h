/* SPDX-License-Identifier: BSD-2-Clause */
/* aside.h - programs that have to have another malloc. */
#ifndef SLUICE_ASIDE_H
#define SLUICE_ASIDE_H

/*
 * Where the program has the runtime of a sanitizer that is its malloc, and LD_PRELOAD has brought us: says so in one line,
 * and begins the program again without us. To be called before anything else, with what main gets.
 */
void aside_step(char **argv, char **envp);

#endif
