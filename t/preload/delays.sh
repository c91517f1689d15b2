#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# Programs under a library that waits at random in each of its locks and between the steps of each
# protocol (src/base/delay.h) do the same as without the delays.
#
# TIMEOUT: 300
. "${0%/*}/../lib/tap.sh"
SLUICE_LIB=$builddir/t/helpers/.libs/libsluice-delays.so
if [ ! -e "$SLUICE_LIB" ]; then
	bail_out "$SLUICE_LIB is not built: run make tests first"
fi
helpers=$builddir/t/helpers
plan 14

is "$(SLUICE_DELAY=nowhere=1 with_sluice true 2>&1 |
	grep -c "there is no point 'nowhere', use all, held_")" 1 \
	"an unknown point is refused by a line that lists all points"

# Memory goes back all the time, so that there is something to meet.
SLUICE_CONF=idle_ms:20,decay_ms:20
# Short enough to be spun: a sleep may take many milliseconds on a busy machine.
SLUICE_DELAY=all=49/128
export SLUICE_CONF SLUICE_DELAY

# Names a program that hangs; the test's own limit is longer.
limit=$((120 * ${SLUICE_TEST_TIMEOUT_MULT:-1}))

# run LABEL HELPER ARGS...
run() {
	label=$1
	helper=$2
	shift 2
	out=$(with_sluice timeout "$limit" "$helpers/$helper" "$@" 2>"$TMP/err")
	like "$out, status $?" '^[1-9][0-9]* checks, 0 failed, status 0$' "$label"
	diag "$(cat "$TMP/err")"
}

run "32 threads grow, free and purge in turn" churn 20
run "forks while four threads allocate" forks storm
run "forks while others are in fflush(NULL), getline and fopen" forks flush-all
run "generations of children, each with the blocks of the ones before" forks generations
run "signal handlers allocate in the middle of malloc and free" lifecycle signals 1
run "the first call of a thread is free, realloc or another" lifecycle first
run "memory allocated in late key destructors is not lost" lifecycle late-keys
run "the initial thread ends and the others go on" lifecycle main-exits
run "drains while four threads allocate and free" drain busy
SLUICE_CONF=background:never
run "64 threads sleep with full pcps: one drain leaves 0 bytes in them" drain sleepers
SLUICE_CONF=idle_ms:20,decay_ms:20
with_sluice "$helpers/model" >"$TMP/out" 2>"$TMP/err"
is "$? $(cat "$TMP/err")" "0 " \
	"a random mix of allocations, threads, forks and drains finds no fault"
diag "$(grep -v '^ok' "$TMP/out")"
proved_loaded "the programs were served by the library" churn
is "$(grep -c " program=forks[: ]" "$STATS" | grep -c '^0$')" 0 \
	"the programs that fork were served by the library"
