#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# A write beyond the end of a region, or down from its first page, meets memory without access
# before metadata.
. "${0%/*}/../lib/tap.sh"
[ "$(getconf PAGESIZE)" -eq 4096 ] || skip_all "the kernel's pages are larger than the guards"
plan 5

die=$builddir/t/helpers/die

# guarded CASE OPTIONS LABEL
guarded() {
	out=$(SLUICE_CONF=$2 with_sluice "$die" "$1" 2>"$TMP/err")
	is "$?, $out" "0, guarded" "$3"
}

guarded guard-end zones:1 "a guard lies at the end of a region whose neighbour is in use"
guarded guard-end zones:1,va_reserve:0 "a guard lies there where regions are mapped one by one"
guarded guard-front zones:1 "a guard lies on the way down from the first object"
guarded guard-front zones:1,va_reserve:0 "a guard lies there where regions are mapped one by one"
with_sluice cat /dev/null
proved_loaded "the library was loaded"
