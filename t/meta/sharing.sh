#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# The budget of sharing: what the rows of `sluice-bench scale`, in a small form, do to locks and to
# lines that several threads write. Counted by the core that is built for tests (src/base/share.h),
# it has to be what t/golden/sharing.txt says. `make golden` rewrites the file: check `git diff
# t/golden`, and doc/scaling.md, which draws conclusions from it, before you commit it.
#
# The threads run one after the other, so that the counts are the same each time, on any machine
# with 4 KiB pages and with any compiler. A count may be off by 2 %, or by 0.5 for 1,000 operations,
# which is a few events that happen once in a run and depend on the system (membarrier, the address
# of the first mapping). Lower is as wrong as higher, because then the file says less than is true.
TAP_NO_LIBRARY=1
. "${0%/*}/../lib/tap.sh"

sharing=$builddir/t/helpers/sharing
golden=t/golden/sharing.txt
[ -x "$sharing" ] || bail_out "$sharing is not built: run make tests"
tmpdir
[ "$(getconf PAGESIZE)" = 4096 ] || skip_all "the counts are of a system with pages of 4 KiB"

# counted [OPTIONS]: the counts under these options of the library.
counted() {
	SLUICE_CONF=thp:system,psi:0,cgroup:0,background:never,decay_ms:3600000${1:+,$1} \
		"$sharing" 2>"$TMP/err"
}

# differs WANT HAVE: the lines that differ.
differs() {
	awk '
	function apart(a, b) {
		d = a - b
		if (d < 0)
			d = -d
		m = a > b ? a : b
		return d > 0.5 && d > 0.02 * m
	}
	# Where the kernel puts the prepared chunk of a fork decides how many calls align it.
	$1 == "fork" && $2 == "stats" { next }
	FNR == NR { want[$1 " " $2] = $3; next }
	{ have[$1 " " $2] = $3 }
	END {
		for (k in want)
			if (apart(want[k], have[k] + 0))
				print k ": " have[k] + 0 ", not " want[k]
		for (k in have) if (!(k in want) && apart(have[k], 0)) print k ": " have[k] ", new"
	}' "$1" "$2" | sort
}

counted >"$TMP/have"
status=$?

if [ "${1-}" = --write ]; then
	[ $status -eq 0 ] || bail_out "$(cat "$TMP/err")"
	{
		echo "# SPDX-License-Identifier: BSD-2-Clause"
		echo \
			"# Written by \`make golden\`; compared by t/meta/sharing.sh; explained in doc/scaling.md."
		echo "# row    lock or line     for 1,000 operations"
		cat "$TMP/have"
	} >"$srcdir/$golden"
	diag "wrote $golden"
	skip_all "no test: the counts were written"
fi

plan 5

rows="start churn big pages handoff growth fork"
counted=$(awk '$2 == "operations" { printf "%s%s", sep, $1; sep = " " }' "$TMP/have")
is "$status $counted $(cat "$TMP/err")" \
	"0 $rows " "every row was counted"
grep -v '^#' "$srcdir/$golden" >"$TMP/want"
is "$(differs "$TMP/want" "$TMP/have")" "" "the counts are those of $golden (else: make golden)"

# With smaller batches the pcps go to the buddy core more often.
counted pcp_batch:16K >"$TMP/small"
like "$(differs "$TMP/want" "$TMP/small")" '^start lock_BUDDY: ' \
	"a pcp with smaller batches is noticed"

unused=
for name in $(sed -n 's/^SHARE(\([a-z_]*\),.*/\1/p' "$srcdir/src/base/share.def"); do
	grep -q "SHARE_COUNT($name)" "$srcdir"/src/*.h "$srcdir"/src/*/*.[ch] ||
		unused="$unused $name"
done
is "$unused" "" "each word of share.def is counted somewhere"

# The size of the installed library's own counting: none.
case $(grep '^#define SLUICE_DEBUG 1' "$builddir/config.h") in
'') lib=$(readlink -f "$builddir/.libs/libsluice.so" 2>/dev/null) ;;
*) lib= ;;
esac
if [ -n "$lib" ] && command -v objdump >/dev/null 2>&1; then
	is "$(objdump -d "$lib" | grep -c 'call.*<share_add>')" 0 \
		"the installed library counts nothing"
else
	skip "the installed library counts nothing" "a debug build, or no objdump"
fi
