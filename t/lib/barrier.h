/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * For the tests of the heap claim: children in which membarrier is refused, and whether this build
 * can use it.
 */
#ifndef T_BARRIER_H
#define T_BARRIER_H

#include <linux/filter.h>
#include <linux/membarrier.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/tap.h"

#if defined(__has_feature)
#define HAS_FEATURE(x) __has_feature(x)
#else
#define HAS_FEATURE(x) 0
#endif
#if defined(__SANITIZE_THREAD__) || HAS_FEATURE(thread_sanitizer)
#define UNDER_TSAN 1
#else
#define UNDER_TSAN 0
#endif

/* From now on membarrier fails with err in this process: every command, or GLOBAL alone. */
static inline bool refuse_membarrier(bool all, unsigned err)
{
	const struct sock_filter rules[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_membarrier, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
		BPF_JUMP(BPF_JMP | (all ? BPF_JGE : BPF_JEQ) | BPF_K,
			 all ? 0 : MEMBARRIER_CMD_GLOBAL, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | err),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog program = { sizeof(rules) / sizeof(rules[0]),
					    (struct sock_filter *)(uintptr_t)rules };

	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
	       prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

enum { CHILD_GOOD = 0, CHILD_BAD = 1, CHILD_CANNOT = 77 };

/* Runs fn in a fork. Returns its result, one of the above. */
static inline int run_child(int (*fn)(void))
{
	int status = -1;
	pid_t pid = fork();

	if (pid == 0)
		_exit(fn());
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return pid < 0 ? CHILD_CANNOT : CHILD_BAD;
	return WEXITSTATUS(status);
}

static inline void child_result(int result, const char *label)
{
	if (result == CHILD_CANNOT)
		tap_skip(1, "no system call filter can be set here (%s)", label);
	else
		ok(result == CHILD_GOOD, "%s", label);
}

#endif
