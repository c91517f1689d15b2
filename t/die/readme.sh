#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# README.md on wrong frees, word by word: each statement with a program that shows it. Together the
# statements are the text, so who changes it changes this table.
. "${0%/*}/../lib/tap.sh"

# shellcheck disable=SC3045
ulimit -c 0
tmpdir
later=early_checks:0,early_guards:0 # what frees and blocks after the first ones do

# The text, then the helper, its case, how it ends, and options. Only the text: nothing to run.
cat >"$TMP/table" <<END
A wrong free stops the program with one line that says what and where:
- At once: a pointer that is not ours,|die foreign-stack stops
was never handed out,|die never-handed-out stops
or lies in the middle of a block;|die interior-small-16 stops
a repeat of one of the thread's last two|die double-16 stops $later
frees of that size;|die late-1 stops $later
a second free of a block above 256 KiB|misuse twice-4m stops $later
whose memory is not in use again;
realloc|misuse realloc-100 stops $later
or malloc_usable_size|misuse size-100 stops $later
of what the thread freed by one of its last two frees of that size;
a size of another size class told to C++ delete,|hardened sized-cxx stops
\`free_sized\`|hardened sized-c stops
or \`sdallocx\`,|hardened sized-jemalloc stops
unless the program has an operator new or a malloc of its own.
- At once, among the first 512 frees of up to 32 KiB by the program's first thread,
unless allocations are sampled: a repeat of any of them,|die now-200 stops
unless malloc has handed the block out meanwhile or the program has written to it.
- Soon,|hardened written-drained stops
or at exit,|hardened written-last stops
among the same frees: a write to a block of up to 1 KiB after its free.
- By a fault (SIGSEGV), unless address space is limited:
a read|hardened zero-read faults
or write of what malloc(0) gave;|hardened zero-write faults
and of the program's first 8 blocks of 64 KiB to 4 MiB,
an access behind the last page,|hardened overflow-large faults
before the first,|hardened underflow-large faults
or after the free.|hardened large-read faults
- When the block returns to its slab|die late-2000 stops $later
or pcp for the second time,|die late-3-64k stops $later
or at exit, if the thread that exits holds it twice:|die late-20 stops $later
any other second free. It goes unnoticed if malloc has handed the block out meanwhile (malloc may
hand it out twice), and usually if the program has written to it.
- When the object returns to its slab:|misuse emptied-trim stops $later
an object whose memory already went back to the kernel.
An overwritten link in a free block stops the program, too.|die link-64 stops
END
plan $(($(grep -c '|' "$TMP/table") + 2))

while IFS='|' read -r text run; do
	[ -n "$run" ] || continue
	# shellcheck disable=SC2086 # the words are the columns
	set -- $run
	SLUICE_CONF="backtrace:0${4:+,$4}" with_sluice "$builddir/t/helpers/$1" "$2" \
		>"$TMP/out" 2>"$TMP/err"
	got="status $?, $(grep -c '^sluice: fatal: [a-z].*: address 0x[0-9a-f]' "$TMP/err") lines"
	case $3,$(cat "$TMP/out") in
	stops,*) want="status 134, 1 lines" ;;
	*,fault*) want="status 11, 0 lines" ;;
	*) want="status 139, 0 lines" ;;
	esac
	is "$got" "$want" "... $text ($1 $2)"
done <"$TMP/table"

# words FILE: its words, one a line
words() {
	tr ' ' '\n' <"$1" | grep .
}

sed -n '/A wrong free stops/,/An overwritten link/p' "$srcdir/README.md" |
	sed 's/.*\(A wrong free stops\)/\1/; s/\(stops the program, too\.\).*/\1/' >"$TMP/said"
cut -d '|' -f 1 "$TMP/table" >"$TMP/shown"
words "$TMP/said" >"$TMP/said.words"
words "$TMP/shown" >"$TMP/shown.words"
is "$(diff "$TMP/said.words" "$TMP/shown.words")" "" "that is what README.md says, word by word"
with_sluice cat /dev/null
proved_loaded "the library was loaded"
