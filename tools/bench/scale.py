# SPDX-License-Identifier: BSD-2-Clause
"""sluice-bench scale: the same work by 1 to some thousand threads, under each allocator in turn. It
counts operations per CPU second, so that other programs of the machine have little effect."""

import sys
import time

from ..common import allocators, command, measure, numbers, output
from ..common.allocators import PEERS
from ..common.command import complain
from ..common.numbers import spread
from ..common.synthetic import Synthetic

from . import charts

THREADS = (1, 2, 4, 8, 16, 64, 256, 1024, 4096)
QUICK_THREADS = (1, 2, 8, 64)
THREADS_MAX = 16384
TIMEOUT = 60
REPEAT = 5
KEPT = (8, 64, 1024)  # against 2 threads
KEYS = ("ops", "switches", "worst_us", "peak_mib")
ROWS = {
    "start": "all threads make their first call at one moment, work briefly, and end",
    "churn": "each replaces objects of 16 to 1,024 bytes",
    "big": "blocks of 3,000,000 bytes, allocated and freed",
    "pages": "blocks of 64 to 300 KiB, more at a time than caches of pages keep",
    "handoff": "pairs: one allocates, the other frees",
    "growth": "one grows to 256 MiB while the others sleep, each with something cached",
    "fork": "one forks again and again while the others churn; the worst call is that of fork",
}
TEXT = """\
kops / CPU s: thousands of operations of all threads per second of their CPU time, median and
min..max. switches: context switches per 1,000 operations, without the waits of the workload itself.
worst: the largest CPU time of a timed call (fork: of fork itself). RSS: the peak."""


class Row:
    """One row with one number of threads, as a workload for measure.rounds."""

    group = "scale"

    def __init__(self, row, threads):
        self.row, self.threads = row, threads
        self.name = f"{row}-{threads}t"
        self.work = Synthetic(self.name, f"scale-{row}", ROWS[row], threads=threads)
        self.pinned = False
        self.ready = self.work.ready

    def measure(self, allocator, settings, core):
        argv = [settings.places.program(self.work.program), self.work.command]
        arguments = [f"threads={self.threads}"]
        if settings.scale != 1:
            arguments += [f"{key}={max(1, int(value * settings.scale))}"
                          for key, value in WORK[self.row].items()]
        out = measure.run(argv + arguments, env=measure.environment(allocator), core=core,
                          timeout=settings.timeout)
        sample = measure.json_line(out)
        measure.check_allocator(sample, allocator)
        return sample


# What --scale multiplies: the defaults of tools/bench/scale.c.
WORK = {"start": {"ops": 200000}, "churn": {"ops": 4000000}, "big": {"ops": 200000},
        "pages": {"ops": 100000}, "handoff": {"ops": 2000000}, "growth": {"mib": 256},
        "fork": {"ops": 8000000, "forks": 100}}


def figures(sample):
    ops = max(1, sample["ops"])
    return {"ops": ops / max(1, sample["cpu_ns"]) * 1e9,
            "switches": 1000 * sample["switches"] / ops,
            "worst_us": sample["worst_ns"] / 1000,
            "peak_mib": sample["peak_kib"] / 1024,
            "ns": sample["cpu_ns"] / ops}


def summarize(samples):
    """Returns {allocator: {key: {median, min, max}}}."""
    result = {}
    for name, runs in samples.items():
        all_of = [figures(run) for run in runs]
        result[name] = {key: spread([f[key] for f in all_of]) for key in (*KEYS, "ns")}
        if runs and "fork_ns" in runs[0]:
            result[name]["fork_us"] = spread([run["fork_ns"] / 1000 for run in runs])
    return result


def collect(rows, counts, found, settings):
    """Returns {row: {threads: samples}} and lines about what failed. An allocator that fails with
    some number of threads is not run with more threads in the same row."""
    progress = output.Progress(len(rows) * len(counts) * len(found) * settings.repeat)
    results, failures = {}, []
    for row in rows:
        left = list(found)
        for threads in counts:
            one = Row(row, threads)
            samples, failed = measure.rounds(one, left, settings, progress)
            progress.clear()
            for text in failed:
                complain(text)
            failures += failed
            left = [a for a in left if a.name in samples]
            summary = summarize(samples)
            results.setdefault(row, {})[threads] = {"samples": samples, "summary": summary}
            show_rows(row, threads, found, summary)
    return results, failures


def show_head():
    head = (f"{'row':8} {'threads':>7}  {'allocator':10} {'kops / CPU s':>12} {'min..max':>19} "
            f"{'switches':>10} {'worst us':>10} {'RSS MiB':>9}")
    print(f"{head}\n{'-' * len(head)}")


def show_rows(row, threads, found, summary):
    name = f"{row:8} {threads:7}"
    for a in found:
        s = summary.get(a.name)
        if s:
            ops = s["ops"]
            span = f"{ops['min'] / 1000:.0f}..{ops['max'] / 1000:.0f}"
            print(f"{name:16}  {a.name:10} {ops['median'] / 1000:12.0f} {span:>19} "
                  f"{s['switches']['median']:10.3f} {s['worst_us']['median']:10.1f} "
                  f"{s['peak_mib']['median']:9.1f}")
        else:
            print(f"{name:16}  {a.name:10} {'failed':>12}")
        name = ""
    sys.stdout.flush()


# ---- below the table -------------------------------------------------------------------------


def against_best(results, name):
    """Returns {row: CPU time against the best peer's, as a geometric mean over the numbers of
    threads}. None if the allocator failed somewhere or has no peer."""
    means = {}
    for row, by_threads in results.items():
        ratios = []
        for one in by_threads.values():
            summary = one["summary"]
            peers = [summary[p]["ns"]["median"] for p in (*PEERS, "glibc")
                     if p in summary and p != name]
            if name not in summary:
                ratios = []
                break
            if peers:
                ratios.append(summary[name]["ns"]["median"] / min(peers))
        means[row] = numbers.geomean(ratios) if ratios else None
    return means


def kept(results, name):
    """Returns {row: {threads: operations per CPU second against those of 2 threads}}."""
    found = {}
    for row, by_threads in results.items():
        def ops(threads, by_threads=by_threads):
            return by_threads.get(threads, {"summary": {}})["summary"].get(name, {}).get("ops")
        two = ops(2)
        found[row] = {n: ops(n)["median"] / two["median"] if ops(n) and two else None for n in KEPT}
    return found


def cell(value):
    return f"{value:8.2f}" if value is not None else f"{'-':>8}"


def show_summary(document):
    rows = list(document["rows"])
    head = f"{'':10} " + "".join(f"{row:>9}" for row in rows)
    print(f"\nCPU time of an operation divided by the best of {', '.join(PEERS)} and glibc with as "
          "many\n"
          f"threads: geometric mean over the numbers of threads\n{head} {'all rows':>9}")
    for name, means in document["against_best"].items():
        whole = [m for m in means.values() if m is not None]
        all_rows = numbers.geomean(whole) if len(whole) == len(means) else None
        print(f"{name:10} " + "".join(" " + cell(means[row]) for row in rows)
              + "  " + cell(all_rows))
    for threads in KEPT:
        shown = {n: k for n, k in document["kept"].items()
                 if any(k[row][threads] is not None for row in rows)}
        if not shown:
            continue
        print(f"\noperations a CPU second with {threads} threads against 2\n{head}")
        for name, k in shown.items():
            print(f"{name:10} " + "".join(" " + cell(k[row][threads]) for row in rows))
    forks = document["rows"].get("fork", {})
    if forks:
        print(f"\nCPU time of fork, us: median\n{'':10} " + "".join(f"{n:>9}" for n in forks))
        for name in document["allocators"]:
            values = [one["summary"].get(name, {}).get("fork_us") for one in forks.values()]
            print(f"{name:10} "
                  + "".join(f"{v['median']:9.0f}" if v else f"{'-':>9}" for v in values))


def counts_of(options):
    counts = options.threads or (QUICK_THREADS if options.quick else THREADS)
    return sorted(set(counts))


def choose(options):
    class Name:
        group = "scale"

        def __init__(self, name):
            self.name, self.text = name, ROWS[name]
    return command.choose([Name(name) for name in ROWS], options.only)


def main(options, places):
    rows = choose(options)
    if options.list:
        command.show_list(rows)
        return 0
    counts = counts_of(options)
    found, missing = allocators.of_options(places, options)
    for text in missing:
        complain(text)
    settings = measure.Settings(places, options)
    started = time.time()
    show_head()
    results, failures = collect([r.name for r in rows], counts, found, settings)
    print(f"\n{TEXT}")
    document = {
        "arguments": sys.argv[1:], "started": int(started),
        "seconds": round(time.time() - started, 1),
        "machine": output.machine(), "threads": counts, "repeat": settings.repeat,
        "scale": settings.scale, "allocators": {a.name: a.malloc for a in found},
        "failures": failures, "rows": results,
        "against_best": {a.name: against_best(results, a.name) for a in found},
        "kept": {a.name: kept(results, a.name) for a in found},
    }
    show_summary(document)
    output.write(options, document, lambda folder: charts.draw_scale(document, folder))
    ours = [a.name for a in found if a.name.partition(":")[0] == "sluice"]
    complete = all(one["summary"] and all(name in one["summary"] for name in ours)
                   for row in results.values() for one in row.values())
    return 0 if complete else 1
