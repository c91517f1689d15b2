#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# A stopped program prints where it was, wherever that is. Where no backtrace is possible it is
# stopped all the same.
. "${0%/*}/../lib/tap.sh"
. "$srcdir/t/lib/die.sh"
with_libunwind || skip_all "built without libunwind"
plan 42

stop=$builddir/t/helpers/stop
modules=$builddir/t/helpers/.libs
normal=$SLUICE_LIB

is "$(with_sluice grep -c -E 'libunwind|liblzma|libgcc_s' /proc/self/maps)" 0 \
	"a C program that is not stopped has neither libunwind nor what that needs mapped"
proved_loaded "the program that is not stopped was served by the library"

# stops CASE LABEL WANT: three tests, by WANT whole (a backtrace, with frames of the program) or
# none.
stops() {
	# The backtrace has a time limit, which may be too short on a loaded machine, but not each
	# time.
	for _ in 1 2 3; do
		# The copy that writes the backtrace has the pipe as well: none is left when this
		# ends.
		out=$(with_sluice timeout 60 "$stop" "$1" "$modules/sleeper.so" 2>"$TMP/err")
		status=$?
		if [ "$3" != whole ] || grep -q '^sluice:   #.*/stop(' "$TMP/err"; then
			break
		fi
	done
	if [ "$status" -eq 77 ]; then
		skip "$2: SIGABRT" "no system call filter can be set"
		skip "$2: one line comes first" "no system call filter can be set"
		skip "$2: a backtrace follows" "no system call filter can be set"
		return
	fi
	is "$status, $out" "134, ${4-}" "$2: SIGABRT"
	is "$(grep -c '^sluice: fatal: ' "$TMP/err") $(head -n 1 "$TMP/err" |
		grep -c '^sluice: fatal: .*: address 0x')" \
		"1 1" "$2: one line comes first"
	if [ "$3" = whole ]; then
		like "$(cat "$TMP/err")" '^sluice:   #[0-9]+ 0x[0-9a-f]+ .*/stop\(' \
			"$2: a backtrace follows"
	else
		is "$(sed 1d "$TMP/err" | grep '^sluice')" "" "$2: nothing follows"
	fi
}

stops handler "in a signal handler" whole
stops small-stack "in a signal handler that has 16 KiB of stack" whole
stops children "in a program that looks for children, forks and SIGCHLD" whole
stops lock "with a lock of ours held" whole
stops many "in eight threads at once" whole
stops soft-limit "where no address space is left by the soft limit" whole
stops file-limit "where no file can be opened" whole
stops hard-limit "where no address space is left" none
stops loader "while another thread loads a module" none
stops no-clone "where clone is refused" none
stops trapped-clone "where clone is refused by a signal" none refused

# Three threads hold the lock of the core for most of the time.
SLUICE_LIB=$modules/libsluice-delays.so
SLUICE_DELAY=held_BUDDY=5000
SLUICE_CONF=pcp_high_min:0,pcp_high_max:0
export SLUICE_DELAY SLUICE_CONF
stops churn "while others have the lock of the core" whole
stops churn-foreign "while others have the lock of the core, and the thread's heap could be used" \
	whole
unset SLUICE_DELAY SLUICE_CONF
SLUICE_LIB=$normal

out=$(SLUICE_CONF=backtrace:0 with_sluice "$stop" handler 2>&1)
is "$? $(printf '%s\n' "$out" | grep -c '^sluice')" "134 1" "backtrace:0 leaves the backtrace out"
