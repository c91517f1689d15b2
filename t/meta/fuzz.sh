#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# TIMEOUT: 600
#
# The fuzzers of t/fuzz build, and find nothing in some seconds.
TAP_NO_LIBRARY=1
. "${0%/*}/../lib/tap.sh"
tmpdir
mkdir "$TMP/build" || bail_out "no build directory"
cp "$builddir/config.h" "$TMP/build" || bail_out "no config.h"
echo 'int LLVMFuzzerTestOneInput(void) { return 0; }' >"$TMP/try.c"
"${FUZZ_CC:-clang}" -fsanitize=fuzzer -o "$TMP/try" "$TMP/try.c" 2>/dev/null ||
	skip_all "no clang with libFuzzer (Debian packages clang, libclang-rt-dev)"
plan 4

(cd "$TMP/build" && "$srcdir/build-aux/fuzz" "$srcdir") >"$TMP/err" 2>&1
ok $? "the fuzzers build ($(tail -n 1 "$TMP/err"))"

# finds_nothing NAME OPTION SEED...
finds_nothing() {
	name=$1
	option=$2
	shift 2
	mkdir "$TMP/$name"
	for seed; do
		printf %b "$seed" >"$TMP/$name/$(printf %s "$seed" | tr -c 'a-z0-9' _)"
	done
	(cd "$TMP" && "$TMP/build/t/fuzz/$name" -max_total_time=5 -timeout=100 "$option" "$name") \
		>"$TMP/log" 2>&1
	ok $? "fuzz/$name finds nothing in 5 seconds"
	diag "$(grep -E 'Done|ERROR|fuzz/' "$TMP/log" | tail -n 5)"
}

finds_nothing calls -max_len=2048 '\0\001\0\010\0\0\001\01\010\060' '\01\01\01\010\010\360\01\01'
finds_nothing options -close_fd_mask=2 'profile:latency,zones:2' 'dirty_max:3M,reserve:auto,holes:0'
finds_nothing control -max_len=128 'drain 7' stats 'drain 99999999999'
