#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# Threads that are cancelled, or leave a call in another way: none ends inside the library, and the
# others go on.
. "${0%/*}/../lib/tap.sh"
plan 10

cancel=$builddir/t/helpers/cancel

# run LABEL CASE [SETTINGS]
run() {
	passes "$1" "" "${3-}" "$cancel" "$2"
}

run "a thread with a cancel pending comes back from every function" pending
run "a thread with a cancel pending comes back while limits are checked" pending \
	soft_limit:48M,cache_limit:4M
run "a thread with a cancel pending comes back, with the background thread and a reserve" pending \
	background:always,reserve:4M
run "threads that allocate, trim and fork are cancelled at random" random
run "threads are cancelled at random with a limit set" random soft_limit:48M
run "threads that are cancelled in the middle of a call stop no others" async
run "threads that a signal handler ends in the middle of a call stop no others" exit
run "a thread whose handler jumps out of a call stops no others" jump
run "a stream whose function calls the library, forks or jumps finds nothing held" stream
proved_loaded "the program was served by the library" cancel
