#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# sluice-latency: its error lines, a small run of each workload, and that it counts (calls, page
# faults, sleeps, drains) what was done. Not how fast anything is.
. "${0%/*}/../lib/tap.sh"
. "${0%/*}/../lib/compare.sh"
comparer latency
plan 30

complains 2 'unrecognized arguments: --bogus' --bogus
complains 2 "--only nothing\*: no workload matches" --only 'nothing*'
complains 2 'argument --repeat: 0: has to be at least 1' --repeat 0
complains 2 "--json .*: cannot be written" --json /no/such/directory/x
complains 2 "--sluice-options bogus:1: .*bogus" --alloc sluice="$SLUICE_LIB" --sluice-options \
	bogus:1
complains 2 "--allocs nobody: there is no nobody" --allocs nobody

is "$("$tool" --list | grep -c -x -E '(synthetic|programs):|  steady .*|  redis-set .*')" 4 \
	"--list has the kinds and the workloads"
like "$("$tool" --version)" '^sluice-latency [0-9]' "--version prints the version"

out=$("$tool" --quick --repeat 1 --only synthetic --alloc sluice="$SLUICE_LIB" \
	--allocs glibc,sluice,sluice:small --sluice-options small=pcp_high_min:0,pcp_high_max:0 \
	--json "$TMP/out.json" 2>"$TMP/err")
is "$?, $(cat "$TMP/err")" "0, " "a small run of all workloads ends well and complains of nothing"
is "$(printf '%s\n' "$out" | grep -c -E '^(steady|burst|periodic): ')" 3 \
	"each workload has its table"
like "$out" '^sluice +([0-9.]+[um]? +){6}[0-9.]+[um]?$' "each table has a row of figures for Sluice"
like "$out" '^best peer  .*glibc' "the figures are divided by the best peer's, which is named"
like "$out" '^sluice:small +([0-9.]+|-)' "Sluice with other options is a row of its own"

# ask EXPRESSION: of the JSON; s(workload, allocator) is the sample.
ask() {
	/usr/bin/python3 - "$TMP/out.json" "$(readlink -f "$SLUICE_LIB")" "$1" <<'END'
import json, sys
d = json.load(open(sys.argv[1]))
w = {x["name"]: x for x in d["workloads"]}
lib = sys.argv[2]
def s(workload, allocator):
    return w[workload]["samples"][allocator][0]
def calls(workload, allocator, op="malloc"):
    return s(workload, allocator)["calls"][op]
print(eval(sys.argv[3]))
END
}

is "$(ask '{x["samples"][a][0]["malloc"] == lib and x["samples"][a][0]["mapped"] for x in w.values()
	for a in ("sluice", "sluice:small")}')" "{True}" "each sample had Sluice as its malloc"
is "$(ask '{(calls("steady", a, op)["count"], calls("burst", a, op)["count"],
	calls("periodic", a, op)["count"])
	for a in ("floor", "glibc", "sluice") for op in ("malloc", "free")}')" \
	"{(200001, 100000, 15000)}" "every call was recorded, and the floor is the same loop"
is "$(ask '{sorted(v) == v for a in ("floor", "sluice") for c in [calls("steady", a)]
	for v in [[c[p] for p in ("p50", "p90", "p99", "p99.9", "p99.99", "p99.999",
	"max")]]}')" "{True}" \
	"percentiles rise"
is "$(ask '(s("growth", "floor")["minor_faults"] < 20,
	s("growth", "glibc")["minor_faults"] > 15e6 / 4096 * 0.8,
	s("growth", "sluice")["minor_faults"] > 0)')" "(True, True, True)" \
	"page faults of growth are counted, and the floor has only what the kernel takes away"
is "$(ask '[c["faulted"] + c["waited"] + c["preempted"] <= c["above_5us"] * 1.1 + 2 for a in
	("glibc", "sluice") for c in [calls("growth", a)]]')" "[True, True]" \
	"no call has two causes"
is "$(ask '(s("neighbour-drain", "sluice")["drains"] > 0, "drains" in s("neighbour", "sluice"))')" \
	"(True, False)" "the neighbour drains only where it is told to"
is "$(ask '(calls("periodic", "sluice", "period")["count"],
	s("periodic", "sluice")["voluntary_switches"] > 5)')" \
	"(300, True)" "the periodic task sleeps between its periods"
is "$(ask 'sorted(w["neighbour-drain"]["beside"]["malloc"])')" \
	"['floor', 'glibc', 'sluice', 'sluice:small']" \
	"drains are compared with the run without them"

# Redis: only where it is installed; --list and the rest do not need it.
if command -v redis-server >/dev/null 2>&1 && command -v redis-benchmark >/dev/null 2>&1; then
	"$tool" --quick --repeat 1 --only redis-set --alloc sluice="$SLUICE_LIB" --allocs \
		sluice \
		--json "$TMP/out.json" >/dev/null 2>"$TMP/err"
	is "$? $(cat "$TMP/err") $(ask 'calls("redis-set", "sluice", "request")["count"]')" \
		"0  30000" \
		"redis-benchmark's distribution has all its requests"
else
	skip "redis-benchmark's distribution has all its requests" "redis-server is not installed"
fi
if command -v gnuplot >/dev/null 2>&1; then
	"$tool" --quick --repeat 1 --only periodic --alloc sluice="$SLUICE_LIB" --allocs sluice \
		--plot "$TMP/charts" >/dev/null 2>"$TMP/err"
	is "$? $(cat "$TMP/err") $(find "$TMP/charts" -name 'periodic-*.[sp][vn]g' -size +1k |
		wc -l)" "0  6" \
		"a chart of each operation is drawn, as SVG and PNG"
else
	skip "a chart of each operation is drawn, as SVG and PNG" "gnuplot is not installed"
fi
"$work" growth pace=0 >/dev/null 2>"$TMP/err"
is "$? $(cat "$TMP/err")" "2 sluice-latency-work: pace=0: has to be above 0" \
	"the workload program names a parameter that it refuses"
