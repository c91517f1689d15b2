/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pressure.c - see pressure.h. Used by init and fork; uses limits and psi.
 *
 * (A) All files are opened at the start (ourfd.h), for what the background thread does with them
 *     later: it reads them, and writes triggers. A child of fork keeps them.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "reclaim/pressure.h"

#include "base/options.h"
#include "base/ourfd.h"
#include "os/cgroup.h"
#include "reclaim/limits.h"
#include "reclaim/psi.h"

void pressure_init(void)
{
	const struct cgroup *group;

	ourfd_init();
	group = limits_find();
	if (options.psi && options.background != BACKGROUND_NEVER)
		psi_open(group);
	cgroup_found();
	ourfd_opened();
	limits_begin();
}

void pressure_fork_child(bool copy)
{
	ourfd_fork_child(copy);
	psi_fork_child(copy);
	limits_fork_child();
}
