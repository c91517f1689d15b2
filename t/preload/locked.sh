#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# Programs that lock their memory: mlockall, with and without MCL_ONFAULT.
. "${0%/*}/../lib/tap.sh"
plan 11

locked=$builddir/t/helpers/locked

# run LABEL CASE [SETTINGS]
run() {
	passes "$1" "memory cannot be locked here" "${3-}" "$locked" "$2"
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
run "little is locked that is not used, and what is used is" space
proved_loaded "the program was served by the library" locked
