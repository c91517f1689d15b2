#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# New processes, whatever the other threads do.
# TIMEOUT: 300
. "${0%/*}/../lib/tap.sh"
plan 9

forks=$builddir/t/helpers/forks

run() {
	checked "$1" 120 "$forks" "$2"
}

run "300 forks while four threads allocate: each child allocates, frees, starts a thread" storm
run "forks from a thread that is not the initial one" thread
run "twenty generations, each with the blocks of the ones before" generations
run "forks while a thread waits in getline with its FILE locked" locked-file
run "forks while others are in fflush(NULL), getline and fopen" flush-all
run "posix_spawn, vfork, system and popen while others allocate" spawn
run "exec fails in vfork children" vfork-fails
run "exec with 110 KB of environment" exec
proved_loaded "the program was served by the library" forks
