#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# Programs that install a seccomp filter which kills for each call that glibc's malloc does not make
# (doc/system-calls.md).
# TIMEOUT: 300
. "${0%/*}/../lib/tap.sh"
plan 23
tmpdir

seccomp=$builddir/t/helpers/seccomp

plain=$(SECCOMP_PLAIN=1 timeout 60 "$seccomp" prctl one | tail -n 1 | grep -c ' 0 failed')
if [ "$plain" != 1 ]; then
	skip_all "no seccomp filter can be installed here"
fi
ok 0 "without the library one thread lives in the sandbox"

lives() {
	checked "$1" 100 "$seccomp" "$2" "$3"
}

lives "one thread, with a filter by prctl" prctl one
lives "by seccomp(2)" seccomp one
lives "for all threads" tsync one
# Without with_sluice, for the file of statistics is opened at exit.
out=$(LD_PRELOAD=$SLUICE_LIB timeout 100 "$seccomp" raw one 2>&1)
like "$out" "^[1-9][0-9]* checks, 0 failed$" \
	"a filter installed by the program's own machine code is survived"
lives "threads that call malloc for the first time in it" tsync late
lives "which have no filter themselves" prctl late
lives "threads that are made in it" prctl threads
lives "threads that are made in one for all" tsync threads
lives "the background thread gives memory back, and is not killed for it" tsync idle
lives "threads that ended before it leave nothing behind that ends in it" tsync joined
lives "nor where it is not for all" prctl joined
quick=$SLUICE_LIB
SLUICE_LIB=$builddir/t/helpers/.libs/libsluice-delays.so
export SLUICE_DELAY=background_ends=1000000
lives "nor the library's thread, which is about to end when it is installed" tsync ending
unset SLUICE_DELAY
SLUICE_LIB=$quick
lives "a child of fork" prctl fork
lives "where mprotect is refused memory is still made usable in large pieces" prctl denied
lives "errno stays where getpid and gettid are refused" raw refused

# It chooses at random after the filter as well.
SLUICE_CONF=profile:hardened
export SLUICE_CONF
lives "profile:hardened: one thread" prctl one
lives "one thread, with a filter for all" tsync one
lives "threads that are made in it, and take objects out of holes" prctl threads
lives "a child of fork, which chooses by others than its parent" prctl fork
unset SLUICE_CONF

# abort() makes calls that the filter does not allow: they decide which signal it is.
out=$(with_sluice timeout 60 "$seccomp" prctl twice 2>&1)
like "$out" "^sluice: fatal: .*free" \
	"an object that is freed twice still stops the program with its line"

# The program's calls before a filter, and without one, are unchanged.
out=$(SLUICE_CONF=background:always with_sluice /usr/bin/python3 -c '
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
print(libc.syscall(186 if os.uname().machine == "x86_64" else 178) == os.getpid(), end=" ")
print(libc.syscall(-1), ctypes.get_errno(), end=" ")
print(libc.prctl(15, b"renamed", 0, 0, 0), open("/proc/self/comm").read().strip(), end=" ")
print(libc.prctl(22, 2, 0, 0, 0), ctypes.get_errno())' 2>&1)
is "$out" "True -1 38 0 renamed -1 14" "syscall and prctl are what they are in the C library"
proved_loaded "the library was loaded"
