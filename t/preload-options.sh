#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# SLUICE_CONF: what is wrong in it gets one line that names the option, and the program runs.
. "${0%/*}/tap.sh"
plan 21

if [ -e /etc/sluice.conf ]; then
	diag "/etc/sluice.conf is read as well"
fi

# conf SETTINGS: runs a program with them; its output in $out, its stderr in $err.
conf() {
	out=$(LD_PRELOAD="$SLUICE_LIB" SLUICE_CONF="$1" sh -c 'echo it ran' 2>"$TMP/err")
	err=$(cat "$TMP/err")
}

# refused SETTINGS NAME LABEL: exactly one line, which names NAME.
refused() {
	conf "$1"
	is "$out, $(grep -c . "$TMP/err") line: $(grep -c "^sluice: SLUICE_CONF: .*$2" "$TMP/err")" \
		"it ran, 1 line: 1" "$3"
	diag "$err"
}

conf ""
is "$out$err" "it ran" "an empty SLUICE_CONF is no fault"
conf "backtrace:0,dirty_max:128M"
is "$out$err" "it ran" "good settings say nothing"
conf " backtrace:off , dirty_max:128MiB ,"
is "$out$err" "it ran" "spaces and a comma at the end are no fault"

refused "no_such_option:1" "no_such_option" "an unknown name is told"
refused "dirty_max" "dirty_max" "a name without a value is told"
refused "dirty_max:" "dirty_max" "an empty value is told"
refused ":5" ":5" "a value without a name is told"
refused "dirty_max:lots" "dirty_max" "a word for a number is told"
refused "dirty_max:12X" "dirty_max" "an unknown unit is told"
refused "dirty_max:-1" "dirty_max" "a negative number is told"
refused "dirty_max:99999999999999999999999" "dirty_max" "a number that does not fit is told"
refused "dirty_max:17179869184G" "dirty_max" "a number that its unit makes too large is told"
refused "region_step:1" "region_step" "a value below the least is told"
refused "pcp_high_max:3G" "pcp_high_max" "a value above the greatest is told"
refused "backtrace:maybe" "backtrace" "a word that is neither yes nor no is told"
refused "dirty_max:64M,backtrace:7,pcp_batch:64K" "backtrace" "one bad setting among good ones is told"
long=$(printf '%0400d' 0)
refused "stats_file:/$long" "" "a value that is too long is told"

conf "bad_one:1,dirty_max:x,region_step:0"
is "$out, $(grep -c '^sluice: SLUICE_CONF: ' "$TMP/err")" "it ran, 3" "three bad settings are three lines"

# What is good beside a bad setting counts; here, the statistics.
: >"$STATS"
LD_PRELOAD="$SLUICE_LIB" SLUICE_CONF="nonsense:1,stats_file:$STATS" ls / >"$TMP/out" 2>"$TMP/err"
proved_loaded "a good setting after a bad one is taken"

# A program that gained privileges reads the configuration of whoever started it: not SLUICE_CONF.
# It loads the library itself, as the loader would not preload it.
cp "$builddir/t/helpers/late" "$TMP/late" && chmod 4755 "$TMP/late"
cp "$SLUICE_LIB" "$TMP/libsluice.so"
if [ "$(id -u)" -ne 0 ]; then
	skip "the program loads the library and says what is wrong" "making it setuid needs root"
	skip "setuid, it does not look at SLUICE_CONF" "making it setuid needs root"
else
	out=$(SLUICE_CONF=no_such_option:1 setpriv --reuid=nobody --clear-groups \
		"$builddir/t/helpers/late" "$TMP/libsluice.so" 2>&1)
	like "$out" "no_such_option" "the program loads the library and says what is wrong"
	cp "$(command -v id)" "$TMP/id" && chmod 4755 "$TMP/id"
	if [ "$(setpriv --reuid=nobody --clear-groups "$TMP/id" -u)" != 0 ]; then
		skip "setuid, it does not look at SLUICE_CONF" "$TMP is mounted nosuid"
	else
		out=$(SLUICE_CONF=no_such_option:1 setpriv --reuid=nobody --clear-groups \
			"$TMP/late" "$TMP/libsluice.so" 2>&1)
		is "$?, $(printf '%s\n' "$out" | grep -c '^sluice')" "0, 0" "setuid, it does not look at SLUICE_CONF"
		diag "$out"
	fi
fi
