# shellcheck shell=sh
# SPDX-License-Identifier: BSD-2-Clause
#
# For the tests of sluice-bench, sluice-latency and sluice-pressure: sourced after tap.sh.

# comparer NAME: sets `tool`, the path of sluice-NAME, and `work`, that of its workloads. Without
# Python the test is skipped.
comparer() {
	[ -x /usr/bin/python3 ] ||
		skip_all "/usr/bin/python3 is not installed (Debian package python3)"
	tool=$builddir/tools/sluice-$1
	work=$builddir/tools/$1/sluice-$1-work
	if [ ! -x "$tool" ] || [ ! -x "$work" ]; then
		bail_out "$tool and $work are not built: run make first"
	fi
}

# complains STATUS REGEX ARGS...: the tool prints one line on standard error and ends with STATUS.
complains() {
	want=$1
	regex=$2
	shift 2
	out=$("$tool" "$@" 2>"$TMP/err")
	is "$?, $(wc -l <"$TMP/err") line, $out" "$want, 1 line, " \
		"status $want and one line for: $*"
	like "$(cat "$TMP/err")" "^${tool##*/}: $regex" "the line says what is wrong"
}
