#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# New processes made in every way that Linux knows, while other threads allocate: each row of the
# table in
# doc/locking.md, "fork and its kin".
# TIMEOUT: 300
. "${0%/*}/../lib/tap.sh"
plan 16

clone=$builddir/t/helpers/clone

run() {
	checked "$1" 60 "$clone" "$2"
}

run "fork" fork
run "fork in a signal handler that interrupted malloc" handler
run "fork in a handler that interrupted a fork" nested
run "_Fork, which runs no handlers" _Fork
run "a raw clone, which runs no handlers" clone
run "_Fork, and fork in its child" twice
run "vfork, whose child calls malloc" vfork
like "$(tail -n 1 "$STATS")" ' unhandled_forks=0 ' "the child of vfork is not taken for a copy"
run "posix_spawn" spawn
run "fork after the initial thread has ended" leader-gone
run "threads whose first call is made by a child of vfork" first-vfork
passes "a process that shares the memory, with a TLS of its own" "no TLS can be made" "" "$clone" \
	shares-memory
LD_PRELOAD=$builddir/t/helpers/.libs/atfork.so
export LD_PRELOAD
run "a fork handler of a library waits for a thread in fopen" lock-stdio
run "a fork handler of a library waits for a thread in setuid" lock-setuid
run "a fork handler of a library may fault if the program can repair that" fault
unset LD_PRELOAD

proved_loaded "the program was served by the library" clone
