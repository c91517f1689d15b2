#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# In every workload of sluice-bench, in a short form: the layers of the statistics add up to what
# the kernel backs, while the program is at work, at its end, and after a drain (t/helpers/rest.c);
# in each process of a server, when its load is over.
# TIMEOUT: 900
. "${0%/*}/../lib/tap.sh"
. "${0%/*}/../lib/compare.sh"
comparer bench
plan 6

rest=$builddir/t/helpers/.libs/rest.so
[ -e "$rest" ] || bail_out "$rest is not built: run make tests"

cat >"$TMP/run.py" <<'END_PY'
import contextlib, os, re, subprocess, sys, time, types

srcdir, work, preload, log, group = sys.argv[1:]
sys.path.insert(0, srcdir)
from tools.bench import programs, scale, servers, services, workloads
from tools.common.errors import Skip
from tools.common.measure import Failed
from tools.common.redis import Redis


class settings:
    quick, scale, threads, timeout = True, 0.001, 3, 300


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


def has_library(pid):
    """Whether the process, which may be gone, has the library."""
    return "/rest.so" in servers.read(f"/proc/{pid}/maps")


def check_server(row, root, go):
    """The checks of each process of the server: when it had rested, and after a drain."""
    open(go, "w").close()
    end = time.monotonic() + 300
    while True:
        lines = servers.read(go + ".log").splitlines()
        done = {int(m[1]) for line in lines if (m := re.match(r"\w+ drained: process (\d+)", line))}
        missing = [pid for pid in servers.tree(root) if has_library(pid) and pid not in done]
        if not missing and done or time.monotonic() > end:
            break
        time.sleep(0.05)
    wrong = [line for line in lines if not line.startswith("right ")]
    if wrong or missing or not done:
        print(f"{row.name}: no check of {missing}, {len(done)} made:", *wrong[:2])
    return len(lines)


def load(row):
    """May fail on a busy machine: pgbench prints no figure if a second sees no transaction."""
    if isinstance(row, Redis):
        row.load("LRANGE_100" if row.command == "LRANGE" else row.command, 2000, settings)
    else:
        row.before_load(settings)
        row.load(settings)


def of_servers():
    for row in (*services.all_rows(), *(r for r in programs.rows() if isinstance(r, Redis))):
        with contextlib.suppress(Skip), row.ready(settings):
            go = os.path.join(row.folder, "go")
            variables = {"REST_LOG": go + ".log", "REST_GO": go, "REST_OTHERS": "1",
                         "SLUICE_CONF": "psi:0,cgroup:0"}
            ours = types.SimpleNamespace(malloc=preload, variables=lambda env=variables: env)
            with row.server(ours) as pid:
                with contextlib.suppress(Failed):
                    load(row)
                yield check_server(row, pid, go)


counts = list({"synthetic": synthetic, "scale": of_scale, "programs": real,
               "servers": of_servers}[group]())
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
adds servers "in each process of the servers"

# What is handed out and not touched, and what dirty runs have that nobody wrote, is untouched.
SLUICE_CONF=psi:0,cgroup:0,warm_heaps:0 REST_LOG=$TMP/log LD_PRELOAD=$rest:$SLUICE_LIB \
	"$work" brief threads=2 ops=200 >/dev/null 2>&1
is "$(awk '/at work/ { sub(/.*untouched /, ""); if (int($0) > most) most = int($0) }
	END { print (most > 0) }' "$TMP/log")" 1 "some memory of dirty runs counts as untouched"
with_sluice "$work" pingpong ops=10 >/dev/null
proved_loaded "the library serves the workloads" sluice-bench-work
