#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# sluice-pressure: a small run of each of its kinds, its arithmetic, its error lines, and that no
# cgroup of it stays behind. Not how much memory comes back, nor when.
#
# TIMEOUT: 300
. "${0%/*}/../lib/tap.sh"
# Both pressure.sh and pressure-tool.sh make the machine short of memory.
one_at_a_time preload/pressure.sh
. "${0%/*}/../lib/compare.sh"
comparer pressure
plan 34

complains 2 'unrecognized arguments: --bogus' --bogus
complains 2 'unrecognized arguments: bogus' bogus
complains 2 "--only nothing\*: no workload matches" --only 'nothing*'
complains 2 'argument --limit: 5: neither auto nor a number of bytes' --limit 5
complains 2 'argument --seconds: -1: has to be above 0' --seconds -1
complains 2 "--json .*: cannot be written" --json /no/such/directory/x
complains 2 'no program after --' --
complains 2 'no-such-program: there is no such program' -- no-such-program
complains 2 '--list is about the built-in workloads' --list -- true
complains 1 'sh: glibc: exit status 3' --allocs glibc --no-chart -- sh -c 'exit 3'

is "$("$tool" --list |
	grep -c -E '^(idle|flow|limit|drain):$|^  (idle-owner|m1-queue|turns-small|e3-maps) ')" \
	8 "--list has the groups and the workloads"
like "$("$tool" --version)" '^sluice-pressure [0-9]' "--version prints the version"
missing=
options=$("$tool" --help | sed -n 's/^  \(-h, \)*\(--[a-z-]*\).*/\2/p')
for option in $options; do
	tr -d '\\' <"$srcdir/man/sluice-pressure.1" | grep -q -E "^\.(B|BR|BI) .*$option( |\$)" ||
		case $option in
		--chart) ;; # its opposite is what is there to be chosen
		*) missing="$missing $option" ;;
		esac
done
is "${options:+listed}$missing" listed "the man page has the options of --help"

# Workloads that need no cgroup, with all that can be written.
out=$("$tool" --quick --seconds 0.3 --scale 0.2 --only 'idle-probe,m1-queue,m8*,l2*' \
	--repeat 2 \
	--alloc sluice="$SLUICE_LIB" --allocs glibc,sluice --json "$TMP/out.json" 2>"$TMP/err")
is "$?, $(cat "$TMP/err")" "0, " "a small run ends well and complains of nothing"
is "$(printf '%s\n' "$out" | grep -c -E '^(glibc|sluice) +survived ( +-?[0-9.]+){4}')" 8 \
	"the table has a row of figures for each workload and allocator"
is "$(/usr/bin/python3 - "$TMP/out.json" "$(readlink -f "$SLUICE_LIB")" <<'END'
import json, sys
d = json.load(open(sys.argv[1]))
w = d["workloads"]
s = [x for r in w for x in r["samples"]["sluice"]]
print([r["name"] for r in w], d["settings"]["repeat"], {len(r["samples"]["glibc"]) for r in w},
      {x["report"]["malloc"] == sys.argv[2] and x["report"]["mapped"] for x in s},
      {[e["event"] for e in x["events"]][:2] == ["floor", "peak"] for x in s},
      {x["peak_kib"] > x["floor_kib"] > 0 and bool(x["rss"]) for x in s},
      w[0]["samples"]["glibc"][0]["worst_us"] > 0)
END
)" "['idle-probe', 'm1-queue', 'm8-small-start', 'l2-drains'] 2 {2} {True} {True} {True} True" \
	"the JSON has every sample, its events, and whose malloc it had"

if command -v gnuplot >/dev/null 2>&1; then
	out=$("$tool" --quick --seconds 0.3 --only idle-owner --allocs glibc \
		--plot "$TMP/plot" 2>&1)
	like "$out" '^ +idle-owner: RSS in MiB over time in s$' "the terminal has a chart"
	is "$(cd "$TMP/plot" && find . -type f -size +1k | sort | tr '\n' ' ')" \
		"./kept.png ./kept.svg ./rss-idle-owner.png ./rss-idle-owner.svg " \
		"the charts are written, each as SVG and PNG"
else
	skip "the terminal has a chart" "gnuplot is not installed"
	skip "the charts are written, each as SVG and PNG" "gnuplot is not installed"
fi

# Known samples: 100 MiB at the peak, 10 MiB of floor, nothing live, back after 250 ms.
is "$(/usr/bin/python3 -B - "$srcdir" <<'END'
import sys
sys.path.insert(0, sys.argv[1])
from tools.pressure import run, workloads
event = lambda name, at, mib, cpu: dict(event=name, at=at * 10**6, rss_kib=mib * 1024, live=0,
                                        threads=16, cpu_ns=cpu * 10**6,
                                        probe_ns=10**6 * (cpu // 10))
class Watch:
    begin, cpu_ns, report = 0, 0, None
    rss = [(at * 10**6, mib * 1024)
           for at, mib in ((0, 5), (100, 100), (400, 60), (450, 11), (900, 10))]
    events = [event("floor", 50, 10, 0), event("peak", 150, 100, 5), event("idle", 200, 99, 10),
              event("rest", 1000, 12, 30)]
s = run.figures(Watch, "ok")
print(s["peak_kib"] // 1024, s["kept_kib"] / 1024, round(s["back_share"], 3), s["back_ms"],
      s["cpu_ms"],
      workloads.kept(8).judge(s)["met"], workloads.kept(1).judge(s)["met"])
END
)" "100 2.0 0.978 250.0 18.0 True False" \
	"peak, kept, given back, time and CPU follow from the samples"

# groups PID: those of that run of the tool which are there now. The machine may have others.
groups() {
	find /sys/fs/cgroup -type d -name "sluice-pressure.$1.*" 2>/dev/null
}
out=$("$tool" --limit 64M --allocs glibc --no-chart -- true 2>&1)
case $out in
*'needs root'* | *'no memory cgroup can be made'*)
	for label in "without root or a memory cgroup one line says so" \
		"a program is killed at its limit, and the tool says so" "no cgroup stays behind" \
		"no cgroup stays behind when the tool is terminated" "the eater makes tasks wait";
		do
		skip "$label" "no memory cgroup can be made here"
	done
	exit
	;;
esac
if command -v setpriv >/dev/null 2>&1 && setpriv --reuid 65534 --clear-groups test -x "$work" &&
	setpriv --reuid 65534 --clear-groups test -r "$srcdir/tools/pressure/cli.py"; then
	is "$(setpriv --reuid 65534 --clear-groups "$tool" --limit 64M --allocs glibc 2>&1)" \
		"sluice-pressure: --limit needs a memory cgroup, and to make one needs root" \
		"without root one line says so"
else
	skip "without root one line says so" "another user cannot read the build"
fi
"$tool" --limit 64M --allocs glibc --no-chart -- \
	/usr/bin/python3 -c 'x = [bytes(1 << 20) + bytes([i]) * (1 << 20) for i in range(200)]' \
	>"$TMP/out" 2>&1 &
pid=$!
wait $pid
like "$(cat "$TMP/out")" '^glibc +OOM [0-9.]+ s' \
	"a program is killed at its limit, and the tool says so"
is "$(groups $pid)" "" "no cgroup stays behind"
"$tool" --limit 64M --allocs glibc --no-chart -- sleep 600 >/dev/null 2>&1 &
pid=$!
tries=0
while [ -z "$(groups $pid)" ] && [ $tries -lt 600 ]; do
	tries=$((tries + 1))
	sleep 0.1
done
made=$(groups $pid | wc -l)
kill -TERM $pid
wait $pid
is "$?, $made made, $(groups $pid)" "143, 1 made, " \
	"no cgroup stays behind when the tool is terminated"
if [ -r /proc/pressure/memory ]; then
	like "$("$tool" --eater --seconds 2 --allocs glibc --no-chart -- sleep 60 2>&1)" \
		'tasks waited for memory \(PSI\): [1-9][0-9]* ms' "the eater makes tasks wait"
else
	skip "the eater makes tasks wait" "the kernel has no PSI"
fi
