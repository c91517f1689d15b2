/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * psi.c - see psi.h.
 * Used by pressure and background; uses limits, reclaim, cgroup.
 *
 * (A) The files are opened at the start, but triggers are written only when the background thread
 *     has been awake for PSI_AFTER_MS: closing a trigger takes a grace period of the kernel, which
 *     a process that ends soon should not wait for.
 * (B) An event is a hint. If a file cannot be opened, its cgroup goes, or a seccomp filter refuses
 *     poll, the thread sleeps without it.
 *
 * No lock: after the start only the background thread is here. Allocates nothing, uses no stdio.
 * Source: Linux Documentation/accounting/psi.rst and admin-guide/cgroup-v1/memory.rst
 * (memory.pressure_level).
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "reclaim/psi.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/options.h"
#include "base/ourfd.h"
#include "base/probe.h"
#include "base/park.h"
#include "base/sandbox.h"
#include "base/stats.h"
#include "base/sys.h"
#include "reclaim/limits.h"
#include "reclaim/reclaim.h"

#define PART_MS 40u /* longest single poll, */
#define SOON_MS 10u /* and if somebody may wait for the thread, see psi_wait */
#define PSI_AFTER_MS 1000u
#define PSI_WINDOW_US 2000000 /* unprivileged processes may use multiples of 2 s only */
#define SOURCES 2u
#define LEVEL "medium" /* low, medium or critical */

/* The PSI file of the system and that of the cgroup, each with a trigger once `listening` is set.
 * For a version 1 cgroup the second one is an eventfd. */
static struct ourfd psi[SOURCES] = { OURFD_NONE, OURFD_NONE };
/* Version 1: the two files by which the eventfd is registered; closed after that. */
static struct ourfd level_file = OURFD_NONE;
static struct ourfd level_control = OURFD_NONE;
static bool listening;
static uint64_t awake_since; /* ms; 0 before the first psi_wait */

/* A version 1 cgroup signals an eventfd when the kernel finds it hard to free memory in it. */
static void level_open(const struct cgroup *group)
{
	int level = cgroup_open(group, "memory.pressure_level", O_RDONLY);
	int control = cgroup_open(group, "cgroup.event_control", O_WRONLY);

	ourfd_set(&level_file, level);
	ourfd_set(&level_control, control);
	if (level >= 0 && control >= 0)
		ourfd_set_event(&psi[1], sys_eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
}

void psi_open(const struct cgroup *group)
{
	if (ourfd_proc >= 0)
		ourfd_set(&psi[0], ourfd_open(ourfd_proc, "pressure/memory", O_RDWR, OURFD_PROC));
	if (group->version == 2)
		ourfd_set(&psi[1], cgroup_open(group, "memory.pressure", O_RDWR));
	else if (group->version == 1)
		level_open(group);
}

/* EBUSY: the parent has written a trigger, and its children share it. Each event then reaches one
 * of these processes. */
static void trigger_write(struct ourfd *p)
{
	char text[64];
	size_t len = log_format(text, sizeof(text), "some %lu %u",
				(unsigned long)options.psi_stall_ms * 1000, PSI_WINDOW_US);

	if (ourfd_good(p) && sys_write(p->fd, text, len + 1) < 0 && errno != EBUSY)
		ourfd_close(p);
}

static void level_register(struct ourfd *p)
{
	char text[64];
	bool good = ourfd_good(p);

	if (ourfd_good(&level_control) && ourfd_good(&level_file)) {
		size_t len = log_format(text, sizeof(text), "%d %d " LEVEL, p->fd, level_file.fd);

		good = good && sys_write(level_control.fd, text, len) > 0;
	}
	ourfd_close(&level_control);
	ourfd_close(&level_file);
	if (!good)
		ourfd_close(p);
}

static void psi_listen(void)
{
	if (!awake_since)
		awake_since = clock_ms();
	if (listening || clock_ms() - awake_since < PSI_AFTER_MS)
		return;
	listening = true;
	trigger_write(&psi[0]);
	if (psi[1].event)
		level_register(&psi[1]);
	else
		trigger_write(&psi[1]);
}

static bool psi_event(struct ourfd *p, short revents)
{
	if (!revents || !ourfd_good(p))
		return false;
	if (revents & (POLLERR | POLLNVAL)) { /* the cgroup is gone */
		ourfd_close(p);
		return false;
	}
	/* An eventfd stays ready until it is read. */
	if (p->event) {
		uint64_t times;

		return sys_read(p->fd, &times, sizeof(times)) > 0;
	}
	return (revents & POLLPRI) != 0;
}

/*
 * As poll, in parts: no descriptor says that a thread is about to end, so the word that says it is
 * read after each part, of most ms. seen: what it was before.
 */
static int poll_in_parts(struct pollfd *fds, uint64_t ms, uint64_t most, uint32_t seen)
{
	int ready;

	do {
		uint64_t part = min_size(ms, most);

		ready = sys_poll(fds, SOURCES + 1, (int)part);
		ms -= part;
	} while (ready == 0 && ms &&
		 atomic_load_explicit(&park_exit_word, memory_order_relaxed) == seen);
	return ready;
}

bool psi_wait(uint64_t ms, bool soon, uint64_t epoch, int also)
{
	struct pollfd fds[SOURCES + 1] = { { .fd = also, .events = POLLIN } };
	uint32_t seen = atomic_load_explicit(&park_exit_word, memory_order_relaxed);
	bool event = false;
	int ready;

	ms = min_size(ms, limits_sleep_ms());
	if (!sandbox_enter()) {
		park_sleep_ms(ms);
		return false;
	}
	psi_listen();
	if (also < 0 && (!listening || (psi[0].fd < 0 && psi[1].fd < 0))) {
		sandbox_leave();
		park_sleep_while(seen, ms);
		return false;
	}
	for (unsigned i = 0; i < SOURCES; i++)
		fds[i + 1] = (struct pollfd){
			.fd = listening ? psi[i].fd : -1, /* an error before it has a trigger */
			.events = psi[i].event ? POLLIN : POLLPRI,
		};
	ready = poll_in_parts(fds, ms, soon ? SOON_MS : PART_MS, seen);
	for (unsigned i = 0; ready > 0 && i < SOURCES; i++)
		event |= psi_event(&psi[i], fds[i + 1].revents);
	sandbox_leave();
	if (ready < 0 && errno != EINTR)
		park_sleep_ms(ms); /* a seccomp filter refused poll */
	if (ready <= 0)
		return false;
	if (event) {
		stat_add(STAT_pressure_events, 1);
		PROBE(pressure_event);
		reclaim_pressure(UINT64_MAX, epoch, false);
	}
	return fds[0].revents != 0;
}

void psi_fork_child(bool copy)
{
	/* A copy may share the table of descriptors with its parent: it must not close them. */
	for (unsigned i = 0; copy && i < SOURCES; i++)
		ourfd_forget(&psi[i]);
	if (copy) {
		ourfd_forget(&level_file);
		ourfd_forget(&level_control);
	}
	listening = false;
	awake_since = 0;
}
