/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ask.h - a question to a running process that uses Sluice, by the socket of src/reclaim/control.h.
 *
 * No function ends the program. `why` receives one line without an end, for the user.
 */
#ifndef SLUICE_TOOLS_ASK_H
#define SLUICE_TOOLS_ASK_H

#include <stdbool.h>
#include <stdio.h>
#include <sys/types.h>

#define ASK_WHY 256

/* Returns 0 if the text is no process ID. */
pid_t ask_pid(const char *text);

/* Returns what follows "ok", in static memory, or NULL. seconds: how long to wait. */
char *ask(pid_t pid, const char *request, unsigned seconds, char *why);

/* Prints all but printable ASCII and ends of lines escaped: it is the text of another process. */
void ask_print(FILE *out, const char *text);

/* Whether a line is a name, which is a word, and a number. */
bool ask_is_pair(const char *name, const char *value);

/* One that has ended and is not waited for, or whose first thread has ended, seems to have none. */
bool ask_has_memory(pid_t pid);

#endif
