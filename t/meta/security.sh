#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# doc/security.md shows what t/golden/misuse.txt says, and that has each program.
TAP_NO_LIBRARY=1
. "${0%/*}/../lib/tap.sh"
plan 4
tmpdir

# absent TABLE DOCUMENT: prints the lines of the table that are not in the document.
absent() {
	grep -v -x -F -f "$2" "$1"
}

"$srcdir/build-aux/misuse-table" "$srcdir" >"$TMP/table"
ok "$(test "$(wc -l <"$TMP/table")" -ge 12; echo $?)" "the table has its rows"
is "$(absent "$TMP/table" "$srcdir/doc/security.md")" "" \
	"security.md has the table that build-aux/misuse-table makes of the outcomes"
sed 's/^\(| not from malloc ([0-9]*) |\) [0-9]*/\1 99/' "$TMP/table" >"$TMP/other"
is "$(absent "$TMP/other" "$srcdir/doc/security.md" | wc -l | tr -d ' ')" 1 \
	"the check notices another number"

sed -n 's/^[	 ]*{ "\([a-z0-9-]*\)", "[a-z-]*", [a-z].*/\1/p' "$srcdir/t/helpers/misuse.def" \
	"$srcdir/t/helpers/misuse.cc" | sort >"$TMP/programs"
sed '/^#/d; s/ .*//' "$srcdir/t/golden/misuse.txt" | sort >"$TMP/outcomes"
is "$(wc -l <"$TMP/programs" | tr -d ' ') $(diff "$TMP/programs" "$TMP/outcomes")" \
	"$(wc -l <"$TMP/outcomes" | tr -d ' ') " "each program has an outcome"
