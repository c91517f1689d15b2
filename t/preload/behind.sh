#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# A library behind ours in LD_PRELOAD that replaces functions of libc which ours replaces, too: the
# program's calls reach it, and its results the program.
. "${0%/*}/../lib/tap.sh"
plan 4

hooks=$builddir/t/helpers/.libs/hooks.so
calls=$builddir/t/helpers/calls
passed='^[1-9][0-9]* checks, 0 failed, status 0$'

out=$(LD_PRELOAD=$hooks timeout -s KILL 60 "$calls" hooks 2>&1)
like "$out, status $?" "$passed" "the other library alone sees each call of its functions"
: >"$STATS"
out=$(LD_PRELOAD="$SLUICE_LIB:$hooks" SLUICE_CONF="stats_file:$STATS" \
	timeout -s KILL 60 "$calls" hooks 2>&1)
like "$out, status $?" "$passed" "behind ours it sees each as well"
proved_loaded "that program was served by the library" calls
out=$(with_sluice timeout -s KILL 60 "$calls" 2>&1)
like "$out, status $?" "$passed" "where only libc is behind ours, the calls do what libc's do"
