#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# SLUICE_CONF and the file: each fault gets one line, once for a tree of processes, and the program
# runs.
. "${0%/*}/../lib/tap.sh"
plan 50

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
	is \
		"$out, $(grep -c . "$TMP/err") line: $(grep -c \
			"^sluice: SLUICE_CONF: .*$2" "$TMP/err")" \
		"it ran, 1 line: 1" "$3"
	diag "$err"
}

conf ""
is "$out$err" "it ran" "an empty SLUICE_CONF is no fault"
conf "backtrace:0,dirty_max:128M"
is "$out$err" "it ran" "good settings print nothing"
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
refused "dirty_max:64M,backtrace:7,pcp_batch:64K" "backtrace" \
	"one bad setting among good ones is told"
long=$(printf '%0400d' 0)
refused "stats_file:/$long" "" "a value that is too long is told"

conf "bad_one:1,dirty_max:x,region_step:0"
is "$out, $(grep -c '^sluice: SLUICE_CONF: ' "$TMP/err")" "it ran, 3" \
	"three bad settings give three lines"

# Good settings beside a bad one take effect; here, the statistics.
: >"$STATS"
LD_PRELOAD="$SLUICE_LIB" SLUICE_CONF="nonsense:1,stats_file:$STATS" ls / >"$TMP/out" 2>"$TMP/err"
proved_loaded "a good setting after a bad one takes effect"

# tree LABEL SETTINGS WANT [SCRIPT]: the lines of a tree of processes, without their first word.
tree() {
	out=$(LD_PRELOAD="$SLUICE_LIB" SLUICE_CONF="$2" timeout 60 sh -c \
		"${4:-ls / && (ls /; ls /) && env ls /}" \
		2>"$TMP/err" >"$TMP/out")
	is "$? $(sed 's/^sluice: //' "$TMP/err")" "0 $3" "$1"
}
told="SLUICE_CONF: there is no option 'nonsense' (sluice-run --help lists them)"
tree "a process, those it starts, and what it becomes, say it once" nonsense:1 "$told"
tree "a fault is told once when the process becomes another program first" nonsense:1 "$told" \
	"exec env nice env ls /"
tree "one that has other settings says what is wrong with those" nonsense:1 "$told
SLUICE_CONF: there is no option 'rubbish' (sluice-run --help lists them)" \
	"ls / && SLUICE_CONF=rubbish:1 ls /"
tree "a fault that is found later is told once" background_cpus:x,low:90%,high:10% \
	"option low is above option high: high is used for both
option background_cpus: 'x' is not a list of processors below 8192, as 0-3+8"

# Which processors the background thread may run on; it gets a minute to start and to report them.
cpus_of() {
	LD_PRELOAD=$SLUICE_LIB SLUICE_CONF=background:always,background_cpus:$1 WANT=$2 \
		timeout 70 bash -c '
		for i in {1..600}; do
			for t in /proc/$$/task/*; do
				[ "$(cat $t/comm)" = sluice ] || continue
				has=$(sed -n "s/^Cpus_allowed_list:[[:space:]]*//p" $t/status)
				[ "$has" != "$WANT" ] || break 2
			done
			sleep 0.1
		done
		echo "$has"'
}
last=$(sed -n 's/^Cpus_allowed_list:[[:space:]]*//p' /proc/self/status | sed 's/.*[-,]//')
is "$(cpus_of "$last" "$last")" "$last" \
	"the background thread runs on the processor that it is given"
is "$(cpus_of "$last-$last+$last" "$last")" "$last" \
	"the background thread runs on the processors of a list"
for list in "$last+" 3-1 8192 0-99999999999; do
	err=$(LD_PRELOAD=$SLUICE_LIB SLUICE_CONF=background_cpus:$list ls / 2>&1 >/dev/null)
	like "$err" "background_cpus: '[^']*' is not a list" "$list is no list of processors"
done
tree "nothing is left in the environment where all is well" dirty_max:1M "" \
	"if env | grep SLUICE_TOLD; then false; fi"
none="option cgroup_root: '/nonexistent' is not a directory that can be reached"
tree "a cgroup_root that is not there" cgroup_root:/nonexistent "$none"
tree "a zones_topology that is no list" zones_topology:4+x \
	"option zones_topology: '4+x' is not a list of numbers, as 4+4"
tree "control without a thread that answers" control:1,background:never \
	"option control has no effect with background:never: the background thread answers"
tree "prof_final without prof" prof_final:1 \
	"option prof_final has no effect without the option prof"
tree "a pcp_high_min above pcp_high_max" pcp_high_min:8M \
	"option pcp_high_min is above option pcp_high_max: pcp_high_max is used for both"
# A minute for the thread to begin.
err=$(SLUICE_CONF=background:always,background_cpus:8191 timeout 70 sh -c \
	'LD_PRELOAD=$1 sleep 60 2>"$2" & while ! grep -q . "$2" 2>/dev/null; do sleep 0.1; done
	kill $!; cat "$2"' sh "$SLUICE_LIB" "$TMP/cpus")
is "$err" "sluice: option background_cpus: the process may use no processor of '8191'" \
	"a processor that is not there"
mkfifo "$TMP/fifo"
tree "a stats_file whose directory is not there" "stats_file:$TMP/no/stats" \
	"option stats_file: '$TMP/no/stats' cannot be written: No such file or directory"
tree "one that takes nothing" stats_file:/dev/full \
	"option stats_file: '/dev/full' cannot be written: No space left on device"
tree "a stats_file that is a directory is told" "stats_file:$TMP" \
	"option stats_file: '$TMP' cannot be written: Is a directory"
tree "a FIFO that nobody reads, which keeps no program waiting" "stats_file:$TMP/fifo" \
	"option stats_file: '$TMP/fifo' cannot be written: No such device or address"

# said LABEL SETTINGS WANT COMMAND...: the status of a program whose signals are as usual, and what
# it says on standard output.
said() {
	label=$1
	settings=$2
	want=$3
	shift 3
	out=$(timeout 60 env --default-signal LD_PRELOAD="$SLUICE_LIB" \
		SLUICE_CONF="$settings" "$@" 2>&9)
	is "$? $out" "0 $want" "$label"
}
mkfifo "$TMP/pipe"
exec 8<>"$TMP/pipe" 9>"$TMP/pipe" 8<&-
said "a line to a pipe without a reader kills no program" nonsense:1 "it ran" echo "it ran"
exec 8<>"$TMP/pipe" 9>"$TMP/pipe"
dd if=/dev/zero bs=4096 oflag=nonblock of="$TMP/pipe" 2>/dev/null
said "a line to a full pipe keeps no program waiting" nonsense:1 "it ran" echo "it ran"
exec 8<&- 9>"$TMP/err"
# shellcheck disable=SC2016 # expanded by that shell
said "a limit of file sizes kills no program whose standard error is a file" nonsense:1 "it ran" \
	sh -c 'ulimit -f 0 && exec env SLUICE_CONF=rubbish:1 echo "it ran"'
echo x >"$TMP/limited"
said "a limit of file sizes kills no program with a stats_file" "stats_file:$TMP/limited" "it ran" \
	sh -c 'ulimit -f 0 && exec echo "it ran"'
exec 9>&-

# file LABEL WANT: as tree, with $TMP/etc as /etc of those processes.
file() {
	if [ "$(id -u)" -ne 0 ] || ! unshare -m mount --bind "$TMP/etc" /etc 2>/dev/null; then
		skip "$1" "no mount namespace can be made"
		return
	fi
	# shellcheck disable=SC2016 # expanded by that shell
	unshare -m sh -c \
		'mount --bind "$1/etc" /etc &&
			LD_PRELOAD=$2 timeout 60 sh -c "ls / && (ls /; ls /) && env ls /"' \
		sh "$TMP" "$SLUICE_LIB" >"$TMP/out" 2>"$TMP/err"
	is "$? $(sed 's/^sluice: //' "$TMP/err")" "0 $2" "$1"
}
mkdir "$TMP/etc" && cp /etc/ld.so.cache "$TMP/etc/"
printf '# ours\nidle_ms:500 # is right\n\n  dirty_max:1 B,dirty_mx:1\n' >"$TMP/etc/sluice.conf"
file "faults in the file are told with their lines, once" "$(printf '%s\n' \
	"/etc/sluice.conf:4: option dirty_max: '1 B' is not valid, use 0 to 1T (bytes; K, M, G or T may follow); it stays 64M" \
	"/etc/sluice.conf:4: there is no option 'dirty_mx', did you mean dirty_max? (sluice-run --help lists them)")"
rm "$TMP/etc/sluice.conf" && mkfifo "$TMP/etc/sluice.conf"
file "a FIFO in its place keeps no program waiting" \
	"/etc/sluice.conf: it is not read: it is no regular file"
rm "$TMP/etc/sluice.conf" && ln -s sluice.conf "$TMP/etc/sluice.conf"
file "a link to itself is told" \
	"/etc/sluice.conf: it is not read: Too many levels of symbolic links"
rm "$TMP/etc/sluice.conf"
file "none at all is no fault" ""

# A program that gained privileges must not read SLUICE_CONF, which is of the user who started it.
# It loads the library itself because the loader would not preload it.
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
		is "$?, $(printf '%s\n' "$out" | grep -c '^sluice')" "0, 0" \
			"setuid, it does not look at SLUICE_CONF"
		diag "$out"
	fi
fi
