#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# The background thread ends with the program's last other thread, starts with the next one, and
# takes no place in the limit of threads.
. "${0%/*}/../lib/tap.sh"
plan 20

alone=$builddir/t/helpers/alone
quiet=psi:0,cgroup:0

for conf in $quiet control:1 reserve:8M,$quiet; do
	passes "our thread ends with the program's threads, and comes again with new ones ($conf)" \
		"" "$conf" "$alone" ends
done
proved_loaded "the program was served by the library" alone
passes "once they are joined the process is single-threaded at once" "" "$quiet" "$alone" at-once
passes "threads come while others go" "" "$quiet" "$alone" churn
passes "at a limit of threads the program has all of them" "there is no other user" "$quiet" \
	"$alone" limit
passes "at a limit of threads the program has all of them, with a reserve as well" \
	"there is no other user" "reserve:8M,$quiet" "$alone" limit
passes "threads of C11 start ours, and it ends with them" "" "$quiet" "$alone" c11
passes "the memory of our thread does not count as that of the thread which makes it" "" "$quiet" \
	"$alone" counted
passes "threads that the C library makes for itself start ours" "there are no timers" "$quiet" \
	"$alone" timer
passes "signal handlers make threads" "" "$quiet" "$alone" handler
passes "with background:always a child soon has our thread, and none inside the fork" "" \
	"background:always,$quiet" \
	"$alone" children
passes "with background:always and control:1 a child soon has our thread" "" \
	"background:always,control:1" "$alone" children
for conf in auto always; do
	passes "when the first thread has ended the last one runs the handlers of exit ($conf)" "" \
		"background:$conf,$quiet" "$alone" leader
	passes "a last thread that never allocated runs the handlers of exit ($conf)" "" \
		"background:$conf,$quiet" "$alone" leader-idle
done
passes "a process that forks after its last thread has ended has one thread" "" "$quiet" "$alone" \
	forks-alone
passes "a hundred threads that ended leave at most 16 KiB each" "" "$quiet" "$alone" many
