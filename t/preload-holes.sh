#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# Scattered survivors: one object in twenty stays live, and the memory between them comes back, in the
# default configuration with nobody calling anything, and by malloc_trim.
. "${0%/*}/tap.sh"
plan 12

# scatter CASE [SECONDS]: sets peak, rest, again (KiB of RSS) and changed (bytes), with conf as options.
conf=
scatter() {
	out=$(SLUICE_CONF=$conf with_sluice "$builddir/t/helpers/scatter" "$1" 90000 "${2:-0}" 2>"$TMP/err")
	diag "$1 $conf: $out $(cat "$TMP/err")"
	peak=${out#peak } rest=${out#* rest } again=${out#* again } changed=${out#* changed }
	peak=${peak%% *} rest=${rest%% *} again=${again%% *}
}

# Numbers only, and the comparison holds.
holds() {
	[ "$@" ] 2>/dev/null
}

scatter wait 5
holds "$((rest * 4))" -le "$peak"
ok $? "5 s later at most a quarter of the peak is left"
is "$changed" 0 "no live object was changed"
holds "$((again * 20))" -le "$((peak * 21))"
ok $? "to have all objects again takes no more than it took before"
proved_loaded "the program was served by the library" scatter
like "$(tail -n 1 "$STATS")" ' holes_bytes=[1-9]' "holes were made"
like "$(tail -n 1 "$STATS")" ' holes_carved=[1-9]' "and carved again"

scatter trim
holds "$((rest * 4))" -le "$peak"
ok $? "malloc_trim in a program with one thread leaves at most a quarter"
is "$changed" 0 "no live object was changed by that"

# What it would be without.
conf=holes:0
scatter wait 5
holds "$((rest * 4))" -gt "$((peak * 3))"
ok $? "with holes:0 more than three quarters stay"
like "$(tail -n 1 "$STATS")" ' holes_bytes=0 ' "and no hole is made"
scatter trim
holds "$((rest * 4))" -gt "$((peak * 3))"
ok $? "so with malloc_trim"
is "$changed" 0 "and no live object was changed"
