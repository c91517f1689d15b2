/* SPDX-License-Identifier: BSD-2-Clause */
/* sanitizer.h - programs with a sanitizer, which must be their malloc. */
#ifndef SLUICE_SANITIZER_H
#define SLUICE_SANITIZER_H

/*
 * If the program contains the runtime of a sanitizer, and LD_PRELOAD has loaded us: prints one line
 * that says so, and executes the program again without us. Called before anything else, with the
 * arguments of main.
 */
void sanitizer_step_aside(char **argv, char **envp);

#endif
