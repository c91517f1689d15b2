# SPDX-License-Identifier: BSD-2-Clause
"""The table: one row per workload and allocator."""

import sys
import textwrap
from statistics import median

from .workloads import met

# 98 columns with gaps of two.
HEADINGS = ("allocator", "ended", "live", "peak", "rest", "kept", "back %", "back ms", "CPU ms",
            "p99.99", "worst us")
WIDTHS = (12, 9, 6, 6, 6, 6, 6, 7, 6, 6, 8)
LEFT = (0, 1)
FOOT = """
live, peak, rest, kept: MiB of RSS. The floor is the RSS before the first allocation; rest is
measured at the end; kept is rest minus the floor and live. back %: share of the peak above the
floor that came back. back ms: time from the last free until the RSS is at most the floor plus
1.1 x live plus 64 KiB per thread. CPU ms: CPU time of the process after the last free. p99.99,
worst us: calls of malloc and free in that time, timed one by one in a separate thread."""


def line(cells):
    return "  ".join(str(c).ljust(w) if i in LEFT else str(c).rjust(w)
                     for i, (c, w) in enumerate(zip(cells, WIDTHS))).rstrip()


def middle(samples, key):
    values = [s[key] for s in samples if s.get(key) is not None]
    return median(values) if values else None


def mib(kib):
    if kib is None:
        return "-"
    return f"{kib / 1024:.0f}" if abs(kib) >= 100 * 1024 else f"{kib / 1024:.1f}"


def plain(value, digits=0):
    return "-" if value is None else f"{value:.{digits}f}"


def figure(value):
    return "-" if value is None else f"{value:.0f}" if abs(value) >= 100 else \
        f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def ended(samples):
    """The worst end of the rounds, with its time."""
    killed = [s["seconds"] for s in samples if s["ended"] == "OOM"]
    return f"OOM {min(killed):.1f} s" if killed else "survived"


def judged(samples):
    """For each bound, the median of its values, compared with the limit again."""
    result = []
    for several in zip(*(s["bounds"] for s in samples)):
        values = [b["value"] for b in several if b["value"] is not None]
        one = dict(several[0])
        one["value"] = median(values) if len(values) == len(several) else None
        one["met"] = met(one["value"], one["limit"], one["least"])
        result.append(one)
    return result


KEYS = ("live_kib", "floor_kib", "peak_kib", "rest_kib", "kept_kib", "back_share", "back_ms",
        "cpu_ms", "p9999_us", "worst_us", "busy_p9999_us", "busy_worst_us", "stalled_ms",
        "total_cpu_ms")


def summarize(samples):
    """Returns {allocator: medians over the rounds}."""
    result = {}
    for name, several in samples.items():
        if several:
            one = {key: middle(several, key) for key in KEYS}
            # No median if half of the rounds or more never got there.
            if sum(s["back_ms"] is None for s in several) * 2 >= len(several):
                one["back_ms"] = None
            one["ended"] = ended(several)
            one["bounds"] = judged(several)
            result[name] = one
    return result


def lines_of(workload, summary):
    for allocator, s in summary.items():
        # Under a limit, the calls made while memory is short count, not the later ones.
        worst = "busy_" if workload.group == "limit" else ""
        share = 100 * s["back_share"] if s["back_share"] is not None else None
        yield line((allocator, s["ended"], mib(s["live_kib"]), mib(s["peak_kib"]),
                    mib(s["rest_kib"]), mib(s["kept_kib"]), plain(share),
                    plain(s["back_ms"]), plain(s["cpu_ms"], 1),
                    plain(s[worst + "p9999_us"], 1), plain(s[worst + "worst_us"])))
        if s["stalled_ms"] is not None:
            yield f"{'':{WIDTHS[0]}}  tasks waited for memory (PSI): {s['stalled_ms']:.0f} ms"
    # One line for each bound, with all allocators.
    for several in zip(*(s["bounds"] for s in summary.values())):
        yield from bound_lines(several[0], dict(zip(summary, several)))


def bound_lines(bound, judged):
    sign = "at least" if bound["least"] else "at most"
    parts = []
    for met_it, words in ((True, "met by"), (False, "missed by")):
        cells = [f"{a} ({figure(b['value'])})" for a, b in judged.items() if b["met"] == met_it]
        if cells:
            parts.append(f"{words} {', '.join(cells)}")
    return textwrap.wrap(f"bound: {bound['text']} {sign} {bound['limit']:.3g}: {'; '.join(parts)}",
                         width=100, initial_indent="  ", subsequent_indent="    ")


class Table:
    def __init__(self):
        self.started = False

    def show(self, workload, summary, chart):
        if not summary:
            return
        self.started = True
        print(f"\n{workload.name}: {workload.text}\n{line(HEADINGS)}")
        for text in lines_of(workload, summary):
            print(text)
        if chart:
            print(f"\n{chart}")
        sys.stdout.flush()

    def end(self, results, ours):
        if not self.started:
            return
        print(FOOT)
        bounds = [(r["name"], b) for r in results
                  for b in r["summary"].get(ours, {}).get("bounds", ())]
        if bounds:
            missed = [f"{name} ({b['text']} {figure(b['value'])})" for name, b in bounds
                      if not b["met"]]
            print(f"\n{ours} meets {len(bounds) - len(missed)} of {len(bounds)} bounds"
                  + (f"; it misses {', '.join(missed)}" if missed else ""))
