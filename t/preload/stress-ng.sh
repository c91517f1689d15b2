#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# stress-ng --malloc with --verify: random sizes, realloc, threads, memory pressure.
. "${0%/*}/../lib/tap.sh"
need stress-ng
plan 5

cd "$TMP" || exit 1
# stress WHAT BYTES MOST: at most MOST blocks of up to BYTES at a time, each of which it looks at
# again; the machine need not have much memory
stress() {
	out=$(with_sluice stress-ng --malloc 2 --malloc-bytes "$2" --malloc-max "$3" \
		--malloc-pthreads 3 \
		--malloc-touch --verify --timeout 3 --metrics-brief 2>&1)
	is "$?, $(printf '%s\n' "$out" | grep -c 'fail:')" "0, 0" "stress-ng with $1 finds no fault"
	like "$out" 'malloc +[1-9][0-9]* ' "stress-ng did some operations with $1"
	diag "$(printf '%s\n' "$out" | grep -E 'fail|error|malloc ')"
}

stress "blocks up to 8 KiB" 8K 20000
stress "blocks up to 64 MiB" 64M 32
proved_loaded "stress-ng was served by the library"
