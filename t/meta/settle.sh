#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# tools/check and .ci/run let a failed script run once more, alone, unless it did worse than fail.
. "${0%/*}/../lib/tap.sh"
plan 6
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

# settled NAME: how settle counts it.
settled() {
	(
		me=t/meta/settle.sh
		top=$(cd "$srcdir" && pwd)
		. "$top/tools/common/setup.sh"
		cd "$TMP/$1" || exit 1
		settle
		echo "$tests_passed $tests_failed $tests_skipped"
	) 2>&1 | tr '\n' ' '
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
