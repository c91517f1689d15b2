#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# sluice-bench services: a short run of each service that is installed, and what is left when the
# tool is stopped. Not how fast anything is.
# TIMEOUT: 600
. "${0%/*}/../lib/tap.sh"
. "${0%/*}/../lib/compare.sh"
comparer bench
plan 11

# services ARGS...: the standard output and error go to files.
services() {
	"$tool" services --quick --scale 0.02 --alloc sluice="$SLUICE_LIB" --allocs sluice \
		--json "$TMP/out.json" "$@" >"$TMP/out" 2>"$TMP/err"
}

complains 2 '--only x: no workload matches' services --only x
complains 2 '--baseline has no meaning with services' services --baseline glibc

services --only \
	redis-set,redis-snapshot,postgres-read-16c,mariadb-read-16c,memcached-set,nginx,node,sqlite
status=$?
diag "$(cat "$TMP/err" "$TMP/out")"
skipped=' is skipped: (.* is not installed \(apt-get install |root cannot run postgres, )'
is "$status $(grep -c -v -E "$skipped" "$TMP/err")" "0 0" \
	"a row of each service that is installed runs under Sluice; one line for each that is not"
is "$(/usr/bin/python3 - "$TMP/out.json" "$(readlink -f "$SLUICE_LIB")" <<'END'
import json, sys
d = json.load(open(sys.argv[1]))
runs = [(w["name"], s) for w in d["workloads"] for s in w["samples"]["sluice"]]
bad = [name for name, s in runs if not (s["rate"] > 0 and s["requests"] > 0
       and s["peak_kib"] >= s["end_kib"] > 0 and s["after_kib"] > 0 and len(s["memory"]) >= 3)]
timed = [name for name, s in runs if name.partition("-")[0] not in ("memcached", "sqlite")]
bad += [name for name, s in runs if name in timed and not 0 < s["p50_ms"] <= s["p99_ms"]]
print(len(d["workloads"]) + len(d["skipped"]), d["allocators"]["sluice"]["malloc"] == sys.argv[2],
      d["failures"], bad)
END
)" "8 True [] []" \
	"each has a rate, percentiles where its load tool gives them, and memory over time"

/usr/bin/python3 -B - "$srcdir" >"$TMP/out" 2>&1 <<'END'
import sys, types
sys.path.insert(0, sys.argv[1])
from tools.bench import services
from tools.common.errors import Skip
class Missing(services.Memcached):
    needs = ((("no-such-server",), "no-such-package"),)
try:
    with Missing("set").ready(None):
        print("ready")
except Skip as why:
    print(why)
def runs(*rates):
    return [{"rate": r, "requests": 1, "cpu_us": 1, "p99_ms": 1 / r} for r in rates]
found = services.summarize({"sluice": runs(10, 20, 30), "a": runs(20, 20, 20),
                            "b": runs(1, 1, 100), "sluice:x": runs(900, 900, 900)})
print([found[n]["rate"]["best"]["median"] for n in ("sluice", "a", "b", "sluice:x")],
      round(found["sluice"]["p99_ms"]["best"]["median"], 3))
END
is "$(head -n 1 "$TMP/out")" "no-such-server is not installed (apt-get install no-such-package)" \
	"a service whose program is missing says which package has it"
is "$(sed -n 2p "$TMP/out")" "[1.0, 20.0, 0.05, 45.0] 1.0" \
	"ratios are to the best other allocator, Sluice's own excepted, in the same rounds"

# stopped SIGNAL: prints the status of the tool after the signal, and what is left of its server.
stopped() {
	"$tool" services --only redis-set --scale 1000 --alloc sluice="$SLUICE_LIB" \
		--allocs sluice >/dev/null 2>&1 &
	tool_pid=$!
	server=
	# The second server is under load; the first one only proves whose malloc it has.
	until [ -n "$server" ] && pgrep -P "$tool_pid" -f redis-benchmark >/dev/null; do
		kill -0 "$tool_pid" 2>/dev/null || break
		sleep 0.05
		server=$(pgrep -P "$tool_pid" -f redis-server)
	done
	folder=$(readlink "/proc/$server/cwd")
	client=$(pgrep -P "$tool_pid" -f redis-benchmark)
	kill -s "$1" "$tool_pid"
	wait "$tool_pid"
	printf '%s' "$?"
	i=0
	while { kill -0 "$server" || kill -0 "$client"; } 2>/dev/null && [ $i -lt 600 ]; do
		sleep 0.1
		i=$((i + 1))
	done
	{ kill -0 "$server" || kill -0 "$client"; } 2>/dev/null && printf ', processes left'
	[ -n "$folder" ] && [ -d "$folder" ] && printf ', %s left' "${folder%%.*}"
	case $1 in
	KILL) rm -rf "$folder" ;;
	esac
}
redis_there=1
for program in redis-server redis-benchmark redis-cli pgrep; do
	command -v "$program" >/dev/null 2>&1 || redis_there=
done
if [ -n "$redis_there" ]; then
	is "$(stopped TERM)" 143 "SIGTERM leaves no server, no load and no files"
	is "$(stopped HUP)" 129 "nor does SIGHUP"
	like "$(stopped KILL 2>/dev/null)" '^137(, [^ ]*sluice-bench left)?$' \
		"after SIGKILL no process is left, only files"
else
	for signal in TERM HUP KILL; do
		skip "nothing is left after SIG$signal" \
			"redis-server, redis-tools and procps are not installed"
	done
fi
