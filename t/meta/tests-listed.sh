#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# Every test in t/ is in a list of make, so that `make check' and `prove' run the same ones.
TAP_NO_LIBRARY=1
. "${0%/*}/../lib/tap.sh"
cd "$srcdir/t" || bail_out "no directory $srcdir/t"

# Words of the makefile fragments, without comments.
cat ./*.am | sed 's/#.*//' | tr -s ' \t\\=' '\n' >"$TMP/words"

missing_c=
missing_sh=
not_exec=
files=0
for f in */*.c */*.cc; do
	files=$((files + 1))
	[ -e "$f" ] || continue
	grep -q -x -F "t/$f" "$TMP/words" || missing_c="$missing_c t/$f"
	case $f in
	unit/*.c) grep -q -x -F "t/${f%.c}.t" "$TMP/words" || missing_c="$missing_c t/${f%.c}.t" ;;
	esac
done
for f in */*.sh; do
	files=$((files + 1))
	grep -q -x -F "t/$f" "$TMP/words" || missing_sh="$missing_sh t/$f"
	case $f in
	lib/*) continue ;;
	esac
	[ -x "$f" ] || not_exec="$not_exec t/$f"
done
dangling=
grep -E '^t/.*\.(c|h|sh)$' "$TMP/words" | sort -u >"$TMP/listed"
while IFS= read -r w; do
	[ -e "../$w" ] || dangling="$dangling $w"
done <"$TMP/listed"

plan 5
ok $((files < 100)) "t/ has tests"
is "$missing_c" "" "every C file of t/ is listed, and every test program"
is "$missing_sh" "" "every shell script of t/ is listed"
is "$not_exec" "" "every shell test can be executed"
is "$dangling" "" "every listed file exists"
