#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# A short soak: all that a program can do to an allocator, at once. By hand, for as long as one
# likes:
#
#	LD_PRELOAD=$PWD/.libs/libsluice.so t/helpers/soak --seconds 3600
#
# A failure prints the seed, and the stacks of all threads where there is gdb.
# TIMEOUT: 300
. "${0%/*}/../lib/tap.sh"
plan 3

soak=$builddir/t/helpers/soak
patience=$((60 * ${SLUICE_TEST_TIMEOUT_MULT:-1}))

# run LABEL SETTINGS ARGS...
run() {
	label=$1
	settings=$2
	shift 2
	out=$(SLUICE_CONF=$settings with_sluice "$soak" --patience "$patience" "$@" 2>&1)
	like "$out, status $?" '^[1-9][0-9]* checks, 0 failed, status 0$' "$label"
	diag "$out"
}

run \
	"threads, signals, processes, drains and cancellation: no hang, no byte lost, memory goes back" \
	psi:0,cgroup:0 --seconds 6
run "a limit that is always met and four zones: no hang, no byte lost, memory goes back" \
	psi:0,cgroup:0,soft_limit:32M,zones:4 --seconds 3
proved_loaded "the program was served by the library" soak
