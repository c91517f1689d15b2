#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# Other ways into a process than LD_PRELOAD alone.
. "${0%/*}/../lib/tap.sh"
plan 18

late=$builddir/t/helpers/late
libs=$builddir/t/helpers/.libs
passed='^[1-9][0-9]* checks, 0 failed, status 0$'

out=$("$late" "$SLUICE_LIB" 2>&1)
like "$out, status $?" "$passed" \
	"the library works when loaded late by dlopen, beside the C library's malloc"
out=$(with_sluice "$late" "$SLUICE_LIB" 2>&1)
like "$out" "malloc of the program comes from .*libsluice" \
	"the check for a late load notices a preloaded library"

out=$(with_sluice "$late" dlsym 2>&1)
like "$out, status $?" "$passed" "a program works whose first call of all comes from dlsym"
proved_loaded "the program was served by the library" late

: >"$STATS"
out=$(with_sluice env LD_AUDIT="$libs/auditor.so" \
	"$builddir/t/helpers/lifecycle" process 2>"$TMP/err")
like "$out, status $?" "$passed" "the library works when preloaded under an auditor"
like "$(cat "$TMP/err")" "^auditor: .* 1 of them Sluice" "the auditor saw the library"
proved_loaded "the program under the auditor was served by the library" lifecycle

: >"$STATS"
out=$(LD_PRELOAD="$libs/wrapper.so:$SLUICE_LIB" SLUICE_CONF="stats_file:$STATS" \
	"$builddir/t/helpers/lifecycle" process 2>"$TMP/err")
like "$out, status $?" "$passed" \
	"the library works behind a tracer that finds us by dlsym(RTLD_NEXT)"
like "$(cat "$TMP/err")" "^wrapper: [1-9][0-9]* mallocs, [1-9][0-9]* frees" "the tracer was used"
proved_loaded "the traced program was served by the library" lifecycle
for group in sizes aligned bad-alignment realloc calloc free; do
	LD_PRELOAD="$libs/wrapper.so:$SLUICE_LIB" "$builddir/t/helpers/family" $group main 2>&1
done >"$TMP/out"
is "$(grep -c '^wrapper: .* 0 nested$' "$TMP/out")" 6 \
	"no function of the family calls another by way of the tracer"
diag "$(cat "$TMP/out")"

# Another library replaces functions of the C library, and allocates when they are first called.
ask() {
	preloads=$1
	shift
	timeout -s KILL 60 env LD_PRELOAD="$preloads" SLUICE_CONF=psi:0,cgroup:0 "$@" 2>&1
}
asks=$libs/asks.so
for order in "$SLUICE_LIB:$asks" "$asks:$SLUICE_LIB"; do
	out=$(ask "$order" "$builddir/t/helpers/lifecycle" process)
	like "$out" '^[1-9][0-9]* checks, 0 failed$' \
		"the library works beside a library whose functions allocate when first called"
	like "$out" '^asks: [2-9] functions, 0 bad$' \
		"what that library's functions kept is unchanged"
done

# Another library's mmap, and what else malloc calls, may call malloc; and its clock may stand
# still.
: >"$STATS"
for what in "lifecycle process" "alone ends"; do
	# shellcheck disable=SC2086 # a program and its argument
	out=$(LD_PRELOAD="$libs/tracer.so:$SLUICE_LIB" \
		SLUICE_CONF="stats_file:$STATS,psi:0,cgroup:0" \
		timeout 100 "$builddir/t/helpers/"$what 2>&1)
	like "$out, status $?" "$passed" \
		"behind a library that traces system calls and stops the clock: $what"
done
proved_loaded "that program was served by the library" alone
