#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# Many threads at the same moment: all of them get on, and none sleeps for what is free.
# STORM_THREADS=10000 for more.
# TIMEOUT: 400
. "${0%/*}/../lib/tap.sh"
plan 8

storm=$builddir/t/helpers/storm
threads=${STORM_THREADS:-2000}

# One that hangs is to be named; the test's own limit is longer.
limit=$((45 * ${SLUICE_TEST_TIMEOUT_MULT:-1}))

# run LABEL ARGS...
run() {
	label=$1
	shift
	passes "$label" "the machine does not have that many threads" psi:0,cgroup:0 timeout \
		"$limit" "$storm" "$@"
}

run "$threads threads begin to allocate at the same moment" start "$threads"
run "so do five waves of 500 threads" start 500 5
run "$threads threads on one processor" one "$threads"
run "8 threads take and free 3,000,000 bytes, with at most 50 switches for 1,000 pairs" big 8
run "16 threads do" big 16
run "8 threads miss their pcps, with at most 50 switches for 1,000 runs" miss 8
run "16 threads do" miss 16
proved_loaded "the program was served by the library" storm
