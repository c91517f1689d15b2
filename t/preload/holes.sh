#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# Scattered survivors: one object in twenty stays live, and the memory between them comes back: in
# the default configuration without a call of the program, and by malloc_trim.
. "${0%/*}/../lib/tap.sh"
plan 18

# scatter CASE [SECONDS [PERCENT]]: sets peak, rest, again (KiB of RSS) and changed (bytes), with
# conf as options.
conf=
scatter() {
	out=$(SLUICE_CONF=$conf with_sluice "$builddir/t/helpers/scatter" \
		"$1" 90000 "${2:-0}" "${3:--1}" 2>"$TMP/err")
	diag "$1 $conf: $out $(cat "$TMP/err")"
	peak=${out#peak } rest=${out#* rest } again=${out#* again } changed=${out#* changed }
	peak=${peak%% *} rest=${rest%% *} again=${again%% *}
}

# Numbers only, and the comparison holds.
holds() {
	[ "$@" ] 2>/dev/null
}

# How long it takes depends on the machine.
scatter wait 60 25
holds "$((rest * 4))" -le "$peak"
ok $? "at most a quarter of the peak is left after a while"
is "$changed" 0 "no live object was changed"
holds "$((again * 20))" -le "$((peak * 21))"
ok $? "allocating all objects again takes no more memory than before"
proved_loaded "the program was served by the library" scatter
like "$(tail -n 1 "$STATS")" ' holes_purged_bytes=[1-9]' "memory of holes was given back"
like "$(tail -n 1 "$STATS")" ' holes_reused=[1-9]' "holes were carved again"

# In the slabs of a thread that goes on calling, of classes that it does not use meanwhile.
conf=idle_ms:400,decay_ms:400
scatter busy 60 25
conf=
holds "$((rest * 4))" -le "$peak"
ok $? "at most a quarter is left of a thread that goes on with other objects at times"
is "$changed" 0 "no live object was changed by holes"

scatter trim
holds "$((rest * 4))" -le "$peak"
ok $? "malloc_trim in a program with one thread leaves at most a quarter"
is "$changed" 0 "no live object was changed by holes"

# What the survivors pin is counted by size class: for 512 bytes at most the seven other objects on
# each survivor's 4 KiB.
with_sluice "$builddir/t/helpers/scatter" stats 90000 >"$TMP/info" 2>"$TMP/stats.txt"
line=$(grep '^class 512: ' "$TMP/stats.txt")
diag "$line"
# Sets: size, slabs, bytes, in use, holes, pinned.
# shellcheck disable=SC2046
set -- $(printf '%s\n' "$line" | sed 's/[^0-9]\{1,\}/ /g')
holds "${4:-0}" -gt 700000 && holds "$4" -lt 850000
ok $? "malloc_stats has the live bytes of the class of 512 bytes, about 1,500 objects"
holds "${6:-0}" -gt 0 && holds "$6" -le "$((7 * $4))"
ok $? "malloc_stats has what the live objects of the class pin"
holds "$(($4 + $5 + $6))" -eq "$3"
ok $? "live, pinned and given back bytes make up the slabs of the class"
is "$(sed -n \
	's/^<class size="512" slabs="\(.*\)" slab_bytes="\(.*\)" object_bytes="\(.*\)" hole_bytes="\(.*\)" pinned_bytes="\(.*\)".*/512 \1 \2 \3 \4 \5/p' \
	"$TMP/info")" "$1 $2 $3 $4 $5 $6" "malloc_info says the same"

# What is left without holes.
conf=holes:0
scatter wait 5
holds "$((rest * 4))" -gt "$((peak * 3))"
ok $? "with holes:0 more than three quarters stay"
like "$(tail -n 1 "$STATS")" ' holes_purged_bytes=0 ' "with holes:0 no hole is made"
scatter trim
holds "$((rest * 4))" -gt "$((peak * 3))"
ok $? "with holes:0 malloc_trim leaves more than three quarters"
is "$changed" 0 "with holes:0 no live object was changed"
