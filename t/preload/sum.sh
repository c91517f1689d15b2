#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# The layers of the statistics add up to what the kernel says of the library's memory.
. "${0%/*}/../lib/tap.sh"
plan 11

# adds KIND LABEL [SETTING]
adds() {
	passes "$2" "" "psi:0,cgroup:0${3:+,$3}" "$builddir/t/helpers/sum" "$1"
}

adds small "the layers add up: small blocks"
adds large "large blocks"
adds huge "huge blocks"
adds mixed "blocks of all sizes"
adds mixed "with a reserve" reserve:16M
adds mixed "with heap profiles, whose tables are long and mostly empty" prof:1
adds threads "threads that sleep, and some that ended"
adds holes "slabs that have holes"
adds fork "children of fork"
adds calloc "blocks that were never touched count as such"
proved_loaded "the program was served by the library" sum
