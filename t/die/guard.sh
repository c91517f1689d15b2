#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# A write beyond the end of a region, or down from its first page, meets memory without access
# before metadata. No offset leads from a block to metadata in each process. Options are read-only.
. "${0%/*}/../lib/tap.sh"
[ "$(getconf PAGESIZE)" -eq 4096 ] || skip_all "the kernel's pages are larger than the guards"
plan 11

die=$builddir/t/helpers/die

# guarded CASE OPTIONS LABEL
guarded() {
	out=$(SLUICE_CONF=$2 with_sluice "$die" "$1" 2>"$TMP/err")
	is "$?, $out" "0, guarded" "$3"
}

# The first large blocks lie in other mappings, which may seem to be a region's neighbour.
blocks=early_guards:0
guarded guard-end zones:1,$blocks "a guard lies at the end of a region whose neighbour is in use"
guarded guard-end "zones:1,va_reserve:0,$blocks" \
	"a guard lies there where regions are mapped one by one"
guarded guard-front zones:1 "a guard lies on the way down from the first object"
guarded guard-front zones:1,va_reserve:0 "a guard lies there where regions are mapped one by one"

# distances OPTIONS: the distances of 6 processes; each has 256 values or none
distances() {
	for _ in 1 2 3 4 5 6; do
		SLUICE_CONF=zones:1$1 with_sluice "$die" distances 2>&1 || echo "status $?"
	done >"$TMP/distances"
}

# differing COLUMN: how many values it has
differing() {
	cut -d ' ' -f "$1" "$TMP/distances" | sort -u | wc -l
}

distances ""
# shellcheck disable=SC3045
if (ulimit -v | grep -q unlimited); then
	ok $(($(differing 1) < 2)) "how far metadata lie in front of a small block differs"
	ok $(($(differing 2) < 2)) "so it does in front of one of 32 MiB"
	ok $(($(differing 3) < 2)) "and behind its end, where the next region begins"
	diag "$(cat "$TMP/distances")"
else
	skip "how far metadata lie in front of a small block differs" "address space is limited"
	skip "so it does in front of one of 32 MiB" "address space is limited"
	skip "and behind its end, where the next region begins" "address space is limited"
fi
distances ,random_base:0
is "$(sort -u "$TMP/distances" | wc -l), $(head -n 1 "$TMP/distances" | cut -d ' ' -f 3)" \
	"1, 0x1000" "random_base:0 turns this off"

# sealed COMMAND...: how many of the library's mappings are read-only between writable ones
sealed() {
	with_sluice "$@" | awk -v lib="$(readlink -f "$SLUICE_LIB")" '
		$NF == lib && $2 == "rw-p" { writable = 1 }
		$NF == lib && $2 == "r--p" && writable { n++ }
		END { print n + 0 }'
}
is "$(sealed cat /proc/self/maps)" 1 "options and the key of links are read-only after the start"
# shellcheck disable=SC2016 # the shell that is run expands it
is "$(sealed sh -c '(while read -r line; do echo "$line"; done </proc/self/maps; :)')" 1 \
	"and in a child of fork"
with_sluice cat /dev/null
proved_loaded "the library was loaded"
