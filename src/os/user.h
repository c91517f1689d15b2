/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * user.h - whether a user, as the kernel shows it to this process, is the process's own.
 *
 * In a user namespace all users that have no number there look like one, 65534, to the processes
 * inside: the process's own user may be among them, or be another one that has this number there.
 * So that number is ours only where each user has a number, and in the root directory of the start,
 * where /proc can be believed.
 */
#ifndef SLUICE_USER_H
#define SLUICE_USER_H

#include <stdbool.h>
#include <sys/types.h>

/* Any thread; makes system calls, and is no cancellation point. May change errno. */
bool user_is_own(uid_t uid);

#endif
