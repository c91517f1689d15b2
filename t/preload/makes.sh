#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# How our thread is made does not break its host: under the loader's lock, beside other libraries'
# pthread_create, and with much static TLS.
. "${0%/*}/../lib/tap.sh"
plan 8

makes=$builddir/t/helpers/makes
makers=$builddir/t/helpers/.libs/makers.so

# run PRELOADED PROGRAM ARGS: what it prints, or that it had to be ended.
run() {
	preloads=$1
	shift
	timeout -s KILL 60 env LD_PRELOAD="$preloads" SLUICE_CONF="stats_file:$STATS" "$@" 2>&1
	status=$?
	[ $status -eq 0 ] || echo "status $status"
}

for i in 1 2 3; do
	MAKERS_OPENED=1 run "$SLUICE_LIB" "$makes" open "$makers"
done >"$TMP/out"
is "$(sort -u "$TMP/out")" opened \
	"a constructor under dlopen may wait for a C11 thread that allocates"
proved_loaded "the library served that program" makes

for i in 1 2 3 4 5; do
	run "$makers:$SLUICE_LIB" "$makes" threads
done >"$TMP/out"
is "$(sort -u "$TMP/out")" "made all" \
	"a pthread_create in front of ours may hold a lock over malloc and the call"
is "$(run "$SLUICE_LIB:$makers" "$makes" threads)" "made all" "so may one behind ours"

is "$(run "$SLUICE_LIB" "$makes" ours)" sluice "a program with a thread has one of ours"
for n in 1 2; do
	is "$(run "$SLUICE_LIB" "$builddir/t/helpers/makes-tls$n" ours)" sluice \
		"so has one with $((n == 1 ? 253600 : 1048576)) bytes of static TLS"
done
is "$(SLUICE_CONF=reserve:4m run "$SLUICE_LIB" "$builddir/t/helpers/makes-tls2" threads)" \
	"made all" "and makes threads"
