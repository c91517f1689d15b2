#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# Threads that are cancelled, or leave a call otherwise: none ends inside the library, and the others go on.
. "${0%/*}/../lib/tap.sh"
plan 10

cancel=$builddir/t/helpers/cancel

# run LABEL CASE [SETTINGS]
run() {
	passes "$1" "" "${3-}" "$cancel" "$2"
}

run "a thread with a cancel pending comes back from every function" pending
run "also where there are limits to be looked at" pending soft_limit:48M,cache_limit:4M
run "also beside the background thread, with a reserve" pending background:always,reserve:4M
run "threads that allocate, trim and fork are cancelled at random" random
run "likewise with limits" random soft_limit:48M
run "threads that are cancelled in the middle of a call stop no others" async
run "nor do those that a signal handler ends" exit
run "nor does a thread whose handler jumps out of a call" jump
run "a stream whose function calls the library, forks or jumps finds nothing held" stream
proved_loaded "the program was served by the library" cancel
