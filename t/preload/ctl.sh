#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# sluice-ctl: a running process gives memory back when it is asked, and answers no other user.
. "${0%/*}/../lib/tap.sh"
plan 60
tmpdir

ctl=$builddir/tools/sluice-ctl
pressure=$builddir/t/helpers/pressure
. "${0%/*}/../lib/start.sh"

# try ARGS...: sets out (both streams) and status.
try() {
	out=$("$ctl" "$@" 2>&1)
	status=$?
}

# listens PID: asks for the process's statistics until it answers, as it does after its first tick.
listens() {
	for _ in $(seq 600); do
		try stats "$1"
		[ "$status" != 0 ] || break
		sleep 0.1
	done
}

# fails STATUS REGEX LABEL ARGS...: one line, which matches.
fails() {
	want=$1 regex=$2 label=$3
	shift 3
	try "$@"
	is "$status $(printf '%s\n' "$out" | wc -l | tr -d ' ') $(printf '%s\n' "$out" |
		grep -c -E "$regex")" \
		"$want 1 1" "$label"
	[ "$status" = "$want" ] || diag "$out"
}

start holder control:1 "$pressure" stay 60 600
holder=$pid
until grep -q ready "$TMP/holder"; do sleep 0.05; done
proved_mapped "the library is loaded" "$holder"
listens "$holder"
is "$status" 0 "a process that was started with control:1 answers"
dirty=$(printf '%s\n' "$out" | sed -n 's/^dirty_bytes //p')
[ "${dirty:-0}" -gt $((40 << 20)) ]
ok $? "the statistics of a process say that it has free memory"
like "$out" "^purge_calls [0-9]+$" "the statistics have the counters"
try --json stats "$holder"
is "$(printf '%s\n' "$out" |
	/usr/bin/python3 -c 'import json, sys; print(json.load(sys.stdin)["regions_made"])')" \
	1 "--json gives one JSON object"

if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null 2>&1; then
	cp "$ctl" "$TMP/ctl"
	chmod 755 "$TMP/ctl"
	out=$(setpriv --reuid 65534 --regid 65534 --clear-groups "$TMP/ctl" drain "$holder" 2>&1)
	is "$? $out" "1 sluice-ctl: $holder: permission denied, only its user and root may ask" \
		"another user is refused"
	is "$(cat "$TMP/holder")" ready "a refused drain gives nothing back"
else
	skip "another user is refused" "not root, or no setpriv"
	skip "a refused drain gives nothing back" "not root, or no setpriv"
fi

# asked USER LABEL TEXT PYTHON...: what a process of the user 65534, or of one without number in its
# user namespace, tells USER.
asked() {
	user=$1 label=$2 text=$3
	shift 3
	if [ "$(id -u)" != 0 ] || ! command -v setpriv >/dev/null 2>&1 ||
		! setpriv --reuid 1234 unshare -U true 2>/dev/null; then
		skip "$label" "not root, no setpriv, or no user namespaces"
		return
	fi
	start "asked$user" control:1,background:always \
		/usr/bin/python3 -c "import os, sys, time, ctypes
$1
print('ready', flush=True)
time.sleep(600)"
	until grep -q ready "$TMP/asked$user" || ! kill -0 "$pid"; do sleep 0.05; done
	for _ in $(seq 200); do
		out=$(setpriv --reuid "$user" --regid "$user" --clear-groups "$TMP/ctl" get \
			dirty_max "$pid" 2>&1)
		case $out in *denied* | dirty_max*) break ;; esac
		sleep 0.1
	done
	is "${out#sluice-ctl: "$pid": }" "$text" "$label"
	kill "$pid"
	wait "$pid"
}
asked 65534 "a process of user 65534 answers its user" "dirty_max 64M" "os.setuid(65534)"
denied="permission denied, only its user and root may ask"
asked 1235 "one whose user has no number in its namespace refuses another" "$denied" \
	"os.setuid(1234); ctypes.CDLL(None).unshare(0x10000000) == 0 or sys.exit(1)"
mkdir -p "$TMP/root/proc/self"
echo "0 0 4294967295" >"$TMP/root/proc/self/uid_map"
chmod -R a+rX "$TMP"
asked 1236 "in a chroot with a false uid_map, too" "$denied" \
	"os.setuid(1234); ctypes.CDLL(None).unshare(0x10000000) == 0 or sys.exit(1)
os.chroot('$TMP/root')"

try drain "$holder"
is "$status" 0 "a drain is answered"
given=$(printf '%s\n' "$out" | sed -n 's/^bytes_purged //p')
[ "${given:-0}" -gt $((40 << 20)) ]
ok $? "the answer says how much was given back"
until grep -q -E '^(back|kept)' "$TMP/holder"; do sleep 0.05; done
like "$(cat "$TMP/holder")" "^back" "the process finds its memory given back"
kill "$holder"
wait
jobs=

fails 1 "there is no such process" "a process that has ended is refused" stats "$holder"
fails 2 "'1x' is not a process ID" "a word that is no process ID is refused" stats 1x
fails 2 "'stat' is not a command, use drain, purge, stats" "an unknown command is refused" stat 1
fails 2 "get needs NAME and a process ID" "get without a name is refused" get 1
fails 2 "set needs NAME VALUE and a process ID" "set without a value is refused" set decay_ms 1
fails 2 "purge takes no option except --json" "purge takes no option" --caches purge 1
fails 2 "'--most' is not an option" "an unknown option is refused" drain --most 1
fails 2 "dump needs a file and a process ID" "profile dump without a file is refused" \
	profile dump 1
fails 2 "needs a process ID" "a missing process ID is refused" drain
fails 2 "one argument too many" "two process IDs are refused" drain 1 2

start silent control:0 sleep 600
fails 1 "does not listen: start it with SLUICE_CONF=control:1" \
	"a process without control:1 is not listening" stats "$pid"
sleep 600 &
jobs="$jobs $!"
fails 1 "does not use Sluice" "a process without the library is recognized" stats $!

# speaks FILE NAME ANSWER: starts a process that answers ANSWER (Python's bytes) in the name of
# process NAME, or if that is "" in its own.
speaks() {
	: >"$1"
	/usr/bin/python3 -c '
import os, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind("\0sluice." + (sys.argv[1] or str(os.getpid())))
print("ready", flush=True)
while True:
    s.sendto(eval(sys.argv[2]), s.recvfrom(64)[1])' "$2" "$3" >"$1" &
	speaker=$!
	jobs="$jobs $speaker"
	until grep -q ready "$1"; do sleep 0.05; done
}
speaks "$TMP/false" "$pid" 'b"ok\nfree_bytes 1\n"'
fails 1 "process $speaker listens in its name" \
	"a process that answers in another one's name is not believed" stats "$pid"

# A process that has been taken over, asked from root's terminal.
speaks "$TMP/evil" "" 'b"ok\n\x1b]0;x\x07 1\nb\"x 2\n\x9b31m\\ 3\nfree_bytes 4\n"'
try stats "$speaker"
is "$status $out" '0 \x1b]0;x\x07 1
b"x 2
\x9b31m\x5c 3
free_bytes 4' "what a process says is printed without control characters"
try --json stats "$speaker"
is "$(printf '%s' "$out" | /usr/bin/python3 -c 'import json, sys; print(json.load(sys.stdin))')" \
	"{'free_bytes': 4}" "as JSON only names with numbers of what a process says are printed"
speaks "$TMP/refusal" "" 'b"error \x1b[2J\n"'
fails 1 'refused: \\x1b\[2J' "a refusal is printed without control characters" stats \
	"$speaker"

start lone control:1,background:always sleep 600
listens "$pid"
is "$status" 0 "a process with one thread answers with background:always"
# ask PID TEXT: the answer to a request that sluice-ctl does not make.
ask() {
	/usr/bin/python3 -c '
import os, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.settimeout(60)
s.bind("")
r, w = os.pipe()
s.connect("\0sluice." + sys.argv[1])
socket.send_fds(s, [sys.argv[2].encode()], [r, w] * 20)
print(s.recv(20000).decode().splitlines()[0])' "$1" "$2"
}
try get idle_ms "$pid"
is "$status $out" "0 idle_ms 600000" "get shows an option"
try set idle_ms 1234 "$pid"
is "$status $out" "0 idle_ms 1234" "set changes it"
try get idle_ms "$pid"
is "$out" "idle_ms 1234" "and it stays"
fails 1 "'5' is not valid, use 10 to 3600000; it stays 1234" "a bad value is refused" \
	set idle_ms 5 "$pid"
fails 1 "option zones: it is read at the start only" "so is an option that cannot change" \
	set zones 2 "$pid"
fails 1 "there is no option 'idle', did you mean idle_ms" "and one that does not exist" \
	get idle "$pid"
had=$(find "/proc/$pid/fd" -type l | wc -l)
is "$(for n in 4294967297 4294967296 18446744073709551617 0 16384 -1 1x ''; do
	ask "$pid" "drain $n"
done | sort -u)" \
	"error these flags of a drain are not known" \
	"numbers that are no flags of a drain are refused, however long"
is "$(find "/proc/$pid/fd" -type l | wc -l)" "$had" "descriptors that are sent along are not taken"
if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null 2>&1; then
	: >"$TMP/flooded"
	SLUICE_CONF=idle_ms:100,decay_ms:100,control:1 with_sluice "$pressure" back 60 60 \
		>"$TMP/flooded" 2>&1 &
	victim=$!
	until grep -q ready "$TMP/flooded"; do sleep 0.05; done
	setpriv --reuid 65534 --regid 65534 --clear-groups /usr/bin/python3 -c '
import socket, sys, time
name = "\0sluice." + sys.argv[1]
silent = []
while True:
    for kind in socket.SOCK_SEQPACKET, socket.SOCK_DGRAM:
        s = socket.socket(socket.AF_UNIX, kind)
        s.setblocking(False)
        try:
            s.connect(name)
            silent.append(s)
            if kind == socket.SOCK_DGRAM:
                s.send(b"stats")
        except OSError:
            s.close()
            time.sleep(0.001)
    del silent[:-400]' "$victim" 2>/dev/null &
	flooder=$!
	wait "$victim"
	kill "$flooder"
	like "$(cat "$TMP/flooded")" "^back" \
		"another user's constant requests do not keep memory from going back"
else
	skip "another user's constant requests do not keep memory from going back" \
		"not root, or no setpriv"
fi

start profiled control:1,background:always,prof:true,prof_active:0,prof_sample:1K \
	/usr/bin/python3 -c 'import time
kept = []
while True:
    kept.append(bytearray(5000))
    time.sleep(0.001)'
profiled=$pid
listens "$profiled"
# sites FILE: how many the profile has
sites() {
	try profile dump "$TMP/$1" "$profiled"
	grep -c '^@' "$TMP/$1"
}
is "$(sites before)" 0 "a profile that has not begun is empty"
try profile start "$profiled"
is "$status" 0 "it begins when it is asked to"
for _ in $(seq 600); do
	[ "$(sites during)" = 0 ] || break
	sleep 0.1
done
[ "$(sites during)" -gt 0 ]
ok $? "and has sites then"
try get prof_active "$profiled"
is "$status $out" "0 prof_active on" "get says whether it notes objects now"
try profile "$profiled"
is "$status $([ -s "$out" ] && head -n 1 "$out")" "0 heap_v2/1024" \
	"a file that nobody named is told"
diag "$out"
rm -f "$out"
fails 1 "refused: '/nonexistent/x' cannot be written: No such file or directory" \
	"a file that cannot be written is told, and why" profile dump /nonexistent/x "$profiled"
kill -STOP "$profiled"
fails 1 "does not answer because it is stopped" "a stopped process is told" stats "$profiled"
/usr/bin/python3 -c '
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.setblocking(False)
try:
    while True:
        s.sendto(b"stats", "\0sluice." + sys.argv[1])
except BlockingIOError:
    pass' "$profiled"
fails 1 "does not answer because it is stopped" "so it is if it has many requests to answer" \
	stats "$profiled"
kill -CONT "$profiled"
try profile stop "$profiled"
try get prof_active "$profiled"
is "$status $out" "0 prof_active off" "and when it does not"
ever=$(sites first >"$TMP/n"; sed -n '2s/.*\[\(.*\):.*/\1/p' "$TMP/first")
sleep 0.2
sites second >"$TMP/n"
is "$(sed -n '2s/.*\[\(.*\):.*/\1/p' "$TMP/second")" "$ever" "stopped it notes nothing"
cd "$TMP" || exit 1
try profile dump folded --format folded "$profiled"
is "$status $(ls folded*)" "0 folded" "it is converted, into the directory of the user"
echo mine >kept.heap
try profile dump kept --format folded "$profiled"
is "$status $(cat kept.heap) $(ls kept*)" "0 mine kept
kept.heap" "files beside it stay as they were"
try --format folded -- profile dump -x "$profiled"
is "$status $(ls ./-x*)" "0 ./-x" "its name may begin with a minus"
mkfifo pipe
timeout 60 cat pipe >piped &
jobs="$jobs $!"
try profile dump pipe --format folded "$profiled"
wait $!
is "$status $(ls pipe) $([ -s piped ] && echo text)" "0 pipe text" \
	"it may be a FIFO, which stays one"
try profile dump "$TMP/" --format folded "$profiled"
like "$out" "$TMP/[.][0-9a-f]*[.]heap is left as the process wrote it$" \
	"a file that could not be converted is named"
cd / || exit 1
fails 2 "use start, stop or dump" "a command that a profile has not is refused" \
	profile frob "$pid" x
start alone control:1 sleep 600
fails 1 "does not listen.*background:always" \
	"a process with one thread is not listening without background:always" stats "$pid"

# Processes that listen where sluice-ctl cannot hear them.
if unshare -p -n -f true 2>/dev/null; then
	start inner control:1,background:always unshare -p -n -f sleep 600
	until inner=$(pgrep -P "$pid"); do sleep 0.05; done
	# The first process of a namespace ignores SIGTERM, and unshare blocks it.
	at_exit "kill -KILL $inner"
	fails 1 "process 1 of another PID namespace, ask it from there: nsenter -t $inner -p -n$" \
		"a process of another PID namespace is told" stats "$inner"
	for _ in $(seq 600); do
		out=$(nsenter -t "$inner" -p -n "$ctl" get idle_ms 1 2>&1) && break
		sleep 0.1
	done
	is "$out" "idle_ms 600000" "and answers from there"
	start apart control:1,background:always unshare -n sleep 600
	until [ "$(cat "/proc/$pid/comm")" = sleep ]; do sleep 0.05; done
	fails 1 "another network namespace, ask it from there: nsenter -t $pid -n$" \
		"so is one of another network namespace" stats "$pid"
else
	for label in "a process of another PID namespace is told" "and answers from there" \
		"so is one of another network namespace"; do
		skip "$label" "no namespace can be made here"
	done
fi
sh -c 'sleep 0 & echo $! >"$1"; exec sleep 600' sh "$TMP/zombie" >"$TMP/parent" &
jobs="$jobs $!"
until [ -s "$TMP/zombie" ] && grep -q '^State:.Z' "/proc/$(cat "$TMP/zombie")/status"; do
	sleep 0.05
done
fails 1 "has no memory: it has ended" "a process that has ended and is not waited for is told" \
	stats "$(cat "$TMP/zombie")"
