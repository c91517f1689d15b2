#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# sluice-bench: a small run of each of its parts, its arithmetic and its error lines. Not how fast
# anything is.
. "${0%/*}/../lib/tap.sh"
. "${0%/*}/../lib/compare.sh"
comparer bench
plan 46

complains 2 'unrecognized arguments: --bogus' --bogus
complains 2 "there is no command bogus" bogus
complains 2 "--only nothing\*: no workload matches" --only 'nothing*'
complains 2 'argument --repeat: 0: has to be at least 1' --repeat 0
complains 2 '--baseline nobody: there is no nobody' --baseline nobody
complains 2 '--alloc x: not of the form NAME=PATH' --alloc x
complains 2 "--json .*: cannot be written" --json /no/such/directory/x
# A library without malloc: the comparison would be one of glibc with itself.
libm=$(PATH="$PATH:/sbin:/usr/sbin" ldconfig -p | awk '$1 == "libm.so.6" { print $NF; exit }')
complains 1 "none was to be measured, but malloc came from .*libc" --quick --repeat 1 \
	--only pingpong-64 \
	--alloc none="$libm" --allocs none

is \
	"$("$tool" --list |
		grep -c -x -E '(synthetic|processes|programs):|  pingpong-64 .*|  gcc .*')" 5 \
	"--list has the kinds and the workloads"
is "$("$tool" --list | awk '/^ / { print $1 }' | sort | uniq -d)" "" "no two workloads share a name"
like "$("$tool" --version)" '^sluice-bench [0-9]' "--version prints the version"

out=$("$tool" --quick --repeat 2 --scale 0.01 --only pingpong-64,larson,latency \
	--alloc sluice="$SLUICE_LIB" --allocs glibc,sluice --json "$TMP/out.json" 2>"$TMP/err")
is "$?, $(cat "$TMP/err")" "0, " "a small run ends well and complains of nothing"
is "$(printf '%s\n' "$out" | awk '$1 == "pingpong-64" { on = 1 } $1 == "larson" { on = 0 }
	on && $(NF - 6) > 0 && $(NF - 4) ~ /[0-9]\.\.[0-9]/ {
		printf "%s ", $(1 + ($1 == "pingpong-64"))
	}')" \
	"glibc sluice " "the table has a row of figures for each allocator"
like "$out" '^latency: percentiles of malloc' "latencies are shown as percentiles"
is "$(/usr/bin/python3 - "$TMP/out.json" "$(readlink -f "$SLUICE_LIB")" <<'END'
import json, sys
d = json.load(open(sys.argv[1]))
w = d["workloads"]
print([x["name"] for x in w], d["settings"]["repeat"], sorted(w[0]["samples"]),
      {s["malloc"] == sys.argv[2] and s["mapped"] and s["ns"] > 0 and s["peak_kib"] > 0
       for x in w for s in x["samples"]["sluice"]}, [len(s) for s in w[0]["samples"].values()])
END
)" "['pingpong-64', 'larson', 'latency'] 2 ['glibc', 'sluice'] {True} [2, 2]" \
	"the JSON is valid and has every sample, each with Sluice as its malloc"

out=$("$tool" --quick --repeat 1 --scale 0.01 --only pingpong-64 --alloc sluice="$SLUICE_LIB" \
	--allocs glibc,sluice --baseline glibc --json "$TMP/out.json" 2>&1)
like "$out" "^workload .*/ glibc .*/ glibc\$" \
	"the table names the allocator that the ratios are against"
is "$(/usr/bin/python3 - "$TMP/out.json" <<'END'
import json, sys
d = json.load(open(sys.argv[1]))
s = d["workloads"][0]["summary"]
print(d["baseline"], {s["glibc"][k]["median"] for k in ("time_ratio", "rss_ratio")},
      round(s["sluice"]["time_ratio"]["median"] * s["glibc"]["ns"]["median"]
            / s["sluice"]["ns"]["median"], 9))
END
)" "glibc {1.0} 1.0" "ratios are against the allocator that --baseline names"

out=$("$tool" --quick --repeat 1 --only start-true --alloc sluice="$SLUICE_LIB" \
	--allocs glibc,sluice 2>&1)
is "$? $(printf '%s\n' "$out" | grep -c -E ' (glibc|sluice) +[0-9]')" "0 2" \
	"a program is run under both allocators, which is proved"

out=$("$tool" pages --quick --repeat 1 --json "$TMP/out.json" 2>&1)
like "$out" '^buddy core, split and merge +[0-9.]+ +[0-9.]+ +-?[0-9.]+ %' "pages prints its tables"
is "$(printf '%s\n' "$out" | sed -n '/pcp_lock=handoff/,$p' |
	grep -c -E \
		'^ *(single|[0-9]+|cache) +([0-9]+\.[0-9]+ +){5}\([0-9.]+\) +([0-9]+\.[0-9]+ +){3}\([0-9.]+\)$')" \
	11 \
	"pages compares the ways into a pcp, at each size"
is "$(/usr/bin/python3 - "$TMP/out.json" <<'END'
import json, sys
w = json.load(open(sys.argv[1]))["pcp_lock"]
print(len(w), {x["to_spin"]["median"] for x in w if x["name"].endswith("=spin")})
END
)" "33 {1.0}" "the JSON has these ways, each against the spinlock of its own kind"

complains 2 '--threads 8: has to be 16 to 1024 with drain' drain --threads 8
out=$("$tool" drain --repeat 1 --threads 32 --json "$TMP/out.json" 2>&1)
is "$(printf '%s\n' "$out" | grep -c -E '^[a-z ]{12} +[0-9]+ +(asleep|computing|hot) +')" 12 \
	"drain has a row for each way and each kind of thread"
is "$(/usr/bin/python3 - "$TMP/out.json" <<'END'
import json, sys
m = {name: run[0]["kinds"] for name, run in json.load(open(sys.argv[1]))["runs"].items()}
remote, asked, own, none = (m[x] for x in ("remote", "signal", "cooperative", "none"))
print([k["left"] for k in remote.values()], [k["signals"] for k in remote.values()],
      remote["asleep"]["voluntary"], remote["asleep"]["cpu_us"], asked["asleep"]["signals"] > 0,
      own["asleep"]["left"], own["computing"]["left"], [k["left"] for k in none.values()])
END
)" "[0, 0, 0] [0.0, 0.0, 0.0] 0.0 0.0 True 28 2 [28, 2, 2]" \
	"a remote drain reaches all threads, undisturbed; one that asks misses threads without calls"

complains 2 '--threads 1,2: several numbers are valid with scale only' --threads 1,2
complains 2 '--time has no meaning with pages' pages --time cpu
complains 2 '--only x: no workload matches' scale --only x
out=$("$tool" scale --quick --repeat 1 --scale 0.02 --threads 3,1,40 --alloc sluice="$SLUICE_LIB" \
	--allocs glibc,sluice --json "$TMP/out.json" 2>&1)
is \
	"$? $(printf '%s\n' "$out" | grep -c -E \
		'^([a-z]+ +[0-9]+)? +(glibc|sluice)( +[0-9.]+){1} +[0-9]+\.\.[0-9]+( +[0-9]+\.[0-9]+){3}$')" \
	"0 42" "scale has a line for each row, number of threads and allocator"
is "$(/usr/bin/python3 - "$TMP/out.json" "$(readlink -f "$SLUICE_LIB")" <<'END'
import json, sys
d = json.load(open(sys.argv[1]))
runs = [(row, int(n), s) for row, by in d["rows"].items() for n, one in by.items()
        for s in one["samples"]["sluice"]]
print(sorted({row for row, _, _ in runs}),
      {s["malloc"] == sys.argv[2] and s["threads"] == n for _, n, s in runs},
      {s["worst_ns"] > 0 and s["ops"] >= n and s["cpu_ns"] > 0 for _, n, s in runs if _ != "fork"},
      {s["forks"] for row, _, s in runs if row == "fork"})
END
)" "['big', 'churn', 'fork', 'growth', 'handoff', 'pages', 'start'] {True} {True} {2.0}" \
	"each run of scale had so many threads, Sluice as its malloc, and a slowest call"
# No allocator does 4e9 operations in a second.
"$tool" scale --only churn --threads 2,3 --repeat 2 --scale 1000 --timeout 1 \
	--alloc sluice="$SLUICE_LIB" \
	--allocs sluice >"$TMP/out" 2>"$TMP/err"
is "$? $(cat "$TMP/err") $(grep -c 'sluice *failed' "$TMP/out")" \
	"1 sluice-bench: churn-2t: sluice: not done after 1 s 2" \
	"an allocator that does not end in time is named once, and not tried with more threads"

"$work" pingpong size=x >/dev/null 2>"$TMP/err"
is "$? $(cat "$TMP/err")" "2 sluice-bench-work: size=x: not a number" \
	"the workload program refuses a size that is no number"
"$work" pingpong size=0 >/dev/null 2>"$TMP/err"
is "$? $(cat "$TMP/err")" "2 sluice-bench-work: size=0: has to be above 0" \
	"the workload program refuses a size of 0"

# Ranks 6 and 15 of 20, and so on, are in every table of the sign test.
is "$(/usr/bin/python3 -B - "$srcdir" <<'END'
import sys
sys.path.insert(0, sys.argv[1])
from tools.common import numbers
print([numbers.sign_interval(n)[:2] for n in (1, 5, 6, 8, 9, 20)],
      numbers.ratios([2, 8, 3], [1, 2, 3])["median"], round(numbers.geomean([0.5, 2, 8]), 9),
      round(numbers.middle([0.5, 2]), 9))
END
)" "[(0, 0), (0, 4), (0, 5), (0, 7), (1, 7), (5, 14)] 2.0 2.0 1.0" \
	"intervals, paired ratios and means are right"

# A program that takes the address of malloc has a jump to it, to which all others are bound.
printf '%s\n' "binding file /x/libc.so.6 [0] to /x/program [0]: normal symbol \`malloc' [V]" \
	"binding file /x/malloc.so [0] to /x/program [0]: normal symbol \`malloc'" \
	"binding file /x/program [0] to /x/program [0]: normal symbol \`malloc' [V]" \
	"transferring control: /x/program" \
	"binding file /x/malloc.so [0] to /x/malloc.so [0]: normal symbol \`malloc'" \
	"binding file /x/program [0] to /x/malloc.so [0]: normal symbol \`malloc' [V]" >"$TMP/ld.1"
is "$(/usr/bin/python3 -B - "$srcdir" "$TMP/ld.1" <<'END'
import sys
sys.path.insert(0, sys.argv[1])
from tools.common import proof
print(*proof.bound_mallocs(sys.argv[2]))
END
)" /x/malloc.so "the library behind a program's jump to malloc is found"
