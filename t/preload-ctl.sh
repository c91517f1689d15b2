#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# sluice-ctl: a running process gives memory back when it is asked, and answers nobody else.
. "${0%/*}/tap.sh"
plan 21
tmpdir

ctl=$builddir/tools/sluice-ctl
pressure=$builddir/t/helpers/pressure
jobs=
at_exit 'for j in $jobs; do kill "$j" 2>/dev/null; done'

# start NAME SETTINGS COMMAND...: under the library, in the background; sets pid.
start() {
	name=$1 settings=$2
	shift 2
	: >"$TMP/$name"
	SLUICE_CONF=idle_ms:600000,decay_ms:600000,psi:0,cgroup:0,$settings \
		with_sluice sh -c 'echo $$ >"$1" && shift && exec "$@"' sh "$TMP/$name.pid" "$@" \
		>"$TMP/$name" 2>&1 &
	until [ -s "$TMP/$name.pid" ]; do sleep 0.05; done
	pid=$(cat "$TMP/$name.pid")
	jobs="$jobs $pid"
}

# try ARGS...: sets out (both streams) and status.
try() {
	out=$("$ctl" "$@" 2>&1)
	status=$?
}

# listens PID: asks for its statistics until it answers, as it does from the first tick on.
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
	is "$status $(printf '%s\n' "$out" | wc -l | tr -d ' ') $(printf '%s\n' "$out" | grep -c -E "$regex")" \
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
ok $? "its statistics say that it has free memory"
like "$out" "^purge_calls [0-9]+$" "and what it counted"
try --json stats "$holder"
is "$(printf '%s\n' "$out" | /usr/bin/python3 -c 'import json, sys; print(json.load(sys.stdin)["regions_made"])')" \
	1 "--json gives one JSON object"

if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null 2>&1; then
	cp "$ctl" "$TMP/ctl"
	chmod 755 "$TMP/ctl"
	out=$(setpriv --reuid 65534 --regid 65534 --clear-groups "$TMP/ctl" drain "$holder" 2>&1)
	is "$? $out" "1 sluice-ctl: $holder: permission denied, only its user and root may ask" \
		"another user is refused"
	is "$(cat "$TMP/holder")" ready "and nothing was given back"
else
	skip "another user is refused" "not root, or no setpriv"
	skip "and nothing was given back" "not root, or no setpriv"
fi

try drain "$holder"
is "$status" 0 "a drain is answered"
given=$(printf '%s\n' "$out" | sed -n 's/^bytes_purged //p')
[ "${given:-0}" -gt $((40 << 20)) ]
ok $? "and says what was given back"
until grep -q -E '^(back|kept)' "$TMP/holder"; do sleep 0.05; done
like "$(cat "$TMP/holder")" "^back" "which is so"
kill "$holder"
wait
jobs=

fails 1 "there is no such process" "a process that is no more" stats "$holder"
fails 2 "'1x' is not a process ID" "what is no process ID" stats 1x
fails 2 "'purge' is not a command, use drain or stats" "what is no command" purge 1
fails 2 "'--all' is not an option" "what is no option" drain --all 1
fails 2 "needs a process ID" "no process ID" drain
fails 2 "one argument too many" "two of them" drain 1 2

start silent control:0 sleep 600
fails 1 "does not listen, start it with SLUICE_CONF=control:1" "a process without control:1" stats "$pid"
sleep 600 &
jobs="$jobs $!"
fails 1 "does not use Sluice" "a process without the library" stats $!

# One that has the process's name, and is not it.
: >"$TMP/false"
/usr/bin/python3 -c '
import socket, sys, time
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.bind("\0sluice." + sys.argv[1])
s.listen()
print("ready", flush=True)
time.sleep(600)' "$pid" >"$TMP/false" &
jobs="$jobs $!"
until grep -q ready "$TMP/false"; do sleep 0.05; done
fails 1 "listens in its name" "a process that listens in another one's name is not asked" stats "$pid"

start lone control:1,background:always sleep 600
listens "$pid"
is "$status" 0 "a process with one thread answers with background:always"
start alone control:1 sleep 600
fails 1 "does not listen.*background:always" "and not without" stats "$pid"
