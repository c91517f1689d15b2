#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# What malloc and free execute on a hit, counted on the library as it was built: no call, no atomic
# instruction and no division with any compiler; with the compiler that has a file in t/golden/
# exactly the instructions and branches of that file. `make golden` rewrites the file: check `git
# diff t/golden` before you commit it.
. "${0%/*}/../lib/tap.sh"

steps=$builddir/t/helpers/steps
[ -x "$steps" ] || bail_out "$steps is not built: run make tests"
lib=$(readlink -f "$SLUICE_LIB")
makefile=$builddir/Makefile
flags=$(sed -n 's/^CFLAGS = //p' "$makefile" 2>/dev/null)
compiler=$(readelf -p .comment "$lib" 2>/dev/null | awk '
	/clang version/ { sub(/.*clang version /, ""); clang = int($0) }
	/GCC: / { sub(/.*\) /, ""); gcc = int($0) }
	END { print clang ? "clang-" clang : gcc ? "gcc-" gcc : "unknown" }')
golden=t/golden/$(uname -m)-$compiler.txt

with_sluice "$steps" "$lib" >"$TMP/have" 2>"$TMP/err"
status=$?
[ $status -ne 77 ] || skip_all "$(cat "$TMP/err")"

if [ "${1-}" = --write ]; then
	[ $status -eq 0 ] || bail_out "$(cat "$TMP/err")"
	[ "$flags" = "-g -O2" ] ||
		bail_out "golden counts are of CFLAGS='-g -O2', this build has '$flags'"
	mkdir -p "$srcdir/t/golden"
	{
		echo "# SPDX-License-Identifier: BSD-2-Clause"
		echo "# Written by \`make golden\`; compared by t/meta/fastpath.sh."
		echo "# hit     instructions branches calls atomics divisions"
		cat "$TMP/have"
	} >"$srcdir/$golden"
	diag "wrote $golden"
	skip_all "no test: the counts were written"
fi

plan 6

is "$("$steps" --known 2>&1 | tr -s ' ')" "known 25 3 3 5 2" \
	"known instructions are counted for what they are"
is "$status, $(grep -c -E '^(malloc|free)-' "$TMP/have") lines, $(cat "$TMP/err")" "0, 9 lines, " \
	"every case was stepped through"
proved_loaded "the library served the program whose calls were counted"

# counted COLUMN REGEX: the cases whose name matches and whose count is not 0.
counted() {
	awk -v column="$1" -v names="$2" '$1 ~ names && $column != 0 { print }' "$TMP/have"
}

debug=$(grep '^#define SLUICE_DEBUG 1' "$builddir/config.h")
case $debug$flags in
*define* | *-O0* | "${flags%-O*}")
	skip "malloc and free call nothing on a hit" "a debug build, or one without optimization"
	;;
*)
	is "$(counted 4 '^(malloc|free|new|delete)')" "" "malloc and free call nothing on a hit"
	;;
esac
is "$(counted 5 .)$(counted 6 .)" "" "no hit has an atomic instruction or a division"

if [ ! -e "$srcdir/$golden" ]; then
	skip "the counts are those of $golden" "there is none for $compiler on $(uname -m)"
elif [ "$flags$debug" != "-g -O2" ]; then
	skip "the counts are those of $golden" \
		"they are of CFLAGS='-g -O2', this build has '$flags' $debug"
else
	grep -v '^#' "$srcdir/$golden" >"$TMP/want"
	is "$(diff "$TMP/want" "$TMP/have")" "" \
		"the counts are those of $golden (else: make golden)"
fi
