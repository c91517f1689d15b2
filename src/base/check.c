/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * check.c - see check.h. Primitive; used by all layers; uses log and backtrace.
 * Allocates nothing, takes no lock of ours, may run in a signal handler and in a fork child.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "base/check.h"

#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "base/backtrace.h"
#include "base/log.h"
#include "base/park.h"
#include "base/sys.h"
#include "types.h"

#define LINE_MS 1000

_Thread_local unsigned cold_lines;
bool fatal_backtrace = true;

/* Gives the thread that has written its line time for the backtrace. It then ends the program. */
static void wait_for_other_thread(void)
{
	park_sleep_ms(BACKTRACE_MS / 1000 * 1000 + 1000);
}

/*
 * As abort ends a program: a handler of SIGABRT is called and may jump away; if it returns, nothing
 * keeps the program from ending. Without libc's abort, because the program may have a function of
 * that name which does something else.
 */
static _Noreturn void end(void)
{
	const uint64_t abrt = UINT64_C(1) << (SIGABRT - 1);
	const uint64_t usual[4] = { 0 }; /* the kernel's struct sigaction: SIG_DFL */

	sys_sigmask(SIG_UNBLOCK, &abrt, NULL);
	sys_raise(SIGABRT);
	for (;;) {
		sluice_syscall(SYS_rt_sigaction, SIGABRT, usual, NULL, sizeof(abrt));
		/* The handler may have blocked it in the mask that it returned to. */
		sys_sigmask(SIG_UNBLOCK, &abrt, NULL);
		sys_raise(SIGABRT);
		/* The first process of a PID namespace, or a seccomp filter. */
		sluice_syscall(SYS_exit_group, 128 + SIGABRT);
	}
}

/* more: what follows the line; NULL: the caller's backtrace. */
static _Noreturn void fatal(void (*more)(void *), void *arg, const char *fmt, va_list ap)
	__attribute__((format(printf, 3, 0)));
static void fatal(void (*more)(void *), void *arg, const char *fmt, va_list ap)
{
	static _Atomic(void *) entered;
	static _Thread_local char me TLS_FAST; /* its address names the thread: no system call */
	void *first = NULL;

	backtrace_end_copy();
	/* A second thread, or a fault in the code below, must not write over the first line. */
	if (atomic_compare_exchange_strong_explicit(&entered, &first, (void *)&me,
						    memory_order_relaxed, memory_order_relaxed)) {
		log_vline("sluice: fatal: ", LINE_MS, fmt, ap);
		if (more)
			more(arg);
		else if (fatal_backtrace)
			backtrace_write();
	} else if (first != &me) {
		wait_for_other_thread();
	}
	end();
}

void sluice_fatal(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fatal(NULL, NULL, fmt, ap);
}

void sluice_fatal_more(void (*more)(void *), void *arg, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fatal(more, arg, fmt, ap);
}
