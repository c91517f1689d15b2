#!/bin/sh
# shellcheck shell=sh
# SPDX-License-Identifier: BSD-2-Clause
#
# TAP for the shell tests. A test starts with
#
#	. "${0%/*}/../lib/tap.sh"
#	plan N
#
# and then has, for each statement, one of
#
#	ok STATUS LABEL                 passed when STATUS is 0
#	is GOT WANT LABEL               passed when both strings are the same, else shows both
#	like TEXT REGEX LABEL           passed when a line of TEXT matches the extended REGEX
#	skip LABEL REASON               this machine cannot run this one
#
# and is helped by
#
#	skip_all REASON                 instead of the plan: this machine can run none of it; ends
#	need PROGRAM [PACKAGE]          skip_all when PROGRAM is not installed
#	need_stacks                     skip_all when the library cannot take stacks here
#	diag TEXT...                    lines for the reader
#	bail_out TEXT                   whatever comes next would mean nothing; ends
#	tmpdir                          sets TMP to a new directory that is removed at the end
#	at_exit COMMAND                 run it at the end of the test, before TMP is removed
#	with_sluice PROGRAM ARGS...     runs it under the library, and only it
#	one_at_a_time TEST              first of all: waits until no other test runs that says this
#	                                of the same TEST, a path below t/
#	proved_loaded LABEL [NAME]      passed when the last process of with_sluice to end, or one
#	                                that matches the extended REGEX NAME, was served by it
#	proved_mapped LABEL PID         passed when the running process has the library mapped
#
# Sourcing it sets srcdir, builddir (both absolute), SLUICE_LIB (the library; from the environment
# or the build tree) and STATS (where with_sluice collects the statistics of the processes it ran,
# one line each; `: >"$STATS"` empties it). It may be used from bash and from sh, with set -e or -u
# too.

case $0 in
*lib/tap.sh)
	# `prove t/` takes every *.sh.
	echo "1..0 # SKIP a library for the shell tests, not a test"
	exit 0
	;;
esac

# Inside a pipe of the test's own, or run by hand, $0 may have no slash.
case $0 in
*/*) tap_dir=${0%/*} ;;
*) tap_dir=. ;;
esac
srcdir=${abs_top_srcdir:-$(cd "$tap_dir/../.." && pwd)}

# In this order: where make says, the tree itself, a build directory in it, the current directory.
if [ -n "${abs_top_builddir-}" ]; then
	builddir=$abs_top_builddir
else
	builddir=$srcdir
	for tap_d in "$srcdir" "$srcdir/build" "$PWD" "$PWD/build"; do
		if [ -f "$tap_d/config.status" ]; then
			builddir=$tap_d
			break
		fi
	done
fi

if [ -z "${SLUICE_LIB-}" ]; then
	SLUICE_LIB=$builddir/.libs/libsluice.so
fi

# Run by hand, without make or prove: the time limit all the same.
if [ -z "${SLUICE_TEST_LIMITED-}" ] && [ -x "$srcdir/build-aux/run-test" ]; then
	exec "$srcdir/build-aux/run-test" "$0" "$@"
fi

export srcdir builddir SLUICE_LIB

tap_run=0
tap_failed=0
tap_planned=
TMP=
STATS=
tap_at_exit=

plan() {
	tap_planned=$1
	echo "1..$1"
}

# tap_result PASSED LABEL [DIAGNOSIS]
tap_result() {
	tap_run=$((tap_run + 1))
	tap_label=$(printf %s "$2" | tr '#\n' '  ')
	if [ "$1" -eq 0 ]; then
		printf 'ok %d - %s\n' "$tap_run" "$tap_label"
		return 0
	fi
	tap_failed=$((tap_failed + 1))
	printf 'not ok %d - %s\n' "$tap_run" "$tap_label"
	if [ -n "${3-}" ]; then
		diag "$3"
	fi
	return 0
}

ok() {
	if [ "$1" -eq 0 ]; then
		tap_result 0 "$2"
	else
		tap_result 1 "$2" "status $1"
	fi
}

is() {
	if [ "$1" = "$2" ]; then
		tap_result 0 "$3"
	else
		tap_result 1 "$3" "     got: $1
expected: $2"
	fi
}

like() {
	if printf '%s\n' "$1" | grep -E -q -e "$2"; then
		tap_result 0 "$3"
	else
		tap_result 1 "$3" "           got: $1
does not match: $2"
	fi
}

skip() {
	tap_run=$((tap_run + 1))
	printf 'ok %d - %s # SKIP %s\n' "$tap_run" "$(printf %s "$1" | tr '#\n' '  ')" "$2"
}

skip_all() {
	echo "1..0 # SKIP $*"
	tap_planned=0
	exit 0
}

need_stacks() {
	getconf GNU_LIBC_VERSION 2>/dev/null | grep -q -E 'glibc 2\.(3[5-9]|[4-9][0-9])' ||
		skip_all "stacks need glibc 2.35"
}

need() {
	if ! command -v "$1" >/dev/null 2>&1; then
		skip_all "$1 is not installed (Debian package ${2:-$1})"
	fi
}

diag() {
	printf '%s\n' "$*" | sed 's/^/# /'
}

bail_out() {
	echo "Bail out! $*"
	tap_planned=
	exit 99
}

# Starts the test again with a lock, which flock -o keeps from the programs that the test runs.
one_at_a_time() {
	[ -z "${SLUICE_TEST_ALONE-}" ] || return 0
	command -v flock >/dev/null 2>&1 || return 0
	trap - EXIT
	rm -rf "$TMP"
	SLUICE_TEST_ALONE=$1 exec flock -o "$srcdir/t/$1" "$0"
}

at_exit() {
	tap_at_exit="$1
$tap_at_exit"
}

tmpdir() {
	if [ -z "$TMP" ]; then
		TMP=$(mktemp -d "${TMPDIR:-/tmp}/sluice-test.XXXXXX") ||
			bail_out "cannot make a temporary directory"
		# A daemon of the test may run as another user.
		chmod 755 "$TMP"
		export TMP
	fi
}

tap_end() {
	tap_status=$?
	trap - EXIT
	eval "$tap_at_exit"
	if [ -n "$TMP" ]; then
		rm -rf "$TMP"
	fi
	if [ -n "$tap_planned" ] && [ "$tap_run" -ne "$tap_planned" ]; then
		diag "planned $tap_planned tests, ran $tap_run"
		tap_status=1
	fi
	if [ "$tap_failed" -ne 0 ]; then
		diag "failed $tap_failed of $tap_run tests"
		tap_status=1
	fi
	exit "$tap_status"
}

trap tap_end EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

if [ ! -e "$SLUICE_LIB" ] && [ -z "${TAP_NO_LIBRARY-}" ]; then
	bail_out "no library at $SLUICE_LIB: run make first, or set SLUICE_LIB"
fi

# The statistics of all that with_sluice ran. World-writable, for programs that change their user.
tap_stats() {
	if [ -z "$STATS" ]; then
		tmpdir
		STATS=$TMP/stats
		: >"$STATS"
		chmod 666 "$STATS"
		export STATS
	fi
}

with_sluice() {
	tap_stats
	env LD_PRELOAD="$SLUICE_LIB${LD_PRELOAD:+:$LD_PRELOAD}" \
		SLUICE_CONF="${SLUICE_CONF:+$SLUICE_CONF,}stats_file:$STATS" "$@"
}

# passes LABEL WHY SETTINGS HELPER ARGS...: one of our programs says that all its checks passed. If
# it ends with 77 it cannot run here, for the reason WHY ("": it always can).
passes() {
	tap_label=$1
	tap_why=$2
	tap_settings=$3
	shift 3
	tap_out=$(SLUICE_CONF=$tap_settings with_sluice "$@" 2>"$TMP/err")
	tap_status=$?
	if [ "$tap_status" -eq 77 ] && [ -n "$tap_why" ]; then
		skip "$tap_label" "$tap_why"
		return
	fi
	like "$tap_out, status $tap_status" '^[1-9][0-9]* checks, 0 failed, status 0$' "$tap_label"
	diag "$tap_settings: $(cat "$TMP/err")"
}

# checked LABEL LIMIT PROGRAM ARGS...: one of our programs says that all its checks passed, and
# nothing else, on either output, within LIMIT seconds (times SLUICE_TEST_TIMEOUT_MULT). Names a
# program that hangs.
checked() {
	tap_label=$1
	tap_limit=$(($2 * ${SLUICE_TEST_TIMEOUT_MULT:-1}))
	shift 2
	tap_out=$(with_sluice timeout "$tap_limit" "$@" 2>&1)
	like "$tap_out, status $?" '^[1-9][0-9]* checks, 0 failed, status 0$' "$tap_label"
}

# A process that Sluice served has made at least one slab.
proved_loaded() {
	tap_stats
	if [ -n "${2-}" ]; then
		tap_lines=$(grep -E " program=($2)[: ]" "$STATS")
	else
		tap_lines=$(tail -n 1 "$STATS")
	fi
	if printf '%s\n' "$tap_lines" | grep -E -q '^sluice .* slabs_made=[1-9]'; then
		tap_result 0 "$1"
	else
		tap_result 1 "$1" "no line with slabs_made above 0${2:+ for program $2} in:
$(tail -n 5 "$STATS")"
	fi
}

# For a process that will not end by exit(): the library is mapped, executable, and not deleted.
proved_mapped() {
	tap_real=$(readlink -f "$SLUICE_LIB")
	if grep -E -q "r-xp .* $tap_real\$" "/proc/$2/maps" 2>/dev/null; then
		tap_result 0 "$1"
	else
		tap_result 1 "$1" "process $2 does not map $tap_real"
	fi
}

tap_stats
