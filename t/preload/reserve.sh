#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# The reserve and the profiles: a thread that grows takes no page fault, and reserved memory goes
# when memory is short.
. "${0%/*}/../lib/tap.sh"
plan 28
tmpdir

reserve=$builddir/t/helpers/reserve
passed='^[1-9][0-9]* checks, 0 failed, status 0$'

# run LABEL SETTINGS CASE...
run() {
	label=$1
	settings=$2
	shift 2
	passes "$label" "there are no huge pages here" "$settings" "$reserve" "$@"
}

# stat_of NAME: its value in the last process of with_sluice to end.
stat_of() {
	tail -n 1 "$STATS" | tr ' ' '\n' | sed -n "s/^$1=//p"
}

# The limits of the machine and its pressure are for later.
quiet=psi:0,cgroup:0
run "with profile:latency a thread that takes objects takes no page fault" profile:latency,$quiet \
	small
run "nor does one that takes blocks of up to 4 MiB" profile:latency,$quiet blocks
run "nor one that frees a third of what it takes" profile:latency,$quiet mixed
run "nor one that takes them by calloc, and they read as zero" profile:latency,$quiet zero
is "$(stat_of reserve_used_bytes | grep -c -E '^[0-9]{8,}$')" 1 \
	"the memory without page faults came from the reserve"
proved_loaded "the program was served by the library" reserve
run "a reserve of 64 MiB alone, without a profile, does so" \
	reserve:64M,background:always,holes:0,$quiet blocks 64
run "its whole blocks are huge pages, but no more than it may have" profile:latency,$quiet huge 32
run "with thp:never it has none" profile:latency,thp:never,$quiet nohuge 32
run "nor has a small one more than it may" profile:latency,reserve:6M,thp:never,$quiet nohuge 6
run "with the default profile there is none, and page faults" thp:system,$quiet faults
is "$(stat_of reserve_filled_bytes)" 0 "without a reserve nothing is prefaulted"
run "nor is there one in profile:memory" profile:memory,$quiet faults
run "with reserve:0 beside the profile there is none, before it" reserve:0,profile:latency,$quiet \
	faults
run "or behind it" profile:latency,reserve:0,$quiet faults
run "with background:auto it begins with the first thread, so not here" reserve:32M,$quiet faults
run "the child of a fork uses what it has, and fills it again" profile:latency,$quiet child

run "what follows growth is given back when there is none" profile:latency,reserve:auto,$quiet idle
is "$(cat "$TMP/err")" "nothing is left" "to the last"

# While little is left, and a while after, nothing is kept prefaulted.
run "above soft_limit nothing is kept ready" profile:latency,soft_limit:96M,$quiet back 90 110
run "nor above cache_limit" profile:latency,cache_limit:1M,$quiet faults

group=
for root in /sys/fs/cgroup/memory /sys/fs/cgroup; do
	[ -z "$group" ] && [ -w "$root" ] || continue
	mkdir "$root/sluice-reserve.$$" 2>/dev/null || continue
	for file in memory.limit_in_bytes memory.max; do
		[ ! -w "$root/sluice-reserve.$$/$file" ] ||
			group=$root/sluice-reserve.$$ limit=$group/$file
	done
	[ -n "$group" ] || rmdir "$root/sluice-reserve.$$"
done
if [ -n "$group" ]; then
	at_exit 'rmdir "$group"'
	echo $((128 << 20)) >"$limit"
	out=$(SLUICE_CONF=profile:latency,psi:0 with_sluice sh -c \
		'echo $$ >"$1" && shift && exec "$@"' sh "$group/cgroup.procs" "$reserve" back 110 \
		128 2>"$TMP/err")
	like "$out, status $?" "$passed" \
		"near the limit of a memory cgroup nothing is kept prefaulted"
	diag "$(cat "$TMP/err")"
else
	skip "near the limit of a memory cgroup nothing is kept prefaulted" \
		"no memory cgroup can be made here"
fi

# refused SETTINGS TEXT: the program runs, and one line has the text.
refused() {
	out=$(SLUICE_CONF=$1 LD_PRELOAD=$SLUICE_LIB sh -c 'echo it ran' 2>"$TMP/err")
	is "$out, $(wc -l <"$TMP/err") line, $(grep -c -F "$2" "$TMP/err")" "it ran, 1 line, 1" \
		"$1: one line says: $2"
	diag "$(cat "$TMP/err")"
}
refused profile:fast "option profile: 'fast' is not valid, use balanced|latency|memory|hardened"
refused reserve:some \
	"option reserve: 'some' is not valid, use 0 to 1T or auto (bytes; K, M, G or T may follow)"
refused reserve:2000G "option reserve: '2000G' is not valid"
refused low:50X \
	"option low: '50X' is not valid, use 0 to 1T or 0% to 1000% (bytes; K, M, G or T may follow)"
refused high:1001% "option high: '1001%' is not valid"
refused reserve:8M,low:90%,high:50% "option low is above option high"
