/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * park.c - see park.h. Primitive; used by background and by all layers that cache memory.
 * Bound: one exchange and one system call to wake; neither unless the thread is parked.
 * No lock. park_wake may be called anywhere, also in signal handlers and under locks.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "base/park.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/delay.h"
#include "base/sys.h"

_Atomic uint32_t park_word;
_Atomic uint32_t park_exit_word;

void park_wake_slow(void)
{
	int saved = errno;

	DELAY_HERE(park_wake);
	SHARE_COUNT(park_word);
	/* Release pairs with the acquire in park_wait, for what the thread is woken for. */
	if (atomic_exchange_explicit(&park_word, 0, memory_order_release))
		sluice_syscall(SYS_futex, &park_word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1, NULL,
			       NULL, 0);
	errno = saved;
}

void park_wait(void)
{
	int saved = errno;

	DELAY_HERE(park_sleep);
	while (atomic_load_explicit(&park_word, memory_order_acquire))
		sluice_syscall(SYS_futex, &park_word, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, 1, NULL,
			       NULL, 0);
	errno = saved;
}

static void wake_looker(void)
{
	sluice_syscall(SYS_futex, &park_exit_word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1, NULL, NULL,
		       0);
}

void park_notify_exit_slow(void)
{
	int saved = errno;

	SHARE_COUNT(park_exit_word);
	if (atomic_compare_exchange_strong_explicit(&park_exit_word, &(uint32_t){ PARK_NOT },
						    PARK_LOOK, memory_order_relaxed,
						    memory_order_relaxed))
		wake_looker();
	errno = saved;
	park_wake();
}

void park_ask(void)
{
	int saved = errno;

	SHARE_COUNT(park_exit_word);
	/* Behind the caller's request: whoever overwrites this sees that. */
	atomic_exchange_explicit(&park_exit_word, PARK_ASKED, memory_order_seq_cst);
	wake_looker();
	errno = saved;
	park_wake();
}

void park_will_look(void)
{
	SHARE_COUNT(park_exit_word);
	atomic_compare_exchange_strong_explicit(&park_exit_word, &(uint32_t){ PARK_NOT }, PARK_LOOK,
						memory_order_relaxed, memory_order_relaxed);
}

void park_sleep_while(uint32_t seen, uint64_t ms)
{
	const struct timespec ts = { (time_t)(ms / 1000), (long)(ms % 1000) * 1000000 };
	int saved = errno;

	sluice_syscall(SYS_futex, &park_exit_word, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, seen, &ts, NULL,
		       0);
	errno = saved;
}

void park_sleep_us(uint64_t us)
{
	static _Atomic uint32_t never;
	const struct timespec ts = { (time_t)(us / 1000000), (long)(us % 1000000) * 1000 };
	int saved = errno;

	sluice_syscall(SYS_futex, &never, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, 0, &ts, NULL, 0);
	errno = saved;
}
