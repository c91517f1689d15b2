/* SPDX-License-Identifier: BSD-2-Clause */
/* sanitizer.h - programs that have to have another malloc. */
#ifndef SLUICE_SANITIZER_H
#define SLUICE_SANITIZER_H

/*
 * Where the program has the runtime of a sanitizer that is its malloc, and LD_PRELOAD has brought us: says so in one line,
 * and begins the program again without us. To be called before anything else, with what main gets.
 */
void sanitizer_step_aside(char **argv, char **envp);

#endif
