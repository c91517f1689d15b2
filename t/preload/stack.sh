#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# Every exported function works on the stack of a thread that has PTHREAD_STACK_MIN, and the malloc
# family on that of a fiber that has 4 KiB.
. "${0%/*}/../lib/tap.sh"
plan 6

stack=$builddir/t/helpers/stack
limit=$(with_sluice "$stack" limit | sed -n 's/^limit //p')
[ "${limit:-0}" -gt 4096 ]
ok $? "a thread of PTHREAD_STACK_MIN has some stack: ${limit:-no} bytes"

bad=
deep=
for call in $(sed 's/#.*//' "$srcdir/src/shim/libsluice.sym"); do
	out=$(with_sluice timeout 60 "$stack" "$call" 2>"$TMP/err")
	status=$?
	if [ $status -ne 0 ]; then
		bad="$bad $call:$status"
		diag "$call: $out $(head -n 3 "$TMP/err")"
	fi
	printf '%s\n' "$out" >>"$TMP/all"
done
is "$bad" "" "each exported function works on PTHREAD_STACK_MIN, and has a case in this test"
# A signal handler and its context need some as well.
deep=$(awk -v limit="${limit:-0}" '$2 > limit - 3072 { printf "%s ", $0 }' "$TMP/all")
is "$deep" "" "each exported function leaves 3 KiB of that stack"
diag "the deepest: $(sort -k 2 -n "$TMP/all" | tail -n 5 | tr '\n' ';')"
proved_loaded "the program was served by the library" stack

# What the loader needs to find a function is not ours.
for beside in "" thread; do
	# shellcheck disable=SC2086 # no argument
	out=$(LD_BIND_NOW=1 with_sluice timeout 120 "$builddir/t/helpers/fiber" 4096 $beside 2>&1)
	is "$out" ok "a fiber with a stack of 4 KiB allocates and frees${beside:+ beside a thread}"
done
