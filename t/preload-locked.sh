#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# Programs that lock their memory: mlockall, with and without MCL_ONFAULT.
. "${0%/*}/tap.sh"
plan 4

locked=$builddir/t/helpers/locked
passed='^[1-9][0-9]* checks, 0 failed, status 0$'

# run LABEL CASE
run() {
	out=$(with_sluice "$locked" "$2" 2>"$TMP/err")
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
proved_loaded "the program was served by the library" locked
