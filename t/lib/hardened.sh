# shellcheck shell=sh
# SPDX-License-Identifier: BSD-2-Clause
#
# For the tests that run t/helpers/hardened (sourced after tap.sh): each case makes one error.

# Some cases abort: no core files.
# shellcheck disable=SC3045
ulimit -c 0

# run_it CASE [OPTIONS]: sets out and status.
run_it() {
	out=$(SLUICE_CONF="backtrace:0${2:+,$2}" with_sluice \
		"$builddir/t/helpers/hardened" "$1" 2>"$TMP/err")
	status=$?
}

# stops CASE OPTIONS TEXT LABEL: two tests
stops() {
	run_it "$1" "$2"
	address=$(printf '%s\n' "$out" | sed -n 's/^address //p' | tail -n 1)
	is "$status, $(grep -c '^sluice' "$TMP/err")" "134, 1" "$4: SIGABRT and one line"
	like "$(grep '^sluice' "$TMP/err")" "^sluice: fatal: $3: address $address(, |\$)" \
		"$4: the line says so"
}
