#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# One thread takes back what others have cached while a third one never sleeps (L2): everything that
# the sleepers could have given back themselves, without disturbing the hot one.
. "${0%/*}/../lib/tap.sh"
plan 11

reach=$builddir/t/helpers/reach
passed='^[1-9][0-9]* checks, 0 failed, status 0$'

# run LABEL OPTIONS CASE
run() {
	passes "$1" "" "$2" "$reach" "$3"
}

run "100 drains empty 60 sleeping threads each time, of all that their owners could free" \
	background:never hot
# The state of the machine's memory does not matter.
quiet=psi:0,cgroup:0
run "the background thread empties sleeping threads by barriers that interrupt no thread" \
	idle_ms:100,decay_ms:100,$quiet background
run "where all is live the background thread asks the kernel for nothing else" \
	idle_ms:100,decay_ms:600000,$quiet \
	live
run "256 MiB that 64 threads cached are back after one drain, in few calls" \
	background:never,dirty_max:100G bulk
out=$(SLUICE_CONF=background:never with_sluice "$reach" refused 2>"$TMP/err")
status=$?
if [ "$status" -eq 77 ]; then
	skip "without membarrier pcps come back, and heaps are said to be out of reach" \
		"no system call filter can be set"
	skip "malloc_stats says that membarrier failed" "no system call filter can be set"
else
	like "$out, status $status" "$passed" \
		"without membarrier pcps come back, and heaps are said to be out of reach"
	is "$(grep '^membarrier ' "$TMP/err" | tr -s ' ')" "membarrier = on
membarrier = off (Operation not permitted)" "malloc_stats says that membarrier failed"
fi
proved_loaded "the program was served by the library" reach

if ! strace -f -o "$TMP/trace" true 2>"$TMP/err"; then
	for label in "the drains are in the trace" "the hot thread makes no system call" \
		"no thread is signalled" \
		"the background thread's barriers interrupt no thread"; do
		skip "$label" "strace cannot trace here: $(tail -n 1 "$TMP/err")"
	done
	exit
fi
# during MARK... prints what is between the marks, "main PID" first
during() {
	awk '/write\(-1, "drains end"/ { inside = 0 }
		inside { print }
		/write\(-1, "drains begin"/ { inside = 1; print "main " $1 }' "$TMP/trace"
}
# traced: sets hot, and hots, the first system calls of the hot thread that are not allowed.
traced() {
	SLUICE_CONF=background:never with_sluice strace -f -o "$TMP/trace" "$reach" hot 10 \
		>"$TMP/out" 2>&1
	during >"$TMP/during"
	# The hot thread is the one started last.
	hot=$(awk '
		/clone3?\(/ || /clone3? resumed/ { if ($NF ~ /^[0-9]+$/) pid = $NF }
		/drains begin/ { print pid; exit }' "$TMP/trace")
	# While others of the machine had its processor its heap was taken; then it may have to wait
	# for a lock.
	grep -q 'away 0$' "$TMP/out" && allowed=sched_yield || allowed='sched_yield|futex'
	hots=$(awk -v hot="$hot" '$1 == hot' "$TMP/during" |
		grep -v -E "$allowed|resumed" | head -n 3)
}
# So it may when who holds a lock has lost its processor, which does not happen each time.
for _ in 1 2 3 4 5; do
	traced
	[ -n "$hots" ] || break
	diag "$hots"
done
ok $(($(grep -c 'membarrier(' "$TMP/during") < 10)) "the drains are in the trace"
is "$hots" "" "the hot thread (${hot:-not found}) makes no system call"
# Signal 0 asks only whether a thread lives still.
is "$(grep -E 'kill\(|sigqueueinfo\(|--- SIG' "$TMP/during" |
	grep -v 'tkill([0-9]*, 0[ )]' | head -n 3)" "" \
	"no thread is signalled"
# The first barrier may have been before the mark, with all heaps idle by then.
for ms in 100 1000 5000; do
	SLUICE_CONF=idle_ms:$ms,decay_ms:100,$quiet with_sluice strace -f -o "$TMP/trace" "$reach" \
		background >"$TMP/out" 2>&1
	during >"$TMP/during"
	! grep -q 'membarrier(' "$TMP/during" || break
done
is "$(grep -o 'membarrier([^,]*' "$TMP/during" | sort -u)" "membarrier(MEMBARRIER_CMD_GLOBAL" \
	"the background thread's barriers interrupt no thread"
