#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# tools/check and .ci/run let a failed script run once more, alone, unless it did worse than fail,
# and name the scripts that took longest.
. "${0%/*}/../lib/tap.sh"
plan 13
tmpdir

# tests_fake NAME FIRST SECOND: a build directory whose one test has the log FIRST, and SECOND when
# run again.
tests_fake() {
	dir=$TMP/$1
	mkdir -p "$dir/t"
	cp "$srcdir/t/meta/settle.mk" "$dir/Makefile"
	printf '%s\n' "$2" >"$dir/t/x.first"
	printf '%s\n' "$3" >"$dir/t/x.second"
	(cd "$dir" && make check >check.log 2>&1)
}

# settled NAME [COMMAND]: how settle, or another COMMAND that settles, counts it.
settled() {
	(
		me=t/meta/settle.sh
		top=$(cd "$srcdir" && pwd)
		. "$top/tools/common/setup.sh"
		cd "$TMP/$1" || exit 1
		"${2:-settle}"
		echo "$tests_passed $tests_failed $tests_skipped"
	) 2>&1 | tr '\n' ' '
}

# checked_quietly NAME FIRST SECOND: how check_quietly counts a test with these logs.
checked_quietly() {
	tests_fake "$@"
	rm -f "$TMP/$1/t/x.log"
	settled "$1" check_quietly
}

tests_fake good "ok 1 - a" "ok 1 - a"
is "$(settled good)" "1 0 0 " "a script that passes is counted as passed"
tests_fake unsteady "not ok 1 - a" "ok 1 - a"
like "$(settled unsteady)" '^== unsteady: t/x.sh failed, .* 1 0 0 $' \
	"a script that passes when it runs again is called unsteady"
is "$(cat "$TMP/unsteady/t/x.first.log")" "not ok 1 - a" \
	"the first log of an unsteady script is kept"
tests_fake bad "not ok 1 - a" "not ok 1 - a"
like "$(settled bad)" '^== t/x.sh failed twice 0 1 0 $' "a script that fails twice has failed"
tests_fake worse "not ok 1 - a
# CORRUPT: byte 3" "ok 1 - a"
like "$(settled worse)" 'is not run again: .* 0 1 0 $' "corruption that was found is not run again"
tests_fake dead "not ok 1 - a
# status 139" "ok 1 - a"
like "$(settled dead)" 'is not run again: .* 0 1 0 $' \
	"a script that died of a signal is not run again"

finding='WARNING: ThreadSanitizer: data race'
is "$(checked_quietly quiet-good "ok 1 - a" "ok 1 - a")" "1 0 0 " \
	"a build whose test passes has no failure"
like "$(checked_quietly quiet-once "not ok 1 - a" "ok 1 - a")" ' 1 0 0 $' \
	"one failure that does not come again does not fail a build"
like "$(checked_quietly quiet-twice "not ok 1 - a" "not ok 1 - a")" ' 0 1 0 $' \
	"a failure that comes again fails a build"
like "$(checked_quietly quiet-race "not ok 1 - a
$finding" "ok 1 - a")" 'is not run again: .* 0 1 0 $' "a sanitizer's finding fails a build at once"
mkdir "$TMP/broken"
printf 'check:\n\t@echo "PASS: t/x.sh 1 - a"; exit 1\n' >"$TMP/broken/Makefile"
like "$(settled broken check_quietly)" ' 1 1 0 $' \
	"a make check that fails and names no test is a failure"

for test in quick slow; do
	printf '#!/bin/sh\necho 1..0\nsleep %s\nexec env >%s\n' \
		"$([ $test = quick ] && echo 0 || echo 3)" "$TMP/$test.env" >"$TMP/$test.sh"
	chmod +x "$TMP/$test.sh"
	MAKEFLAGS=n SLUICE_TEST_TIMES=$TMP/times "$srcdir/build-aux/run-test" "$TMP/$test.sh" \
		>"$TMP/out"
done
like "$(me=t/meta/settle.sh top=$srcdir; . "$srcdir/tools/common/setup.sh"; slowest "$TMP/times")" \
	"^[^ ]*/slow.sh [1-9][0-9]* s(, [^ ]*/quick.sh [1-9][0-9]* s)?\$" \
	"the tests that took longest are named"
is "$(grep MAKEFLAGS "$TMP/slow.env")" "" "a test does not see what make was told"
