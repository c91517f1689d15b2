#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# Functions of libc whose names are replaced: by the program, which has its own, or by a library in
# front of ours.
. "${0%/*}/../lib/tap.sh"
plan 11

helpers=$builddir/t/helpers
passed='^[1-9][0-9]* checks, 0 failed, status 0$'

# names LABEL CONF: the program with names of its own, with these options.
names() {
	: >"$STATS"
	out=$(with_sluice env SLUICE_CONF="$2,stats_file:$STATS" timeout -s KILL 60 \
		"$helpers/names" 2>"$TMP/err")
	like "$out, status $?" "$passed" "$1: none of the program's functions is called"
	proved_loaded "$1: the program was served by the library" names
	diag "$(head -n 5 "$TMP/err")"
}
names "names that are the program's own" psi:0,cgroup:0
names "with all that the library can do" control:1,export:1,zones:2,stats_print:1
out=$(with_sluice env SLUICE_CONF=stats_file:/no/such/file timeout -s KILL 60 "$helpers/names" 2>&1)
like "$out, status $?" "cannot be written: No such file or directory" \
	"an error has its text without libc's"
like "$out, status $?" "$passed" "and the program's functions are not called for it"

out=$(with_sluice timeout -s KILL 60 "$helpers/names" twice 2>&1)
like "$out, status $?" ', status 134$' \
	"a program that frees twice ends by SIGABRT, though its abort jumps away"
like "$out" '^sluice: fatal: ' "and with a line that says why"

# In front of ours: a library whose functions allocate when they are first called.
hooks=$helpers/.libs/hooks.so
: >"$STATS"
out=$(LD_PRELOAD="$hooks:$SLUICE_LIB" SLUICE_CONF="stats_file:$STATS" \
	timeout -s KILL 60 "$helpers/calls" hooks 2>&1)
like "$out, status $?" "$passed" "a library in front of ours may allocate in its first syscall"
proved_loaded "the program behind it was served by the library" calls
out=$(with_sluice "$helpers/calls" 2>&1)
like "$out, status $?" "$passed" "without it the functions do what libc's do"
