#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# Runs the command lines that README.md, CONTRIBUTING.md and doc/ show, as they are written, from
# a copy of the tree, and checks the outcome. t/meta/commands.awk finds them. A command that
# t/meta/commands.txt does not know is run as it is and must end with status 0; the table says
# which are run in a shorter form or not at all, and why.
#
# SLUICE_TEST_COMMANDS=PATTERN runs long commands that match the shell pattern as they are written
# (* for all; hours). SLUICE_TEST_DOCS="FILE..." looks at these documents instead, with the paths
# from the top of the tree.
#
# Commands cannot install packages, and install Sluice only below the test's own directory.
#
# TIMEOUT: 900
. "${0%/*}/../lib/tap.sh"
tmpdir
needed() {
	command -v "$1" >/dev/null 2>&1 || skip_all "$1 is not installed"
}
for p in autoreconf libtoolize pkg-config python3; do needed "$p"; done

table=$TMP/table
sed -e :join -e '/\\$/{' -e N -e 's/ *\\\n[ \t]*/ /' -e b\ join -e '}' \
	"$srcdir/t/meta/commands.txt" >"$table"
wanted=${SLUICE_TEST_COMMANDS-}
LIBRARY=$TMP/prefix/lib/libsluice.so.0
mkdir "$TMP/bin" "$TMP/home" "$TMP/prefix" "$TMP/tmp"

# No command installs anything on the machine.
for p in apt-get sudo; do
	printf '#!/bin/sh\necho "%s: not in this test: $*" >&2\nexit 1\n' $p >"$TMP/bin/$p"
done
chmod +x "$TMP/bin"/*

# Quick to configure and build, and installed below TMP.
cat >"$TMP/config.site" <<END
prefix=$TMP/prefix
CFLAGS=-O0
test -n "\$CC\$host_alias" || cache_file=$TMP/config.cache
END

# The tree as it is, with what is not committed; a release has no git.
mkdir "$TMP/clone"
if ! (cd "$srcdir" && git ls-files -c -o --exclude-standard >"$TMP/files") 2>/dev/null; then
	make -s -C "$builddir" distdir distdir="$TMP/clone" >"$TMP/out" 2>&1 ||
		bail_out "no copy of the tree: $(tail -n 3 "$TMP/out")"
else
	(cd "$srcdir" && xargs -d '\n' ls -d <"$TMP/files" 2>/dev/null | tar cf - -T -) |
		tar xf - -C "$TMP/clone"
fi

# tree NAME: sets dir, and makes a copy of the clone the first time.
tree() {
	case $1 in
	clone) dir=$TMP/clone ;;
	build) dir=$TMP/clone/build ;;
	test) dir=$builddir ;;
	*)
		dir=$TMP/$1
		if [ ! -d "$dir" ]; then
			mkdir "$dir"
			tar cf - -C "$TMP/clone" --exclude=./build --exclude='./build-[!a]*' . |
				tar xf - -C "$dir"
		fi
		;;
	esac
}

# entry COMMAND: writes the lines of the table below COMMAND to $TMP/entry.
entry() {
	COMMAND=$1 awk '
		/^[^#\t]/ { found = $0 == ENVIRON["COMMAND"] }
		/^\t/ && found { print substr($0, 2) }
	' "$table" >"$TMP/entry"
}

# is_wanted COMMAND: succeeds if COMMAND is to be run as it is written, however long it takes.
is_wanted() {
	# shellcheck disable=SC2254
	case $1 in
	$wanted) return 0 ;;
	esac
	return 1
}

# field KEY: prints what the entry has for KEY.
field() {
	sed -n "s/^$1 //p" "$TMP/entry"
}

# A process that sluice-ctl can ask.
serve() {
	SLUICE_CONF=control:1,background:always,prof:true LD_PRELOAD=$SLUICE_LIB sleep 900 \
		>/dev/null 2>&1 &
	served=$!
	at_exit 'kill $served 2>/dev/null'
	tries=0
	until "$builddir/tools/sluice-ctl" stats "$served" >/dev/null 2>&1; do
		tries=$((tries + 1))
		[ $tries -lt 300 ] || return
		sleep 0.1
	done
}

# real COMMAND: prints COMMAND with things that exist for those the documents leave open.
real() {
	printf '%s\n' "$1" | sed \
		-e "s|/usr/local\>|$TMP/prefix|g; s|/path/libsluice|$TMP/prefix/lib/libsluice|g" \
		-e "s|/tmp/stats|$TMP/tmp/stats|g; s|LD_PRELOAD=\.\.\.|LD_PRELOAD=$SLUICE_LIB|g" \
		-e 's|PROGRAM ARGS\.\.\.|PROGRAM|g; s|PROGRAM ARGS|PROGRAM|g' \
		-e "s|\<PROGRAM\>|sort $TMP/clone/README.md|g; s|\<PID\>|${served-}|g" \
		-e "s|\<PATH\>|$LIBRARY|g; s|\<SIZE\>|20000|g; s|=LIST\>|=address|g"
}

# run_in DIR COMMAND: runs COMMAND as a user would, with its output in $TMP/out; sets status.
run_in() {
	(
		cd "$1" || exit
		exec env -i PATH="$TMP/bin:$TMP/prefix/bin:$PATH:/usr/sbin:/sbin" HOME="$TMP/home" \
			TMPDIR="$TMP/tmp" LC_ALL=C.UTF-8 CONFIG_SITE="$TMP/config.site" \
			MAKEFLAGS="-j$(nproc)" PKG_CONFIG_PATH="$TMP/prefix/lib/pkgconfig" \
			MANPATH="$TMP/prefix/share/man" PREFIX="$TMP/prefix" LIBRARY="$LIBRARY" \
			SLUICE_TEST_TIMEOUT_MULT="${SLUICE_TEST_TIMEOUT_MULT:-1}" ${3:+"$3"} \
			timeout "$limit" sh -c "$2"
	) >"$TMP/out" 2>&1 </dev/null
	status=$?
}

wrong() {
	problem="$problem $1;"
}

# outcome COMMAND: what the entry promises of the command that ran; sets problem.
outcome() {
	want=$(field status)
	[ "$status" = "${want:-0}" ] || wrong "status $status"
	regex=$(field prints)
	[ -z "$regex" ] || grep -q -E -e "$regex" "$TMP/out" || wrong "prints no line like $regex"
	case $1 in
	*PROGRAMS*) ;;
	*PROGRAM*)
		grep -q 'program=sort .*slabs_made=[1-9]' "$TMP/tmp/stats" 2>/dev/null ||
			wrong "Sluice did not serve the program"
		;;
	esac
	mv "$TMP/out" "$TMP/printed"
	same=$(field same)
	if [ -n "$same" ]; then
		run_in "$dir" "$same"
		cmp -s "$TMP/out" "$TMP/printed" || wrong "does not print what $same prints"
	fi
	after=$(field after)
	if [ -n "$after" ]; then
		run_in "$dir" "$after"
		[ "$status" = 0 ] || wrong "after it this fails: $after"
	fi
}

# try PLACE COMMAND: runs COMMAND in dir, in the form that the entry asks for, and says whether its
# outcome is what it should be.
try() {
	shown=$2
	limit=$((100 * ${SLUICE_TEST_TIMEOUT_MULT:-1}))
	if is_wanted "$2"; then
		limit=36000
	elif [ -n "$(field long)" ]; then
		shown=$(field instead)
	fi
	for p in $(field needs); do
		if ! command -v "$p" >/dev/null 2>&1; then
			skip "$1: $2" "$p is not installed"
			return
		fi
	done
	case " $shown " in
	*' PID '*) [ -n "${served-}" ] || serve ;;
	esac
	problem=
	rm -f "$TMP/tmp/stats"
	began=$(date +%s)
	case $2 in
	*PROGRAMS*) run_in "$dir" "$(real "$shown")" ;;
	*PROGRAM*) run_in "$dir" "$(real "$shown")" "SLUICE_CONF=stats_file:$TMP/tmp/stats" ;;
	*) run_in "$dir" "$(real "$shown")" ;;
	esac
	outcome "$shown"
	took=$(($(date +%s) - began))
	[ "$shown" = "$2" ] || shown="$2, as $shown"
	if [ -z "$problem" ]; then
		tap_result 0 "$1: $shown"
	else
		tap_result 1 "$1: $shown" "in $dir:$problem
$(grep -E 'Error|\*\*\*|error:' "$TMP/printed" | head -n 5)
$(tail -n 20 "$TMP/printed")"
	fi
	[ $took -lt 10 ] || diag "took $took s"
}

# All commands, and no program of t/, which make check runs.
programs=$(cd "$TMP/clone" && find . -path ./t -prune -o -type f -perm -100 -print |
	sed 's|^\./||' | tr '\n' ' ')
for doc in ${SLUICE_TEST_DOCS:-README.md CONTRIBUTING.md $(cd "$srcdir" && echo doc/*.md)}; do
	# Blocks first, because they build and install what the text names.
	awk -v programs=" $programs" -f "$srcdir/t/meta/commands.awk" "$srcdir/$doc" |
		sed "s|^|$doc	|" | awk -F '\t' '
			$3 == 0 { within[++n] = $0; next }
			{ print }
			END { for (i = 1; i <= n; i++) print within[i] }'
done >"$TMP/commands"

# run_all COMMANDS: runs the commands that the file lists, each once.
run_all() {
	block=
	while IFS='	' read -r doc at in_block command <&3; do
		# Within a block, cd goes on.
		if [ "$doc $in_block" != "$block" ] || [ "$in_block" = 0 ]; then
			where=
			block="$doc $in_block"
		fi
		case $command in
		*[\&\;]*) ;;
		'cd '*)
			where=${command#cd }
			continue
			;;
		esac
		! grep -q -x -F -e "$command" "$TMP/done" || continue
		printf '%s\n' "$command" >>"$TMP/done"
		entry "$command"
		[ -z "$(field text)$(field never)" ] || continue
		if [ -n "$(field long)" ] && [ -z "$(field instead)" ]; then
			is_wanted "$command" || continue
		fi
		name=$(field tree)
		tree "${name:-clone}"
		dir=$dir${where:+/$where}
		try "$doc:$at" "$command"
	done 3<"$1"
}

: >"$TMP/done"
run_all "$TMP/commands"
ok $((tap_run < 40 && ${SLUICE_TEST_DOCS:+0}1)) "the documents show commands"

stale=$(grep '^[^#	]' "$table" | grep -v -x -F -f "$TMP/done")
[ -z "${SLUICE_TEST_DOCS-}" ] || stale=
is "$stale" "" "each command of t/meta/commands.txt stands in a document"
keys='text|never|long|instead|tree|needs|prints|same|after|status'
bare=$(awk -v key="^\t($keys) ." '/^[^#\t]/ { name = $0 }
	/^\t/ && $0 !~ key { print name }
	/^$/ { if (name != "" && before !~ /^\t/) print name; name = "" }
	{ before = $0 }' "$table")
is "$bare" "" "each entry of t/meta/commands.txt can be read"

# Each command of a document with faults fails.
cat >"$TMP/planted.md" <<'END'
No option: `sluice-run --no-such-option sort`. No workload: `sluice-bench --only no-such`. No
program: `tools/no-such --help`. Other output: `echo one`, `echo two`; other effect: `echo three`.

    make no-such-target
    cd build
    test -f configure.ac

```
no language
```
END
printf '%s\n	%s\n\n' 'echo one' 'prints two' 'echo two' 'same echo one' \
	'echo three' 'after test -f three' >"$TMP/table"
awk -v programs= -f "$srcdir/t/meta/commands.awk" "$TMP/planted.md" | sed "s|^|planted	|" \
	>"$TMP/planted"
found=$(run_all "$TMP/planted")
is "$(printf '%s\n' "$found" | grep -c '^not ok'), $(printf '%s\n' "$found" | grep -c '^ok')" \
	"9, 0" "a wrong option, workload, program, output or effect of a command is found"
[ "$(printf '%s\n' "$found" | grep -c '^not ok')" = 9 ] || diag "$found"
echo "1..$tap_run"
