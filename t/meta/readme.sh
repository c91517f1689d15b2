#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# What README.md, CONTRIBUTING.md and doc/ tell a reader to type exists: tools, their options,
# workloads, targets of make, files. t/meta/commands.sh runs it, long commands in a shorter form.
. "${0%/*}/../lib/tap.sh"
plan 6
tmpdir

docs="$srcdir/README.md $srcdir/CONTRIBUTING.md $(echo "$srcdir"/doc/*.md)"

# Command lines: indented ones, and code that begins with one of our commands. A # begins a remark.
# shellcheck disable=SC2086
{
	cat $docs | sed -n -e :join -e '/\\$/{' -e N -e 's/\\\n *//' -e b\ join -e '}' \
		-e 's/^    \([a-z./].*\)/\1/p'
	cat $docs | grep -o -E '`(build/)?(tools/|sluice-)[a-z-]+( [^`]*)?`' | tr -d '`'
} | sed 's/  *#.*//' >"$TMP/commands"

# tool COMMAND: the file behind it.
tool() {
	case $1 in
	tools/sluice-*) echo "$builddir/$1" ;;
	tools/*) echo "$srcdir/$1" ;;
	build/*) echo "$builddir/${1#build/}" ;;
	*) echo "$builddir/tools/$1" ;;
	esac
}

absent=
unknown=
no_workload=
commands=0
while read -r command rest; do
	case $command in
	sluice-reserve | sluice-*-work) continue ;; # the name of a thread, and a program of a tool
	sluice-* | tools/* | build/tools/*) ;;
	*) continue ;;
	esac
	commands=$((commands + 1))
	file=$(tool "$command")
	[ ! -d "$file" ] || continue
	if [ ! -x "$file" ]; then
		absent="$absent $command"
		continue
	fi
	help=$("$file" --help 2>&1) || absent="$absent $command"
	for word in ${rest%% -- *}; do
		case $word in
		--) break ;;
		--?* | -?)
			printf '%s\n' "$help" | grep -q -E -e "(^|[ ,[|])$word([ ,=|]|\]|\$)" ||
				unknown="$unknown $command:$word"
			;;
		[A-Z]* | sort) break ;; # a program's own arguments
		esac
	done
	names=$(printf '%s\n' "$rest" | sed -n 's/.*--only \([^ ]*\).*/\1/p' | tr ',' ' ')
	[ -z "$names" ] || list=$("$file" --list 2>/dev/null)
	for name in $names; do
		printf '%s\n' "$list" | grep -q -E "(^|[[:space:],(])$name([[:space:],):]|\$)" ||
			no_workload="$no_workload $command:$name"
	done
done <"$TMP/commands"
ok $((commands < 15)) "the documents show our commands"
is "$absent" "" "each command in the documents exists, and has --help"
is "$unknown" "" "each command knows the options in the documents"
is "$no_workload" "" "each command knows the workloads in the documents"

missing=
for target in $(sed -n 's/.*\<make \([a-z][a-z-]*\)\>.*/\1/p' "$TMP/commands"); do
	grep -q -E \
		"^$target:|^\.PHONY:.* $target( |\$)|^[a-z -]*\<$target\>[a-z -]*:" \
		"$builddir/Makefile" ||
		missing="$missing $target"
done
is "$missing" "" "make has the targets in the documents"

missing=
for doc in $docs; do
	for link in $(grep -o -E '\]\([^)#]+' "$doc" | sed 's/^](//' | grep -v -E '^https?:'); do
		[ -e "${doc%/*}/$link" ] || missing="$missing ${doc##*/}:$link"
	done
done
is "$missing" "" "the files that the documents link to exist"
