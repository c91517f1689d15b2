#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# Signal handlers that allocate, trim and fork, in calls that hold locks. Debug builds check that
# none waits for a lock against the order of the ranks, until a handler has met the lock of a zone.
# Hence several short runs.
# TIMEOUT: 300
. "${0%/*}/../lib/tap.sh"
plan 7

for n in 1 2 3 4 5 6; do
	checked "handlers get on inside calls that grow and trim, run $n" 30 \
		"$builddir/t/helpers/handlers" 500
done
proved_loaded "the program was served by the library" handlers
