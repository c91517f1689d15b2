#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# The library exports what src/shim/libsluice.sym lists and nothing else, and needs few libraries.
# Its header is for all C and C++.
. "${0%/*}/../lib/tap.sh"
need nm binutils
need readelf binutils
plan 9

nm -D --defined-only "$SLUICE_LIB" | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' |
	LC_ALL=C sort -u >"$TMP/have"
sed 's/#.*//; s/[ \t]*$//; /^$/d' "$srcdir/src/shim/libsluice.sym" | LC_ALL=C sort >"$TMP/want"

[ "$(wc -l <"$TMP/want")" -gt 20 ]
ok $? "the list of symbols has more than 20 lines"
is "$(LC_ALL=C comm -23 "$TMP/have" "$TMP/want")" "" "nothing is exported that is not listed"
is "$(LC_ALL=C comm -13 "$TMP/have" "$TMP/want")" "" "everything listed is exported"
is "$(LC_ALL=C uniq -d "$TMP/want")" "" "no symbol is listed twice"

is "$(nm "$SLUICE_LIB" 2>/dev/null |
	grep -c -w delay_pass)$(grep -c -a SLUICE_DELAY "$SLUICE_LIB")" 00 \
	"the installed library has no delay points"

readelf -d "$SLUICE_LIB" >"$TMP/dyn"
like "$(cat "$TMP/dyn")" 'SONAME.*\[libsluice\.so\.[0-9]+\]' "the soname has a version"
needed=$(sed -n 's/.*(NEEDED).*\[\(.*\)\].*/\1/p' "$TMP/dyn" |
	grep -v -E '^(libc|ld-linux.*|libpthread|libdl)\.so\.[0-9]+$')
is "$needed" "" "no library is needed beyond the C library"

# language NAME COMPILER OPTION LANGUAGE: the header is valid in it.
language() {
	if ! command -v "$2" >/dev/null; then
		skip "the header is valid $1" "$2 is not installed"
		return
	fi
	printf '#include <sluice/sluice.h>\nint main(void) { return SLUICE_DRAIN_ALL == 0; }\n' |
		"$2" "$3" -pedantic-errors -Wall -Wextra -Werror -I"$srcdir/include" -x "$4" \
			-c -o "$TMP/header.o" - >"$TMP/said" 2>&1
	is "$?$(cat "$TMP/said")" 0 "the header is valid $1"
}
language C89 gcc -std=c89 c
language C++98 g++ -std=c++98 c++
