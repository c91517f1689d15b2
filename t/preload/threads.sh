#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# Allocation at every point in the life of a process or thread.
. "${0%/*}/../lib/tap.sh"
plan 16

lifecycle=$builddir/t/helpers/lifecycle

# run LABEL CASE [ARGS...]
run() {
	label=$1
	shift
	out=$(with_sluice "$lifecycle" "$@" 2>&1)
	like "$out, status $?" '^[1-9][0-9]* checks, 0 failed, status 0$' "$label"
}

run "before the first constructor, in constructors, atexit and destructors" process
run "objects that allocate are loaded and closed" dlopen "$builddir/t/helpers/.libs/plugin.so"
run "destructors of pthread keys allocate and free in all four rounds" keys
run "memory allocated in late key destructors is not lost" late-keys
run "the first call of a thread is free, realloc or another" first
run "the initial thread ends and the others go on" main-exits
for conf in "" background:always idle_ms:100,decay_ms:100 reserve:8M; do
	SLUICE_CONF=$conf run "all threads end and with them the process (${conf:-default})" \
		all-exit
done
hide="mount -t tmpfs none /proc"
label="also where there is no /proc"
if unshare -m sh -c "$hide" 2>/dev/null; then
	out=$(with_sluice unshare -m \
		sh -c "$hide"' && exec timeout -s KILL 60 "$@"' sh "$lifecycle" \
		all-exit 2>&1)
	like "$out, status $?" '^[1-9][0-9]* checks, 0 failed, status 0$' "$label"
else
	skip "$label" "no file system can be mounted"
fi
run "10,000 threads start and end without growth" many
run "a thread cancelled inside the C library lets go of what it held there" cancel
out=$(with_sluice "$lifecycle" sandbox 2>&1)
status=$?
label="the background thread sleeps where poll is answered by SIGSYS"
if [ "$status" -eq 77 ]; then
	skip "$label" "no system call filter can be set"
else
	like "$out, status $status" '^[1-9][0-9]* checks, 0 failed, status 0$' "$label"
fi
run "signal handlers allocate in the middle of malloc and free" signals 2
proved_loaded "the program was served by the library" lifecycle
