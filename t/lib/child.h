/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * For the unit tests: runs a function in a child process, and reports how it ended and what it
 * wrote to standard error.
 */
#ifndef T_CHILD_H
#define T_CHILD_H

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/limit.h"
#include "lib/tap.h"

#undef stderr /* musl's is "(stderr)", which cannot name a member */

struct child {
	int status;        /* as waitpid gives it */
	char stderr[4096]; /* what the child wrote, cut to this length */
};

/* Runs fn(arg) in a fork; a child that does not end within 110 s (test_limit) is killed. */
static inline void child_run(struct child *c, void (*fn)(void *arg), void *arg)
{
	size_t len = 0;
	ssize_t n;
	int fd[2];
	pid_t pid;

	if (pipe(fd) != 0)
		tap_bail_out("cannot make a pipe");
	pid = fork();
	if (pid < 0)
		tap_bail_out("cannot fork");
	if (pid == 0) {
		const struct rlimit no_core = { 0, 0 };

		setrlimit(RLIMIT_CORE, &no_core);
		dup2(fd[1], STDERR_FILENO);
		close(fd[0]);
		close(fd[1]);
		alarm(test_limit(110));
		fn(arg);
		_exit(0);
	}
	close(fd[1]);
	while ((n = read(fd[0], c->stderr + len, sizeof(c->stderr) - 1 - len)) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		len += (size_t)n;
	}
	c->stderr[len] = '\0';
	close(fd[0]);
	while (waitpid(pid, &c->status, 0) < 0 && errno == EINTR)
		;
}

/* Returns whether fn(arg) ends in an abort after a line that begins with text. */
static inline bool child_is_stopped(void (*fn)(void *arg), void *arg, const char *text)
{
	struct child c;
	bool good;

	child_run(&c, fn, arg);
	good = WIFSIGNALED(c.status) && WTERMSIG(c.status) == SIGABRT &&
	       strncmp(c.stderr, "sluice: fatal: ", 15) == 0 &&
	       strncmp(c.stderr + 15, text, strlen(text)) == 0;
	if (!good)
		tap_diag("status 0x%x, standard error: %s", (unsigned)c.status, c.stderr);
	return good;
}

/* Returns whether fn(arg) returns or exits with 0. */
static inline bool child_is_well(void (*fn)(void *arg), void *arg)
{
	struct child c;

	child_run(&c, fn, arg);
	if (c.status != 0)
		tap_diag("status 0x%x, standard error: %s", (unsigned)c.status, c.stderr);
	return c.status == 0;
}

#endif
