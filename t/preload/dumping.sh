#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# Where profiles are written: past links and pipes, with high descriptors, one at a time, and to the
# end when the process ends. Nothing that is there stops or kills the program.
#
# TIMEOUT: 300
. "${0%/*}/../lib/tap.sh"
need_stacks
plan 14
tmpdir

prog=$builddir/t/helpers/dumping

# dumping CONF ARG: in a folder of its own; $out: its last line, $err: what the library said
dumping() {
	rm -rf "$TMP/dir"
	mkdir "$TMP/dir"
	out=$(cd "$TMP/dir" && SLUICE_CONF=prof:true,prof_sample:1,psi:0,cgroup:0,$1 with_sluice \
		"$prog" "$2" 2>"$TMP/err")
	status=$?
	out=$(printf '%s\n' "$out" | tail -n 1 | sed 's/[0-9]* checks, //')
	err=$(cat "$TMP/err")
	diag "$err"
}

# works ARG LABEL [CONF]
works() {
	dumping "${3-prof_active:1}" "$1"
	if [ "$status" = 77 ]; then
		skip "$2" "there are no terminals"
	else
		is "$status $out" "0 0 failed" "$2"
	fi
}

works names "a name that is taken is left: a link, a pipe, a folder" prof_sample:1M
proved_loaded "the library was loaded"
works given "what is neither a file nor a terminal is refused"
is "$(printf '%s\n' "$err" | grep -c -E 'cannot be written: (it is neither|Is a directory)')" 4 \
	"with one line each"
works limit "a file at the limit of the process ends the dump, not the program"
works numbers "the descriptor has a high number"
works closed "what the program opened under that number is not written"
works child "in a child of fork whose parent was dumping one dumps at a time"
works whole "figures fit each other while threads allocate"

# said REGEX: how many lines match it
said() {
	printf '%s\n' "$err" | grep -c -E "$1"
}

dumping prof_final:1 stuck
if [ "$status" = 77 ]; then
	skip "at exit, stuck" "there are no terminals"
	skip "at exit, slow" "there are no terminals"
else
	is "$status $(said 'none is written at exit: another')" "0 1" \
		"a dump that does not end does not keep the process, and a line says so"
	dumping prof_final:1 slow
	n=$(find "$TMP/dir" -name 'jeprof.*.f.heap' | wc -l)
	is "$status $((n + $(said 'none is written at exit: another')))" "0 1" \
		"the final profile comes after the one under way"
fi

dumping prof_interval:1K,prof_prefix:"$TMP/none/$(printf 'a\033b')" limit
is "$(said '^sluice: heap profile: .*/none/a[?]b.PID.*: No such file')" 1 \
	"a folder that is missing is said once, without control characters"
dumping prof_interval:1K,prof_final:1,prof_prefix: limit
is "$(find "$TMP/dir" -name '*.heap' | wc -l)" 0 "without a prefix nothing is written unasked"
is "$(said 'jeprof|PID')" 0 "and nothing is said"
