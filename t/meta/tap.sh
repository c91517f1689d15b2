#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# The harness itself: a failure must be reported, and a test that hangs must end.
TAP_NO_LIBRARY=1
. "${0%/*}/../lib/tap.sh"
plan 17

# script NAME LINES...: a test of its own, in TMP.
script() {
	script_name=$1
	shift
	{
		echo '#!/bin/sh'
		echo "abs_top_srcdir=$srcdir abs_top_builddir=$builddir"
		echo 'TAP_NO_LIBRARY=1'
		echo ". $srcdir/t/lib/tap.sh"
		printf '%s\n' "$@"
	} >"$TMP/$script_name.sh"
	chmod +x "$TMP/$script_name.sh"
}

# run NAME: sets out and status.
run() {
	out=$("$srcdir/build-aux/run-test" "$TMP/$1.sh" 2>&1)
	status=$?
}

script good 'plan 4' 'ok 0 "it # works"' 'is a a "same"' 'like "one
two" "^t.o$" "like"' 'skip "other" "no reason"'
run good
is "$status" 0 "a test in which all pass has status 0"
like "$out" '^ok 1 - it   works$' "a # in a label is no directive"
like "$out" '^ok 4 - other # SKIP no reason$' "a skipped test says so"

script not_ok 'plan 1' 'ok 3 "it works"'
run not_ok
is "$status" 1 "ok with a status other than 0 fails the test"
like "$out" '^not ok 1 - it works$' "a failed test prints not ok"

script not_is 'plan 1' 'is a b "same"'
run not_is
like "$status $out" 'expected: b' "is prints what it expected"

script not_like 'plan 1' 'like abc "^b" "like"'
run not_like
is "$status" 1 "like fails when no line matches"

script few 'plan 2' 'ok 0 one'
run few
is "$status" 1 "fewer tests than planned fail the test"
script many 'plan 1' 'ok 0 one' 'ok 0 two'
run many
is "$status" 1 "more tests than planned fail the test"
script early 'plan 1' 'exit 0'
run early
is "$status" 1 "an early exit 0 fails the test"

script slow '# TIME''OUT: 1' 'plan 1' 'sleep 600' 'ok 0 late'
start=$(date +%s)
SLUICE_TEST_TIMEOUT_MULT=1 run slow
like "$out" '^Bail out!' "a test that hangs is ended and bails out"
ok $(($(date +%s) - start > 90)) "a test that hangs is ended at its limit and not later"

script none 'need no-such-program-anywhere some-package'
run none
is "$status $out" \
	"0 1..0 # SKIP no-such-program-anywhere is not installed (Debian package some-package)" \
	"a missing program skips the whole test"

script keep 'plan 1' 'echo "DIR $TMP"' 'ok 0 one'
run keep
dir=$(printf '%s\n' "$out" | sed -n 's/^DIR //p')
like "$dir" '^/' "a test has a directory of its own"
[ ! -e "$dir" ]
ok $? "the directory of a test is removed at the end"

script proof 'plan 1' 'echo "sluice pid=1 program=x slabs_made=0 y=1" >"$STATS"' \
	'proved_loaded "loaded" x'
run proof
is "$status" 1 "proved_loaded fails for a program that was not served"

out=$(LD_PRELOAD=/nonexistent/libsluice.so "$srcdir/build-aux/run-test" "$TMP/good.sh" 2>/dev/null)
like "$out" '^Bail out!' "run-test refuses the library preloaded into itself"
