#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# sluice-top and sluice-stat: what they read of a running process, from its file and by its socket.
. "${0%/*}/../lib/tap.sh"
plan 47
tmpdir

top=$builddir/tools/sluice-top
stat=$builddir/tools/sluice-stat
pressure=$builddir/t/helpers/pressure
XDG_RUNTIME_DIR=$TMP/run
export XDG_RUNTIME_DIR
mkdir -m 700 "$XDG_RUNTIME_DIR"
. "${0%/*}/../lib/start.sh"

# try PROGRAM ARGS...: sets out (both streams) and status.
try() {
	out=$("$@" 2>&1)
	status=$?
}

# fails STATUS REGEX LABEL PROGRAM ARGS...: one line, which matches.
fails() {
	want=$1 regex=$2 label=$3
	shift 3
	try "$@"
	is "$status $(printf '%s\n' "$out" | wc -l | tr -d ' ') $(printf '%s\n' "$out" |
		grep -c -E "$regex")" "$want 1 1" "$label"
	[ "$status" = "$want" ] || diag "$out"
}

# answers PID: waits until it can be read.
answers() {
	for _ in $(seq 600); do
		try "$stat" -n 1 "$1"
		[ "$status" != 0 ] || break
		sleep 0.1
	done
}

# number NAME: of the JSON in $out.
number() {
	printf '%s\n' "$out" |
		/usr/bin/python3 -c 'import json, sys
print(json.load(sys.stdin)[sys.argv[1]])' "$1"
}

start holder export:1 "$pressure" stay 60 600
holder=$pid
until grep -q ready "$TMP/holder"; do sleep 0.05; done
answers "$holder"
file=$XDG_RUNTIME_DIR/sluice.$holder
proved_mapped "the library is loaded" "$holder"
is "$status" 0 "a process with export:1 can be read"
is "$(stat -c '%a %F' "$file")" "600 regular file" "no other user may read the file"
like "$out" "^ +rss +live +cached" "sluice-stat names its columns"

for _ in $(seq 600); do
	try "$stat" --json -n 1 "$holder"
	[ "$(number layer_dirty)" -le $((40 << 20)) ] || break
	sleep 0.1
done
[ "$(number layer_dirty)" -gt $((40 << 20)) ]
ok $? "the JSON says that there is free memory"
is "$(printf '%s\n' "$out" | /usr/bin/python3 -c '
import json, sys
d = json.load(sys.stdin)
print(sum(v for k, v in d.items() if k.startswith("layer_") and k != "layer_sum") == d["layer_sum"],
      d["program"], d["pid"] == int(sys.argv[1]), len(d["top_threads"]) > 0)' "$holder")" \
	"True pressure True True" "the layers add up, and the process and its threads are named"
rss=$(($(awk '$1 == "Rss:" && anon { sum += $2 } /^[0-9a-f]+-/ { anon = NF == 5 }
	END { print sum }' "/proc/$holder/smaps") * 1024))
sum=$(number layer_sum)
off=$((rss > sum ? rss - sum : sum - rss))
[ "$((off * 50))" -le "$rss" ] || [ "$off" -le $((512 << 10)) ]
ok $? "they agree with the kernel within 2 % or 512 KiB"
diag "layers $sum, smaps $rss"

try "$stat" --prometheus "$holder"
is "$(printf '%s\n' "$out" | grep -v -E '^# (HELP [a-z_]+ .|TYPE [a-z_]+ (gauge|counter)$)' |
	grep -v -E '^sluice_[a-z_]+[{]pid="[0-9]+",program="pressure"(,layer="[a-z]+")?[}] [0-9]+$'
)" \
	"" "Prometheus' format has comments and samples only"
umask 022
try "$stat" --prometheus -o "$TMP/prom" "$holder"
is "$status$(find "$TMP" -name 'prom*')" "0$TMP/prom" "it is written to a file as a whole"
like "$(ls -l "$TMP/prom")" '^-rw-r--r--' "others may read it, as the umask says"
echo mine >"$TMP/prom.new"
ln -s prom "$TMP/prom.link"
echo old >"$TMP/prom"
try "$stat" --prometheus -o "$TMP/prom.link" "$holder"
is "$status $(cat "$TMP/prom.new") $(readlink "$TMP/prom.link") $(grep -c old "$TMP/prom")" \
	"0 mine prom 0" "a link to it stays one, and so does a file beside it"
mkfifo "$TMP/prom.pipe"
timeout 60 cat "$TMP/prom.pipe" >"$TMP/prom.out" &
reader=$!
try "$stat" --prometheus -o "$TMP/prom.pipe" "$holder"
wait "$reader"
is "$status $(ls "$TMP/prom.pipe") $(grep -c '^# HELP' "$TMP/prom.out" | grep -v '^0')" \
	"0 $TMP/prom.pipe $(grep -c '^# HELP' "$TMP/prom")" \
	"what is no file is written, not replaced"
try "$stat" --plot -d 0.1 -n 3 "$holder"
is "$status $(printf '%s\n' "$out" | grep -c -E '^[0-9.]+( [0-9.]+){9}$')" "0 3" \
	"--plot has a row for each sample"
if command -v gnuplot >/dev/null 2>&1; then
	printf '%s\n' "set terminal svg" "set output '$TMP/plot.svg'" "$out" | gnuplot 2>"$TMP/err"
	is "$(cat "$TMP/err")$(grep -c '<title>' "$TMP/plot.svg" | grep -v '^0')" \
		"$(grep -c '<title>' "$TMP/plot.svg")" "gnuplot takes it"
else
	skip "gnuplot takes it" "gnuplot is not installed"
fi
dashboard=$srcdir/tools/top/sluice-dashboard.json
is "$(/usr/bin/python3 -c '
import json, re, sys
known = set(re.findall(r"^sluice_[a-z_]+", open(sys.argv[2]).read(), re.M))
for p in json.load(open(sys.argv[1]))["panels"]:
    for t in p["targets"]:
        for name in re.findall(r"sluice_[a-z_]+", t["expr"]):
            if name not in known:
                print(name)' "$dashboard" "$TMP/prom")" "" "the dashboard names metrics that exist"

# Another process on the machine may export, too.
try "$stat" -n 1
[ "$status" = 0 ] || [ "$(printf '%s\n' "$out" | grep -c "are several.* $holder\b")" = 1 ]
ok $? "without a process ID the only one is taken, or all are listed"
kill -STOP "$holder"
try "$stat" -n 1 "$holder"
is "$status" 0 "a stopped process can be read"
kill -CONT "$holder"

# A reader meets a file that is cut, and the next write mends it.
: >"$file"
answers "$holder"
is "$status" 0 "a file that somebody has truncated comes back"

if [ -x "$top" ]; then
	try "$top" --once "$holder"
	like "$out" "^dirty +[0-9.]+M +[0-9.]+% +#+" "sluice-top --once has a bar for free memory"
	is "$(printf '%s\n' "$out" | awk 'length($0) > 80')" "" "in 80 columns"
	fails 2 "no terminal" "without a terminal it says what to use" "$top" "$holder"
	if command -v script >/dev/null 2>&1; then
		TERM=dumb script -q -c "'$top' $holder" /dev/null </dev/null >"$TMP/dumb" \
			2>&1
		like "$(cat "$TMP/dumb")" "TERM is 'dumb'" "so it does on one that can do nothing"
		TERM=nosuch script -q -c "'$top' $holder" /dev/null </dev/null >"$TMP/nosuch" 2>&1
		like "$(tr -d '\r' <"$TMP/nosuch") $(grep -c '' "$TMP/nosuch")" \
			"^sluice-top: TERM is 'nosuch', which .* 1$" "and on one that nobody knows"
		TERM=xterm script -q -c "stty rows 24 cols 65535; '$top' $holder" /dev/null \
			</dev/null >"$TMP/wide" 2>&1
		like "$(tr -d '\r' <"$TMP/wide")" \
			"^sluice-top: a terminal of 65535 columns and 24 lines is too small or too" \
			"so it does on one that is too large for ncurses"
		# shellcheck disable=SC2016 # for the inner shell
		(sleep 1; printf h; sleep 0.3; printf x; printf s; sleep 0.3; printf q) |
			TERM=xterm timeout 60 script -q -e -c "stty rows 24 cols 80
				'$top' $holder" /dev/null >"$TMP/screen" 2>&1
		is "$?" 0 "the live view takes keys, and ends by q"
		like "$(tr '\033' '\n' <"$TMP/screen")" "mapcache|metadata" \
			"and it shows the layers"
	else
		skip "so it does on one that can do nothing" "no script"
		skip "and on one that nobody knows" "no script"
		skip "so it does on one that is too large for ncurses" "no script"
		skip "the live view takes keys, and ends by q" "no script"
		skip "and it shows the layers" "no script"
	fi
else
	for label in "sluice-top --once has a bar for free memory" "in 80 columns" \
		"without a terminal it says what to use" "so it does on one that can do nothing" \
		"and on one that nobody knows" "so it does on one that is too large for ncurses" \
		"the live view takes keys, and ends by q" "and it shows the layers"; do
		skip "$label" "built without ncurses"
	done
fi

if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null 2>&1; then
	cp "$stat" "$TMP/reader"
	chmod 755 "$TMP/reader"
	fails 1 "permission denied|does not listen|not loaded" "another user is refused" \
		setpriv --reuid 65534 --regid 65534 --clear-groups "$TMP/reader" -n 1 "$holder"
else
	skip "another user is refused" "not root, or no setpriv"
fi

# The process ends while it is read.
: >"$TMP/until"
"$stat" -d 0.1 "$holder" >"$TMP/until" 2>&1 &
reader=$!
until [ "$(wc -l <"$TMP/until")" -gt 3 ]; do sleep 0.05; done
kill -9 "$holder"
wait "$reader"
is "$? $(grep -c sluice-stat "$TMP/until")" "0 0" "a reader ends with the process"
is "$(test -e "$file" && echo left)" left "a process that was killed leaves its file"
touch -d '1 hour ago' "$file"
try "$stat" -n 1
is "$(printf '%s\n' "$out" | grep "are several.* $holder\b")" "" \
	"a file of a process that is gone is no process"
is "$(test -e "$file" && echo left)" "" "and it is removed"

# The process calls exec while it is read. follows NAME COMMAND...: reads it, COMMAND is called.
# shellcheck disable=SC2016 # for the inner shell
follows() {
	file=$TMP/$1
	shift
	rm -f "$file.go" "$TMP/execs.pid"
	mkfifo "$file.go"
	start execs export:1,background:always sh -c 'read -r _ <"$1"; shift; exec "$@"' sh \
		"$file.go" "$@"
	answers "$pid"
	: >"$file"
	"$stat" -d 0.1 --json "$pid" >"$file" 2>"$file.err" &
	reader=$!
	until [ "$(wc -l <"$file")" -gt 2 ]; do sleep 0.05; done
	echo >"$file.go"
}
follows other env -u LD_PRELOAD sleep 600
wait "$reader"
is "$? $(cat "$TMP/other.err")" \
	"1 sluice-stat: $pid: does not use Sluice, libsluice.so is not loaded" \
	"a reader says that another program without the library runs now"
kill "$pid"
# On a busy machine the new program may need longer than a reader waits.
for _ in 1 2 3 4 5; do
	follows same env SLUICE_CONF=export:1,background:always /usr/bin/python3 -c '
import time
time.sleep(600)'
	until grep -q '"program": *"python' "$TMP/same" || ! kill -0 "$reader" 2>/dev/null; do
		sleep 0.1
	done
	! grep -q '"program": *"python' "$TMP/same" || break
	kill "$pid"
done
kill "$pid"
wait "$reader"
status=$?
rm -f "$XDG_RUNTIME_DIR"/sluice.* # killed processes leave theirs
is "$status $(cat "$TMP/same.err")" "0 " "and reads on if it runs with the library, until it ends"

# The process has called exec, and a reader on a terminal waits whether it can be read again.
if [ -x "$top" ] && command -v script >/dev/null 2>&1; then
	mkfifo "$TMP/go" "$TMP/keys"
	# shellcheck disable=SC2016 # for the inner shell
	start waits export:1,background:always sh -c \
		'read -r _ <"$1"; exec env -u LD_PRELOAD sleep 600' sh "$TMP/go"
	answers "$pid"
	: >"$TMP/screen"
	TERM=xterm script -q -e -c "stty rows 24 cols 80; '$top' -d 3600 $pid" /dev/null \
		<"$TMP/keys" >"$TMP/screen" 2>&1 &
	reader=$!
	exec 3>"$TMP/keys"
	until grep -q metadata "$TMP/screen" || ! kill -0 "$reader" 2>/dev/null; do sleep 0.1; done
	echo >"$TMP/go"
	until [ "$(cat "/proc/$pid/comm")" = sleep ] || ! kill -0 "$pid"; do sleep 0.05; done
	printf ' xq' >&3
	wait "$reader"
	is "$? $(grep -c 'does not use Sluice' "$TMP/screen")" "0 0" "q ends a reader that waits"
	exec 3>&-
	kill "$pid"
else
	skip "q ends a reader that waits" "built without ncurses, or no script"
fi
rm -f "$XDG_RUNTIME_DIR"/sluice.*

start ends export:1,background:always sleep 2
file=$XDG_RUNTIME_DIR/sluice.$pid
until [ -e "$file" ] || ! kill -0 "$pid" 2>/dev/null; do sleep 0.02; done
ok $? "a process has its file as soon as its background thread runs"
wait
is "$(test -e "$file" && echo left)" "" "and removes it when it ends"

# The file gets its name by a call that is slow, and meanwhile the process ends.
if strace -f -o /dev/null -e trace=linkat -e inject=linkat:delay_exit=200000 true 2>/dev/null; then
	for _ in 1 2 3 4 5; do
		SLUICE_CONF=export:1,background:always,psi:0,cgroup:0 \
			strace -f -o "$TMP/trace" -e trace=linkat,unlinkat \
			-e inject=linkat:delay_exit=200000 -E "LD_PRELOAD=$SLUICE_LIB" sleep 0.1
	done
	is "$(ls "$XDG_RUNTIME_DIR")" "" "so it does while the file gets its name"
else
	skip "so it does while the file gets its name" "strace delays no call here"
fi

chmod 777 "$XDG_RUNTIME_DIR"
start unsafe export:1,background:always sleep 600
answers "$pid"
is "$status $(ls "$XDG_RUNTIME_DIR")" "0 " "a directory that others may write to is not used"
kill "$pid"
rm -f "/run/sluice.$pid" "/dev/shm/sluice.$pid" "/tmp/sluice.$pid"
chmod 700 "$XDG_RUNTIME_DIR"
start socket control:1,background:always sleep 600
answers "$pid"
is "$status" 0 "without a file the socket is asked"
if [ -x "$top" ]; then
	try "$top" --once "$pid"
	like "$out" " sleep +1 thread, 1 heap +every" "sluice-top counts one thread in the singular"
else
	skip "sluice-top counts one thread in the singular" "built without ncurses"
fi
start neither background:always sleep 600
fails 1 "does not listen" "a process with neither is named as such" "$stat" -n 1 "$pid"
fails 2 "'0' is not a delay, use 0.1 to 3600" "a bad delay is refused" "$stat" -d 0 1
fails 2 "'x' is not a number of samples" "a bad count is refused" "$stat" -n x 1
fails 2 "'--frob' is not an option" "an unknown option is refused" "$stat" --frob
fails 2 "'--sort' is not an option" "so is one of sluice-top" "$stat" --sort tid 1
fails 2 "'' is not a file" "so is an empty name" "$stat" --json -o "" 1
fails 2 "use one of --json, --prometheus, --plot" "two forms of output are refused" \
	"$stat" --json --plot
