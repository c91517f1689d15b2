#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# The man page and sluice-run --help have every option of options.def, with its default, and no
# other; and doc/ has every lock, model and probe point, and no other.
TAP_NO_LIBRARY=1
. "${0%/*}/../lib/tap.sh"

page=$builddir/man/sluice.conf.5
run=$builddir/tools/sluice-run
def=$srcdir/src/base/options.def
if [ ! -e "$page" ] || [ ! -e "$run" ]; then
	bail_out "$page and $run are not built: run make first"
fi
awk -v mode=list -f "$srcdir/build-aux/gen-options" "$def" >"$TMP/list"

# Not by gen-options: what a row looks like to grep.
rows=$(sed -n 's/^[[:space:]]*OPT([[:space:]]*\([a-z0-9_]*\)[[:space:]]*,.*/\1/p' "$def" | sort)
in_man=$(sed -n 's/^\.BI* \([a-z0-9_]*\):.*/\1/p' "$page" | sort)
in_help=$("$run" --help | sed -n 's/^  \([a-z0-9_]*\):[a-z|]*$/\1/p' | sort)

plan 14
ok $(($(printf '%s\n' "$rows" | wc -l) < 5)) "options.def has its rows"
is "$in_man" "$rows" "the man page has the options of options.def"
is "$in_help" "$rows" "sluice-run --help has the options of options.def"

bad_man=
bad_help=
while IFS='|' read -r name type default _; do
	text=${default:-none}
	sed -n "/^\\.BI* $name:/,/Default:/p" "$page" | sed 's/\\-/-/g' |
		grep -q -E "^Default: ${text}[.;]" || bad_man="$bad_man $name"
	"$run" --help | sed -n "/^  $name:/,/^  [a-z0-9_]*:/p" | tr -s ' \n' '  ' |
		grep -q -E "Default: ${text}[.;]" || bad_help="$bad_help $name"
done <"$TMP/list"
is "$bad_man" "" "the man page has the default of each option"
is "$bad_help" "" "sluice-run --help has the default of each option"

grep -q '@[A-Za-z]*@' "$page" "$run"
is $? 1 "the man page and --help have no placeholder left"

# Other texts must not name options that no longer exist. "name:value" is how they show the form.
known=$(printf '%s\nname\n' "$rows" | tr '\n' '|' | sed 's/|$//')
wrong=$(grep -h -o -E 'SLUICE_CONF="?[a-z0-9_]+:|sluice-run -o "?[a-z0-9_]+:' "$srcdir/README.md" \
	"$srcdir"/doc/*.md "$srcdir"/man/*.[1-9] "$srcdir"/man/*.in 2>/dev/null |
	sed 's/:$//; s/.*[="[:space:]]//' | grep -v -E -x "$known")
is "$wrong" "" "README, doc and man pages use options that exist"

# The table of the profiles, twice. Not by the parser: option, default, latency, memory.
rows=0
bad=
while read -r name latency memory; do
	default=$(grep "^$name|" "$TMP/list" | cut -d '|' -f 3)
	rows=$((rows + 1))
	grep -q -F -x "| \`$name\` | $default | $latency | $memory |" "$srcdir/doc/latency.md" ||
		bad="$bad $name"
	tr -s ' ' <"$page" | grep -q -F -x "$name $default $latency $memory" || bad="$bad $name"
done <<END
$(sed -n 's/^PROFILE(\([a-z_]*\), "\(.*\)", "\(.*\)")$/\1 \2 \3/p' "$srcdir/src/base/profiles.def")
END
while read -r name hardened; do
	default=$(grep "^$name|" "$TMP/list" | cut -d '|' -f 3)
	tr -s ' ' <"$page" | grep -q -F -x "$name $default $hardened" || bad="$bad $name"
done <<END
$(sed -n 's/^HARDENED(\([a-z_]*\), "\(.*\)")$/\1 \2/p' "$srcdir/src/base/profiles.def")
END
is "$((rows > 3))$bad" "1" "doc/latency.md and the man page have the values of the profiles"

missing=
funcs=$(grep -o -E '\bsluice_[a-z_]+\(' "$srcdir/include/sluice/sluice.h" | tr -d '(' | sort -u)
for f in $funcs; do
	grep -q "$f(" "$srcdir/man/sluice.3" || missing="$missing $f"
done
is "${funcs:+listed}$missing" listed "sluice(3) has every function of sluice.h"

# doc/locking.md: the first column of its first table, and the columns of its last one.
locking=$srcdir/doc/locking.md
is "$(sed -n 's/^LOCKRANK(\([A-Z]*\),.*/\1/p' "$srcdir/src/base/lockrank.def")" \
	"$(awk -F ' *[|] *' '/^## /{ exit } $2 ~ /^[A-Z]+$/ { print $2 }' "$locking")" \
	"doc/locking.md has the locks in the order of their ranks"
sed -n '/^## Lock-free steps/,$p' "$locking" >"$TMP/steps"
models=$(for m in "$srcdir"/t/model/*.pml; do basename "$m" .pml; done)
named=$({
	grep -v '^|' "$TMP/steps"
	awk -F '|' 'NF > 4 { print $5 }' "$TMP/steps"
} | tr -c 'a-z\n' '\n' | grep -x -F "$models" | sort -u)
is "$named" "$models" "doc/locking.md names every model"
missing=
files=$(awk -F '|' 'NF > 4 { print $3 }' "$TMP/steps" | grep -o '[a-z_]*\.[ch]')
for f in $files; do
	[ -n "$(find "$srcdir/src" -name "$f")" ] || missing="$missing $f"
done
is "${files:+listed}$missing" listed \
	"each lock-free step of doc/locking.md is in files that exist"

is "$(sed -n '/^## Probe points/,/^## What/p' "$srcdir/doc/hosts.md" | grep '^| `' |
	cut -d '|' -f 2 | grep -o '[a-z_]*' | sort)" \
	"$(grep -r -h -o 'PROBE[0-9]*([a-z_]*' "$srcdir/src" --include='*.c' | sed 's/.*(//' |
		sort -u)" "doc/hosts.md has every probe point"

if command -v man >/dev/null 2>&1 && command -v groff >/dev/null 2>&1; then
	is "$(for p in "$srcdir"/man/*.[1-9] "$page"; do
		LC_ALL=C.UTF-8 MANROFFSEQ='' man --warnings -E UTF-8 -l -Tutf8 -Z "$p" 2>&1 \
			>/dev/null
	done)" "" "groff has no complaint about the man pages"
else
	skip "groff has no complaint about the man pages" "man and groff are not installed"
fi
