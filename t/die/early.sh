#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# What a process without options notices at its first frees, of its first large blocks, in malloc(0)
# and of sizes told to free.
. "${0%/*}/../lib/tap.sh"
. "$srcdir/t/lib/hardened.sh"
plan 33

# ends CASE STATUS LABEL [OPTIONS]
ends() {
	run_it "$1" "${4-}"
	is "$status" "$2" "$3"
}

written='object written to after it was freed \(its byte'
stops written-first "" "$written 0\)" "a freed object's first byte"
stops written-later "" "$written 400\)" "a later byte of a freed object"
stops written-last "" "$written 400\)" "seen at the end of the program"
stops written-drained "" "$written 400\)" "seen by a drain"
ends read-freed-all 0 "a freed object reads as zero"
ends written-later 0 "early_checks:0 turns this off" early_checks:0
stops overflow-carved "" 'object written to beyond its end' "an overflow of the object carved last"

size='free with a wrong size \([0-9]+ instead of [0-9]+ bytes\)'
stops sized-c "" "$size" "free_sized of another class's size"
stops sized-cxx "" "$size" "delete of another class's size"
ends sized-right 0 "right sizes pass"
ends sized-realloc 0 "so do those of blocks that realloc has left where they were"
ends sized-scarce 0 "and of small ones that no region had room for"
ends sized-cxx 0 "check_classes:0 turns this off" check_classes:0

ends overflow-large 139 "a write behind one of the first large blocks faults"
ends underflow-large 139 "so does one before it"
ends large-read 139 "a freed one cannot be read"
ends large-write 139 "nor written"
ends large-again 0 "later ones are used again"
ends overflow-large 0 "early_guards:0 turns this off" early_guards:0

ends zero-read 139 "what malloc(0) gave cannot be read"
ends zero-write 139 "nor written"
ends zero-many 0 "such blocks are distinct, have no usable byte, and can be reallocated"
ends zero-write 0 "guard_zero:0 turns this off" guard_zero:0
stops double-zero "" '(object|block) freed twice.*' "a second free of what malloc(0) gave"
with_sluice cat /dev/null
proved_loaded "the library was loaded"
