#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# In every workload of sluice-bench, in a short form: the layers of the statistics add up to what
# the kernel backs, while the program is at work, at its end, and after a drain (t/helpers/rest.c).
# TIMEOUT: 300
. "${0%/*}/../lib/tap.sh"
. "${0%/*}/../lib/compare.sh"
comparer bench
plan 5

rest=$builddir/t/helpers/.libs/rest.so
[ -e "$rest" ] || bail_out "$rest is not built: run make tests"

cat >"$TMP/run.py" <<'END_PY'
import contextlib, os, subprocess, sys

srcdir, work, preload, log, group = sys.argv[1:]
sys.path.insert(0, srcdir)
from tools.bench import programs, scale, workloads
from tools.common.errors import Skip


class settings:
    quick, scale, threads = True, 0.001, 3


def check(name, argv, variables=None, **more):
    """One line for a workload that fails, makes no check, or has one that is wrong."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(log)
    env = {**os.environ, **(variables or {}), "REST_LOG": log, "LD_PRELOAD": preload,
           "REST_OTHERS": "" if argv[0] == work else "1",
           "SLUICE_CONF": "psi:0,cgroup:0"}
    done = subprocess.run(argv, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                          check=False, **more)
    lines = open(log).read().splitlines() if os.path.exists(log) else []
    wrong = [line for line in lines if not line.startswith("right ")]
    drained = sum(line.startswith("right drained:") for line in lines)
    if done.returncode or wrong or not drained:
        print(f"{name}: status {done.returncode}, {drained} drained:", *wrong[:2],
              done.stderr.decode(errors="replace")[:200])
    return len(lines)


def synthetic():
    return [check(row.name, [work, row.command, *row.arguments(settings)])
            for row in workloads.rows()]


def of_scale():
    return [check(row, [work, f"scale-{row}", "threads=6",
                        *(f"{k}={max(1, int(v * settings.scale))}" for k, v in params.items())])
            for row, params in scale.WORK.items()]


def real():
    for row in programs.rows():
        if not isinstance(row, programs.Program):
            continue
        try:
            with row.ready(settings), contextlib.ExitStack() as stack:
                source = subprocess.DEVNULL
                if row.stdin:
                    path = os.path.join(row.folder, row.stdin)
                    source = stack.enter_context(open(path, "rb"))
                yield check(row.name, row.argv, row.variables, stdin=source, cwd=row.folder)
        except Skip:
            pass


counts = list({"synthetic": synthetic, "scale": of_scale, "programs": real}[group]())
print(len(counts) > 0 and sum(counts) >= len(counts) * 2)
END_PY

# adds GROUP LABEL
adds() {
	is "$(/usr/bin/python3 -B "$TMP/run.py" "$srcdir" "$work" "$rest:$SLUICE_LIB" "$TMP/log" \
		"$1" 2>&1)" True "$2"
}

adds synthetic "the layers add up in each synthetic workload"
adds scale "in each row of scale"
adds programs "in the real programs"

# What is handed out and not touched, and what dirty runs have that nobody wrote, is untouched.
SLUICE_CONF=psi:0,cgroup:0 REST_LOG=$TMP/log LD_PRELOAD=$rest:$SLUICE_LIB "$work" brief threads=2 \
	ops=200 >/dev/null 2>&1
is "$(awk '/at work/ { sub(/.*untouched /, ""); if (int($0) > most) most = int($0) }
	END { print (most > 0) }' "$TMP/log")" 1 "some memory of dirty runs counts as untouched"
with_sluice "$work" pingpong ops=10 >/dev/null
proved_loaded "the library serves the workloads" sluice-bench-work
