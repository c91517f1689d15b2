#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# Threads in a hurry notice nothing of memory that others give back.
. "${0%/*}/../lib/tap.sh"
plan 6

untouched=$builddir/t/helpers/untouched
passed='^[1-9][0-9]* checks, 0 failed, status 0$'

# run LABEL OPTIONS CASE
run() {
	out=$(SLUICE_CONF=$2 with_sluice "$untouched" "$3" 2>"$TMP/err")
	like "$out, status $?" "$passed" "$1"
	diag "$(cat "$TMP/err")"
}

# slow LABEL CASE: each purge takes 100 ms longer than the kernel needs, in which others get a
# processor also on a loaded machine. A lock held over the purge lets them make only one or two
# calls.
slow() {
	quick=$SLUICE_LIB
	SLUICE_LIB=$builddir/t/helpers/.libs/libsluice-delays.so
	SLUICE_DELAY=vm_purge=100000
	export SLUICE_DELAY
	run "$1" background:never,dirty_max:100G,holes:0 "$2"
	unset SLUICE_DELAY
	SLUICE_LIB=$quick
}

slow "while a drain gives back 125 MiB other threads go on" drain
slow "and while malloc_trim does" trim
# The state of the machine's memory does not matter.
times=idle_ms:100,decay_ms:100,psi:0,cgroup:0
# The host of a virtual machine can take the processor away unseen, and the thread then counts as
# idle; this does not happen each time.
for _ in 1 2 3 4 5; do
	out=$(SLUICE_CONF=$times with_sluice "$untouched" steady 2>"$TMP/err")
	out="$out, status $?"
	diag "$(cat "$TMP/err")"
	! echo "$out" | grep -q -E "$passed" || break
done
like "$out" "$passed" \
	"a thread with a steady working set takes no page fault while others' memory comes and goes"
proved_loaded "the program was served by the library" untouched

if ! strace -f -o "$TMP/trace" true 2>"$TMP/err"; then
	for label in "the steady time is in the trace" \
		"the thread makes no system call in the steady time"; do
		skip "$label" "strace cannot trace here: $(tail -n 1 "$TMP/err")"
	done
	exit
fi
# While the thread has lost its processor its heap may be taken, or a lock may be held by others
# that have lost theirs; this does not happen each time.
for _ in 1 2 3 4 5; do
	SLUICE_CONF=$times with_sluice strace -f -o "$TMP/trace" "$untouched" steady >"$TMP/out" \
		2>&1
	main=$(awk '/write\(-1, "steady begins"/ { print $1 }' "$TMP/trace")
	awk '/write\(-1, "steady ends"/ { inside = 0 }
		inside { print }
		/write\(-1, "steady begins"/ { inside = 1 }' "$TMP/trace" >"$TMP/during"
	calls=$(awk -v main="$main" '$1 == main' "$TMP/during" |
		grep -v -E 'getrusage|clock_gettime|write resumed' | head -n 3)
	[ -n "$calls" ] || break
	diag "$calls"
done
ok $((!$(grep -c 'madvise(' "$TMP/during"))) \
	"the steady time is in the trace, with purges by others"
is "$calls" "" "the thread makes no system call in the steady time"
