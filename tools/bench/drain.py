# SPDX-License-Identifier: BSD-2-Clause
"""sluice-bench drain: who empties the pcps of many threads, how soon they are empty, and what the
threads pay. Each mode runs in a process of its own; the modes are interleaved."""

import sys
from statistics import median

from ..common import measure, numbers, output
from ..common.errors import BenchError, UsageError
from ..common.numbers import spread

from . import charts, report

MODES = ("remote", "signal", "cooperative", "none")
KINDS = ("asleep", "computing", "hot")
THREADS = 64
PAID = ("signals", "voluntary", "involuntary", "cpu_us", "worst_us", "worst_cpu_us")
TEXT = """\
Who empties the pcps: remote: the drainer, as Sluice does; signal: each thread its own, in a signal
handler; cooperative: each thread its own, at its next call for pages; none: nobody. The threads are
asleep in read, computing, or hot (malloc and page blocks in a loop). CPU us: all CPU time of a
sleeping thread; for other threads, the CPU time of their own draining. Worst call of the hot
threads: by wall time, mostly waiting for a processor, and by CPU time."""


def collect(settings, progress):
    """Returns {mode: [output of each run]}."""
    program = settings.places.program("sluice-bench-drain")
    samples = {mode: [] for mode in MODES}
    for number in range(settings.repeat):
        shift = number % len(MODES)
        for mode in MODES[shift:] + MODES[:shift]:
            progress.step("drain", mode)
            try:
                text = measure.run([program, mode, str(settings.threads)],
                                   env=measure.environment(), timeout=settings.timeout)
                samples[mode].append(measure.json_line(text))
            except measure.Failed as why:
                raise BenchError(f"drain: {mode}: {why}") from None
    progress.clear()
    return samples


def all_ms(run):
    """When the last pcp was empty; None if some never were."""
    kinds = run["kinds"].values()
    return None if any(k["left"] for k in kinds) else max(k["ms"] for k in kinds)


def summarize(samples):
    """For each mode: when all pcps were empty, the ratio to remote, and the medians of each
    kind."""
    result = {}
    remote = [all_ms(run) for run in samples["remote"]]
    for mode, runs in samples.items():
        times = [all_ms(run) for run in runs]
        whole = [(t, r) for t, r in zip(times, remote) if t is not None and r is not None]
        kinds = {}
        for kind in KINDS:
            rows = [run["kinds"][kind] for run in runs]
            reached = [r["ms"] for r in rows if r["left"] < r["threads"]]
            kinds[kind] = {"threads": rows[0]["threads"], "left": median(r["left"] for r in rows),
                           "ms": spread(reached) if reached else None,
                           **{key: median(r[key] for r in rows) for key in PAID}}
        result[mode] = {
            "runs": len(runs), "complete": len(whole),
            "ms": spread([t for t, _ in whole]) if whole else None,
            "to_remote": numbers.ratios(*zip(*whole)) if whole else None,
            "left": median(sum(run["kinds"][k]["left"] for k in KINDS) for run in runs),
            "drainer_cpu_us": median(run["drainer_cpu_us"] for run in runs), "kinds": kinds}
    return result


def show(summary, window):
    head = (f"{'drain':11} {'threads':>13} {'emptied after, ms':>20} {'never':>5} {'signals':>7} "
            f"{'vol.':>6} {'invol.':>6} {'CPU us':>7} {'wall':>8} {'CPU':>7}")
    print(f"{'':60} {'switches':>13} {'':7} {'worst call, us':>16}\n{head}\n{'-' * len(head)}")
    for mode, s in summary.items():
        name = mode
        for kind, k in s["kinds"].items():
            ms = k["ms"]
            when = report.figure(ms["median"]) + f" ({report.figure(ms['min'])}.." \
                f"{report.figure(ms['max'])})" if ms else "-"
            left = f"{k['left']:.0f}" if k["left"] else "-"
            text = (f"{name:11} {k['threads']:3} {kind:>9} {when:>20} {left:>5} "
                    f"{k['signals']:7.1f} {k['voluntary']:6.1f} {k['involuntary']:6.1f} "
                    f"{k['cpu_us']:7.1f}")
            if kind == "hot":
                text += f" {k['worst_us']:8.0f} {k['worst_cpu_us']:7.1f}"
            print(text)
            name = ""
    print(f"\nfor each thread, within {window} ms: signals, context switches, CPU time\n{TEXT}\n")
    for mode in MODES[:3]:
        s = summary[mode]
        if not s["complete"]:
            print(f"{mode:12} not all empty after {window} ms: {s['left']:.0f} are left")
            continue
        ratio = s["to_remote"]
        some = f" (in {s['complete']} of {s['runs']} runs)" if s["complete"] < s["runs"] else ""
        print(f"{mode:12} all empty{some} after {s['ms']['median']:.3f} ms, "
              f"{ratio['median']:.1f} x remote ({ratio['low']:.1f}..{ratio['high']:.1f}); "
              f"the drainer's CPU time: {s['drainer_cpu_us']:.0f} us")


def main(options, places):
    if not 16 <= options.threads <= 1024:
        raise UsageError(f"--threads {options.threads}: has to be 16 to 1024 with drain")
    settings = measure.Settings(places, options)
    samples = collect(settings, output.Progress(settings.repeat * len(MODES)))
    summary = summarize(samples)
    window = samples["none"][0]["window_ms"]
    show(summary, window)
    report.show_coverage(settings.repeat)
    document = {"arguments": sys.argv[1:], "machine": output.machine(), "window_ms": window,
                "threads": settings.threads, "modes": summary, "runs": samples}
    output.write(options, document, lambda folder: charts.draw_drain(document, folder))
    return 0
