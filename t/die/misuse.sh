#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# TIMEOUT: 600
#
# Some 140 misuses (t/helpers/misuse.def, misuse.cc), each with the default options, with check:full
# and with profile:hardened. What happens must be at least as good as t/golden/misuse.txt says:
#
#	stopped     SIGABRT, after one line that names the address
#	fault       the misuse itself met a page without access
#	contained   no live block has changed, none lies in memory of another one
#	harm        a live block has changed, or malloc shows what was there before
#
# Anything else is a fault of the library: a crash inside it, a loop, a line that says too little.
#
# --write makes t/golden/misuse.txt, with a column for each other allocator that is installed, or
# named by MISUSE_PEERS="NAME=PATH ..." (other columns stay as they are); build-aux/misuse-table
# makes the table of doc/security.md of it. MISUSE_ONLY="after-.*|twice-16" runs only some.
. "${0%/*}/../lib/tap.sh"
. "$srcdir/t/lib/die.sh"

golden=t/golden/misuse.txt
debian=/usr/lib/x86_64-linux-gnu
: "${MISUSE_PEERS=jemalloc=$debian/libjemalloc.so.2 mimalloc=$debian/libmimalloc.so.2}"
common=backtrace:0
if grep -q '^OPT(guard_sample,' "$srcdir/src/base/options.def"; then
	common=$common,guard_sample:0 # what it notices is chance
fi

tmpdir
misuse=$builddir/t/helpers/misuse
"$misuse" --list | sed "s|^|$misuse |" >"$TMP/cases"
if command -v g++ >/dev/null 2>&1 && g++ -std=c++17 -O1 -fno-builtin -fsized-deallocation \
	-o "$TMP/misuse-cxx" "$srcdir/t/helpers/misuse.cc" 2>"$TMP/err"; then
	"$TMP/misuse-cxx" --list | sed "s|^|$TMP/misuse-cxx |" >>"$TMP/cases"
fi

# outcome LIBRARY OPTIONS PROGRAM CASE: prints it. LIBRARY is empty for the C library.
outcome() {
	said=$(env ${1:+LD_PRELOAD="$1"} SLUICE_CONF="$2" timeout 60 "$3" "$4" 2>"$TMP/err")
	case $?,$said in
	134,*)
		if [ "$1" != "$SLUICE_LIB" ] || { [ "$(grep -c '^sluice' "$TMP/err")" = 1 ] &&
			head -n 1 "$TMP/err" |
			grep -q -E '^sluice: fatal: [a-z].*: address (0x[0-9a-f]+|\(nil\))'; }; then
			echo stopped
		else
			echo unclear
		fi
		;;
	11,fault*) echo fault ;;
	10,harm*) echo harm ;;
	0,contained*) echo contained ;;
	124,*) echo hung ;;
	*) echo crash ;;
	esac
} 2>/dev/null

rank() {
	case $1 in
	stopped | fault) echo 3 ;;
	contained) echo 2 ;;
	harm) echo 1 ;;
	*) echo 0 ;;
	esac
}

options() {
	case $1 in
	default) echo "$common" ;;
	full) echo "$common,check:full" ;;
	hardened) echo "$common,profile:hardened" ;;
	esac
}

# was CASE COLUMN: what the golden file has there, or "-".
was() {
	awk -v name="$1" -v column="$2" '
	/^# case / { for (i = 2; i <= NF; i++) if ($i == column) at = i - 1 }
	$1 == name { print at && at <= NF ? $at : "-"; found = 1 }
	END { if (!found) print "-" }' "$srcdir/$golden"
}

peer() {
	for peer in $MISUSE_PEERS; do
		if [ "${peer%%=*}" = "$1" ]; then
			echo "${peer#*=}"
		fi
	done
}

# written PROGRAM CASE KIND: its line of the golden file.
written() {
	line="$2 $3"
	for column in default full hardened; do
		line="$line $(outcome "$SLUICE_LIB" "$(options $column)" "$1" "$2")"
	done
	line="$line $(outcome "" "" "$1" "$2")"
	for column in jemalloc mimalloc hardened_malloc scudo; do
		lib=$(peer $column)
		if [ -e "$lib" ]; then
			line="$line $(outcome "$lib" "" "$1" "$2")"
		else
			line="$line $(was "$2" $column)"
		fi
	done
	echo "$line"
}

write_golden() {
	cat <<-END
		# What each misuse leads to: t/die/misuse.sh --write. Its top says what the words
		# mean. glibc 2.36, Debian's jemalloc 5.3.0 and mimalloc 2.0.9, hardened_malloc at
		# 53326b3, scudo of LLVM 14.
		# case kind default full hardened glibc jemalloc mimalloc hardened_malloc scudo
	END
	while read -r program name kind _; do
		written "$program" "$name" "$kind"
	done <"$TMP/cases"
}

if [ "${1-}" = --write ]; then
	write_golden >"$TMP/golden"
	cp "$TMP/golden" "$srcdir/$golden"
	skip_all "no test: $golden was written"
fi

if [ -n "${MISUSE_ONLY-}" ]; then # a regular expression for names
	grep -E "^[^ ]+ ($MISUSE_ONLY) " "$TMP/cases" >"$TMP/some"
	mv "$TMP/some" "$TMP/cases"
fi
cases=$(wc -l <"$TMP/cases")
plan $((3 * cases + 2))
ok $((cases < 60)) "there are at least 60 programs"

while read -r program name kind text; do
	for column in default full hardened; do
		want=$(was "$name" $column)
		got=$(outcome "$SLUICE_LIB" "$(options $column)" "$program" "$name")
		if [ "$(rank "$got")" -ge "$(rank "$want")" ] && [ "$(rank "$got")" -gt 0 ]; then
			tap_result 0 "$name, $column: $text: $got"
		else
			tap_result 1 "$name, $column: $text: $got" "expected: $want
$(cat "$TMP/err")"
		fi
		echo "$name $kind $column $got" >>"$TMP/made"
	done
done <"$TMP/cases"

diag "noticed, by kind:"
awk '{
	key = sprintf("%-14s %-9s", $2, $3)
	all[key]++
	noticed[key] += $4 == "stopped" || $4 == "fault"
	harm[key] += $4 == "harm"
}
END { for (key in all) print "# " key, noticed[key] + 0, "of", all[key] ", harm " harm[key] + 0 }
' "$TMP/made" | sort
with_sluice cat /dev/null
proved_loaded "the library was loaded"
