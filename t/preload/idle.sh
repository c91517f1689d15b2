#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# Unused memory comes back in the default configuration without a call of the program.
. "${0%/*}/../lib/tap.sh"
plan 8

idle=$builddir/t/helpers/idle

# rest LABEL LIMIT CASE THREADS MIB: at most LIMIT KiB are left, after a minute at the latest: how
# long it takes depends on the machine.
rest() {
	label=$1 limit=$2
	shift 2
	out=$(with_sluice "$idle" "$@" 60 "$limit" 2>"$TMP/err")
	diag "$* : $out $(cat "$TMP/err")"
	left=${out##* }
	[ "${left:-none}" -le "$limit" ] 2>/dev/null
	ok $? "$label"
}

rest "16 threads free their own objects and sleep: 1.5 MiB are left of 128" 1536 owner 16 8
rest "the first thread frees the objects of 16 that sleep: 1.5 MiB are left" 1536 main 16 8
rest "both free half of them: 1.5 MiB are left" 1536 half 16 8
rest "16 threads free blocks of 4 to 64 KiB and sleep: 1.5 MiB are left" 1536 blocks 16 8
rest "200 threads of 1 MiB each: 6 MiB are left" 6144 owner 200 1
proved_loaded "the program was served by the library" idle

# Without the background thread memory stays: the tests above would notice that.
out=$(SLUICE_CONF=background:never with_sluice "$idle" owner 16 8)
diag "background:never: $out"
[ "${out##* }" -gt 30000 ]
ok $? "with background:never the memory stays"

# A program with one thread stays single-threaded.
threads=$(with_sluice sh -c 'sleep 0.1; ls /proc/self/task | wc -l')
is "$threads" 1 "a program with one thread gets no other"
