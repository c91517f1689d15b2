/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * psi.c - see psi.h.
 * Used by pressure and background; uses limits, reclaim, cgroup.
 *
 * Source: Linux Documentation/accounting/psi.rst, admin-guide/cgroup-v1/memory.rst (memory.pressure_level).
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
#include "base/park.h"
#include "base/sandbox.h"
#include "base/stats.h"
#include "base/sys.h"
#include "reclaim/limits.h"
#include "reclaim/reclaim.h"

#define PART_MS 40u /* of it in one go */
#define PSI_AFTER_MS 1000u
#define PSI_WINDOW_US 2000000 /* a multiple of 2 s is allowed to everybody */
#define SOURCES 2u
#define LEVEL "medium" /* of low, medium and critical */

/* The system's PSI file and the group's own, each with a trigger once we listen; in version 1 the latter is an eventfd. Made at the start,
 * then the background thread's. */
static struct ourfd psi[SOURCES] = { OURFD_NONE, OURFD_NONE };
static struct ourfd level_file =
	OURFD_NONE; /* version 1: what the eventfd is registered with, until then */
static struct ourfd level_control = OURFD_NONE;
static bool listening;
static uint64_t awake_since; /* ms; 0: not yet */

/* Version 1 says on an eventfd when the group's memory is hard to be had. */
static void level_open(const struct cgroup *group)
{
	int level = cgroup_open(group, "memory.pressure_level", O_RDONLY);
	int control = cgroup_open(group, "cgroup.event_control", O_WRONLY);

	ourfd_set(&level_file, level);
	ourfd_set(&level_control, control);
	if (level >= 0 && control >= 0)
		ourfd_set_event(&psi[1], eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
}

/* No trigger yet: to close one takes a grace period, which a process that ends soon should not wait for. */
void psi_open(const struct cgroup *group)
{
	if (ourfd_proc >= 0)
		ourfd_set(&psi[0], ourfd_open(ourfd_proc, "pressure/memory", O_RDWR, OURFD_PROC));
	if (group->version == 2)
		ourfd_set(&psi[1], cgroup_open(group, "memory.pressure", O_RDWR));
	else if (group->version == 1)
		level_open(group);
}

/* A parent that has written one shares it with its children (EBUSY): each event tells one of them. */
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
	if (revents & (POLLERR | POLLNVAL)) { /* its cgroup is gone */
		ourfd_close(p);
		return false;
	}
	/* An eventfd is ready until it has been read. */
	if (p->event) {
		uint64_t times;

		return sys_read(p->fd, &times, sizeof(times)) > 0;
	}
	return (revents & POLLPRI) != 0;
}

bool psi_wait(uint64_t ms, uint64_t generation, int also)
{
	struct pollfd fds[SOURCES + 1] = { { .fd = also, .events = POLLIN } };
	uint64_t most = limits_sleep_ms();
	bool looks = atomic_load_explicit(&park_looks, memory_order_relaxed);
	uint64_t left = min_size(ms, most);
	bool event = false;
	int ready;

	if (!sandbox_enter()) {
		park_nap(min_size(ms, most));
		return false;
	}
	psi_listen();
	if (also < 0 && psi[0].fd < 0 && psi[1].fd < 0) {
		sandbox_leave();
		if (looks) /* it is known already */
			park_nap(left);
		else
			park_nap_look(left);
		return false;
	}
	for (unsigned i = 0; i < SOURCES; i++)
		fds[i + 1] = (struct pollfd){
			.fd = listening ? psi[i].fd : -1, /* without a trigger: an error */
			.events = psi[i].event ? POLLIN : POLLPRI,
		};
	/* No descriptor of ours says that a thread is about to end: it is looked for. */
	do {
		uint64_t part = min_size(left, PART_MS);

		ready = sys_poll(fds, SOURCES + 1, (int)part);
		left -= part;
	} while (ready == 0 && left &&
		 (looks || !atomic_load_explicit(&park_looks, memory_order_relaxed)));
	for (unsigned i = 0; ready > 0 && i < SOURCES; i++)
		event |= psi_event(&psi[i], fds[i + 1].revents);
	sandbox_leave();
	if (ready < 0 && errno != EINTR)
		park_nap(min_size(ms, most)); /* refused by a seccomp filter */
	if (ready <= 0)
		return false;
	if (event) {
		stat_add(STAT_pressure_events, 1);
		reclaim_pressure(UINT64_MAX, generation, false);
	}
	return fds[0].revents != 0;
}

void psi_fork_child(bool copy)
{
	/* What a copy does with a descriptor it may do to its parent's. */
	for (unsigned i = 0; copy && i < SOURCES; i++)
		ourfd_forget(&psi[i]);
	if (copy) {
		ourfd_forget(&level_file);
		ourfd_forget(&level_control);
	}
	listening = false;
	awake_since = 0;
}
