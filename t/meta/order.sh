#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# src/shim/order.txt puts together what ordinary programs use of the library: its names exist, and a
# small process has little of the code in memory.
. "${0%/*}/../lib/tap.sh"
need readelf binutils
plan 4

order=$srcdir/src/shim/order.txt
sed -n 's/^\(text \.text\|bss \.bss\)\.\([A-Za-z_0-9]*\)$/\2/p' "$order" |
	grep -v -x -e startup -e exit | LC_ALL=C sort -u >"$TMP/names"
[ "$(wc -l <"$TMP/names")" -gt 200 ]
ok $? "the order has more than 200 names"
cat "$srcdir"/src/*/*.c "$srcdir"/src/*/*.h "$srcdir"/src/*/*.def |
	grep -o -E '[A-Za-z_0-9]+' | LC_ALL=C sort -u >"$TMP/words"
is "$(LC_ALL=C comm -23 "$TMP/names" "$TMP/words" | tr '\n' ' ')" "" \
	"each of them is in the source (else run build-aux/memory-order)"

if ! [ -f "$builddir/src/shim/order.lds" ]; then
	skip "a small process has little of the code in memory" "the linker takes no order"
elif grep -q '^#define SLUICE_DEBUG 1' "$builddir/config.h"; then
	skip "a small process has little of the code in memory" "a debug build"
else
	# What the process maps of the code, and what of that it has: "SIZE RSS" in KiB.
	with_sluice sh -c 'cat /proc/self/smaps' | awk '
		/^[0-9a-f]+-[0-9a-f]+ / { code = $2 == "r-xp" && /\/libsluice\.so/ }
		code && /^Size:/ { size = $2 }
		code && /^Rss:/ { rss = $2 }
		END { print size + 0, rss + 0 }' >"$TMP/code"
	read -r size rss <"$TMP/code"
	[ "$size" -gt 0 ] && [ $((rss * 3)) -lt $((size * 2)) ]
	ok $? "a small process has less than two thirds of the code in memory ($rss of $size KiB)"
fi

# valgrind knows an object by its section .text, and reads none that has two.
is "$(readelf -SW "$SLUICE_LIB" | grep -c ' \.text')" 1 "all code is in one section"
