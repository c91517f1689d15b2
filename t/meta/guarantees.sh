#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# doc/guarantees.md and doc/hosts.md: each test that they name exists, is run, and prints the label.
TAP_NO_LIBRARY=1
. "${0%/*}/../lib/tap.sh"
plan 6

# faults FILE: prints what a table whose header ends with "test", or a parenthesis in the text,
# names and does not exist. A reference is FILE "LABEL", "LABEL"; FILE "LABEL".
faults() {
	awk -v dir="$srcdir/t/" -v am="$srcdir/t/tests.am $srcdir/t/preload.am" '
	function read_all(path,    line, all) {
		all = ""
		while ((getline line <path) > 0)
			all = all line "\n"
		close(path)
		return all
	}
	function text_of(name) {
		if (!(name in text)) {
			text[name] = read_all(dir name ".sh")
			listed = "t/" name ".sh"
			if (text[name] == "") {
				text[name] = read_all(dir "unit/" name ".c")
				listed = "t/unit/" name ".t"
			}
			if (text[name] == "" || !index(lists, listed))
				print "no test " name
		}
		return text[name]
	}
	# refs CELL: checks each reference in it. Returns their number.
	function refs(cell,    part, n, i, name, label, found) {
		n = split(cell, part, ";")
		found = 0
		for (i = 1; i <= n; i++) {
			if (!match(part[i], /[a-z]+[a-z/-]*/))
				continue
			name = substr(part[i], RSTART, RLENGTH)
			text_of(name)
			found++
			while (match(part[i], /"[^"]*"/)) {
				label = substr(part[i], RSTART + 1, RLENGTH - 2)
				part[i] = substr(part[i], RSTART + RLENGTH)
				if (!index(text_of(name), label))
					print name " has no label \"" label "\""
			}
		}
		return found
	}
	BEGIN {
		n = split(am, list, " ")
		for (i = 1; i <= n; i++)
			lists = lists read_all(list[i])
	}
	{ whole = whole " " $0 }
	/^\|/ {
		n = split($0, cell, / *\| */)
		if (cell[2] ~ /^-+$/)
			next
		if (cell[n - 1] == "test")
			next
		rows++
		if (!refs(cell[n - 1]))
			print "no test for: " cell[2]
	}
	END {
		while (match(whole, /\((preload|die|meta)\/[a-z-]+ "[^"]*"\)/)) {
			reference = substr(whole, RSTART + 1, RLENGTH - 2)
			whole = substr(whole, RSTART + RLENGTH)
			refs(reference)
			rows++
		}
		print rows " rows" >"/dev/stderr"
	}' "$1"
}

doc=$srcdir/doc/guarantees.md
is "$(faults "$doc" 2>"$TMP/rows")" "" \
	"each row of guarantees.md names existing tests, and labels that they print"
ok "$(test "$(sed 's/ .*//' "$TMP/rows")" -gt 30; echo $?)" \
	"guarantees.md has its rows ($(cat "$TMP/rows"))"

printf '%s\n' '| promise | test |' '| --- | --- |' '| a | preload/family "no such label" |' \
	'| b | preload/nothing "x" |' \
	'| c | |' \
	'| d | preload/family "the program passes with glibc as well"; lock |' >"$TMP/bad.md"
is "$(faults "$TMP/bad.md" 2>/dev/null | tr '\n' ';')" \
	'preload/family has no label "no such label";no test preload/nothing;preload/nothing has no label "x";no test for: c;' \
	"the check notices missing tests and labels"

# hosts.md names labels of preload/hosts in backquotes, in its last column.
labels=$(sed -n 's/^| .* | \([^|]*\) |$/\1/p' "$srcdir/doc/hosts.md" |
	grep -o -E '`[^`]*`' | tr -d '`')
missing=$(printf '%s\n' "$labels" | while read -r l; do
	grep -q -F -e "$l" "$srcdir/t/preload/hosts.sh" || printf '%s;' "$l"
done)
is "${labels:+listed}$missing" listed "the labels in hosts.md are those of preload/hosts"
named=$(grep -o -E '(preload|die|meta)/[a-z]+(-[a-z]+)*' \
	"$srcdir/doc/hosts.md" "$doc" "$srcdir/doc/system-calls.md" |
	sed 's/.*://' | sort -u)
missing=$(printf '%s\n' "$named" | while read -r n; do
	[ -e "$srcdir/t/$n.sh" ] || printf '%s ' "$n"
done)
is "${named:+named}$missing" named "the documents name only existing tests"
is "$(grep -l -e 'guarantees\.md' "$srcdir/README.md" "$srcdir/doc/design.md" \
	"$srcdir/doc/testing.md" | wc -l | tr -d ' ')" 3 \
	"README, design.md and testing.md lead to guarantees.md"
