/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * signals.c - see signals.h. Used by background and reserve; uses the primitives.
 *
 * A seccomp filter raises SIGSYS for a system call. If our thread blocked it, the kernel would kill
 * the process, whatever its handler does. Without a handler it kills the process in any case; but
 * then a program may wait for a SIGSYS that others send, with the signal blocked in all its
 * threads. So ours block it, too, while it has no handler.
 *
 * No lock, allocates nothing, does not wait.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "reclaim/signals.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/sandbox.h"
#include "types.h"

static _Thread_local bool blocked TLS_FAST; /* SIGSYS is */

/* A raw call: the functions of libc refuse to change its own signals, and a thread of libc in which
 * we may run has one of them blocked. */
void signals_set(int how, const uint64_t *mask, uint64_t *before)
{
	(void)syscall(SYS_rt_sigprocmask, how, mask, before, sizeof(*mask));
}

static bool sigsys_has_handler(void)
{
	uintptr_t now[8] = { 0 }; /* the kernel's struct sigaction, which begins with the handler */

	return syscall(SYS_rt_sigaction, SIGSYS, NULL, now, sizeof(uint64_t)) == 0 &&
	       now[0] != (uintptr_t)SIG_DFL && now[0] != (uintptr_t)SIG_IGN;
}

void signals_begin(void)
{
	uint64_t mask = SIGNALS_OURS;

	blocked = !sigsys_has_handler();
	if (blocked)
		mask |= SIGNALS_SIGSYS;
	signals_set(SIG_SETMASK, &mask, NULL);
}

void signals_round(void)
{
	uint64_t bit = SIGNALS_SIGSYS;

	/* A filter that is there already may forbid the question. */
	if (!sandbox_enter())
		return;
	if (sigsys_has_handler() == blocked) {
		blocked = !blocked;
		signals_set(blocked ? SIG_BLOCK : SIG_UNBLOCK, &bit, NULL);
	}
	sandbox_leave();
}
