#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# Standard output that is full or closed: every tool says so in one line, and ends with a failure.
. "${0%/*}/../lib/tap.sh"
plan 21
tmpdir

unset SLUICE_CONF LD_PRELOAD
printf '%s\n' heap_v2/100 "@ 0x1" "  t*: 1: 10 [1: 10]" MAPPED_LIBRARIES: >"$TMP/heap"

# unwritable STATUS NAME ARGS...: what sluice-NAME does for a full and a closed output
unwritable() {
	want=$1 name=sluice-$2
	shift 2
	tool=$builddir/tools/$name
	label="$name $(echo "$*" | sed "s,$TMP/,,")"
	if [ ! -x "$tool" ] ||
		{ head -n 1 "$tool" | grep -q -a python3 && [ ! -x /usr/bin/python3 ]; }; then
		skip "$label" "not built, or no python3"
		return
	fi
	told=
	"$tool" "$@" 2>"$TMP/err" >/dev/full
	told="$? $(grep -c '' "$TMP/err") $(grep -c "^$name: standard output: ." "$TMP/err")"
	diag "$(head -n 3 "$TMP/err")"
	"$tool" "$@" 2>"$TMP/err" >&-
	told="$told $? $(grep -c '' "$TMP/err") $(grep -c "^$name: standard output: ." "$TMP/err")"
	diag "$(head -n 3 "$TMP/err")"
	is "$told" "$want 1 1 $want 1 1" "$label"
}

for which in prof bench latency pressure ctl stat top; do
	unwritable 1 $which --help
	unwritable 1 $which --version
done
unwritable 125 run --help
unwritable 125 run --version
unwritable 125 run -h
unwritable 1 prof "$TMP/heap"
for which in bench latency pressure; do
	unwritable 1 $which --list
done
