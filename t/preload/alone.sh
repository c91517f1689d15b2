#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# The background thread goes with the program's last other thread, comes with the next one, and takes nobody's place.
. "${0%/*}/../lib/tap.sh"
plan 19

alone=$builddir/t/helpers/alone
quiet=psi:0,cgroup:0

for conf in $quiet control:1 reserve:8M,$quiet; do
	passes "threads end, and ours with them, and come again ($conf)" "" "$conf" "$alone" ends
done
proved_loaded "the program was served by the library" alone
passes "once they are joined the process is single-threaded at once" "" "$quiet" "$alone" at-once
passes "threads come while others go" "" "$quiet" "$alone" churn
passes "at a limit of threads the program has all of them" "no other user can be had" "$quiet" "$alone" limit
passes "also with a reserve" "no other user can be had" "reserve:8M,$quiet" "$alone" limit
passes "threads of C11 start ours, and their end ends it" "" "$quiet" "$alone" c11
passes "so do threads that the C library makes for itself" "there are no timers" "$quiet" "$alone" timer
passes "signal handlers make threads" "" "$quiet" "$alone" handler
passes "with background:always a child has one soon, and none inside the fork" "" "background:always,$quiet" \
	"$alone" children
passes "also one that is asked from outside" "" "background:always,control:1" "$alone" children
for conf in auto always; do
	passes "where the first thread ends the program's last one runs the handlers of exit ($conf)" "" \
		"background:$conf,$quiet" "$alone" leader
	passes "also one that never allocated ($conf)" "" "background:$conf,$quiet" "$alone" leader-idle
done
passes "who forks after its last thread has ended has one thread" "" "$quiet" "$alone" forks-alone
passes "of a hundred threads that ended 16 KiB each are left at most" "" "$quiet" "$alone" many
