# shellcheck shell=sh
# SPDX-License-Identifier: BSD-2-Clause
#
# For the tests of misuse (sourced): each runs one misuse, and the program must end by SIGABRT,
# after one line on stderr that says what is wrong, at which address and, in a slab, of which size
# class.

# Each case aborts: no core files.
# shellcheck disable=SC3045
ulimit -c 0

with_libunwind() {
	grep -q '^#define HAVE_LIBUNWIND 1' "$builddir/config.h"
}

# dies CASE small|large|other|either LABEL: four tests; either: small or other, as threads run
dies() {
	# On a loaded machine the backtrace may reach its time limit, but not three times.
	for _ in 1 2 3; do
		out=$(with_sluice "$builddir/t/helpers/die" "$1" 2>"$TMP/err")
		status=$?
		if ! with_libunwind || grep -q '^sluice:   #' "$TMP/err"; then
			break
		fi
	done
	is "$status" 134 "$3: SIGABRT"
	case $out in
	*survived*) diag "the program survived" ;;
	esac
	address=$(printf '%s\n' "$out" | sed -n 's/^address //p')
	pattern="^sluice: fatal: [a-z].*: address $address"
	case $2 in
	small) pattern="$pattern, size class [0-9]+ \([0-9]+ bytes\)" ;;
	either) pattern="$pattern(, size class [0-9]+ \([0-9]+ bytes\))?" ;;
	large) pattern="$pattern(, block 0x[0-9a-f]+ \([0-9]+ bytes\))?" ;;
	esac
	like "$(head -n 1 "$TMP/err")" "$pattern\$" "$3: the first line says what and where"
	is "$(grep '^sluice' "$TMP/err" | grep -v -c '^sluice:   #[0-9]')" 1 \
		"$3: there is one line, and at most a backtrace"
	if with_libunwind; then
		like "$(cat "$TMP/err")" '^sluice:   #[0-9]+ 0x[0-9a-f]+ .*/die\(' \
			"$3: the backtrace shows where in the program"
	else
		skip "$3: the backtrace shows where in the program" "built without libunwind"
	fi
	diag "$(head -n 1 "$TMP/err")"
}
