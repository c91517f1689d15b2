#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# Lines have at most 100 columns, and check-columns reports longer ones.
TAP_NO_LIBRARY=1
. "${0%/*}/../lib/tap.sh"
plan 7

# columns FOLDER [PATH...]: check-columns, run in FOLDER.
columns() (
	cd "$1" || exit
	shift
	"$srcdir/build-aux/check-columns" "$@" 2>&1
)

faults=$(columns "$srcdir")
ok $? "no line that people write has more than 100 columns"
[ -z "$faults" ] || diag "$faults"

# check TEXT [FILE]: what check-columns says of a tree that has one file with this text.
check() {
	file=$TMP/tree/${2:-src/line.c}
	mkdir -p "${file%/*}"
	printf '%b\n' "$1" >"$file"
	columns "$TMP/tree"
	rm "$file"
}

x94=$(printf '%094d' 0)
x100=000000$x94
is "$(check "$x100")" "" "a line of 100 columns passes"
is "$(check "\n${x100}1")" "src/line.c:2: 101 columns, more than 100" \
	"a line of 101 columns is noticed"
is "$(check "\t${x94}")" "src/line.c:1: 102 columns, more than 100" "a tab counts up to 8 columns"
string=$(check "'$x100' \\\\" t/line.sh)
output=$(check "\`\`\`\n $x100\n\`\`\`" doc/line.md)
is "$(check "| $x100 |")$string$output" "" \
	"a row of a table, a command's output and a script's string may be longer"
is "$(check "https://$x100")" "" "a line with a URL may be longer"
mkdir -p "$TMP/empty"
columns "$TMP/empty" >/dev/null
is $? 1 "a tree without files is noticed"
