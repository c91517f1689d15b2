#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# Programs that lock their memory: mlockall, with and without MCL_ONFAULT.
. "${0%/*}/tap.sh"
plan 10

locked=$builddir/t/helpers/locked
passed='^[1-9][0-9]* checks, 0 failed, status 0$'

# run LABEL CASE [SETTINGS]
run() {
	out=$(SLUICE_CONF=${3-} with_sluice "$locked" "$2" 2>"$TMP/err")
	status=$?
	if [ "$status" -eq 77 ]; then
		skip "$1" "memory cannot be locked here"
	else
		like "$out, status $status" "$passed" "$1"
		diag "$(cat "$TMP/err")"
	fi
}

run "where the kernel fills what is mapped little is mapped ahead" future
run "where it fills what is touched nothing else takes memory" onfault
run "once it is unlocked memory comes back" unlock
run "mlockall in a small program locks little" begin
run "what is allocated after it is there before it is touched" growth
run "what cannot be given back is not asked for over and over" refused
run "a reserve is locked once" reserve profile:latency,reserve:8M,psi:0,cgroup:0
run "at the limit of RLIMIT_MEMLOCK malloc fails, and nothing else" limit
run "reserved address space is little of that limit" current
proved_loaded "the program was served by the library" locked
