/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * differ.h - what the kernel keeps for each thread: namespaces, root directory, descriptors,
 * privileges. A thread of ours that is older than a change of these is a way back to what was
 * before, so ours leave before the change.
 */
#ifndef SLUICE_DIFFER_H
#define SLUICE_DIFFER_H

#include "types.h"

/* A change is under way until differ_leave: meanwhile no thread of ours is started. others: the
 * change was made beside other threads, so threads differ from now on, and ours would keep what its
 * maker has: none is started again in this process. */
void differ_enter(void);
void differ_leave(bool others);

/* Whether no thread of ours may be started. */
bool differ_stops(void);

/* Whether a change needs no further step while no thread of ours exists: the process has never had
 * a second thread, or threads differ already. No system call. */
bool differ_is_settled(void);

/* Whether the program has other threads. A thread that was joined may exist for a moment longer, so
 * this asks the kernel several times. True if it cannot be asked. */
bool differ_others(void);

void differ_fork_child(void);

#endif
