# SPDX-License-Identifier: BSD-2-Clause
"""The table: a row for each workload and allocator."""

import sys
from statistics import median

from .workloads import met

HEADINGS = ("workload", "allocator", "ended", "live", "floor", "peak", "rest", "kept", "back %",
            "back ms", "CPU ms", "p99.99", "worst us", "bound", "")
WIDTHS = (14, 9, 8, 6, 5, 7, 7, 7, 6, 7, 7, 6, 8, 26, 3)
LEFT = (0, 1, 2, 13, 14)
FOOT = """
live, floor (before the first allocation), peak, rest (at the end) and kept (rest above floor and live):
MiB of RSS. back %: of the peak above the floor. back ms: from the moment all is freed until the RSS is
within 10 % of live plus floor plus 64 KiB a thread. CPU ms: of the process after that moment. p99.99
and worst: single calls of malloc or free, in us, of a thread that nobody touches, meanwhile."""


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
    """The worst of the rounds, with the time at which it was."""
    killed = [s["seconds"] for s in samples if s["ended"] == "OOM"]
    return f"OOM {min(killed):.1f}s" if killed else "survived"


def judged(samples):
    """For each bound the median of its values, held against the limit once more."""
    result = []
    for several in zip(*(s["bounds"] for s in samples)):
        values = [b["value"] for b in several if b["value"] is not None]
        one = dict(several[0])
        one["value"] = median(values) if len(values) == len(several) else None
        one["met"] = met(one["value"], one["limit"], one["least"])
        result.append(one)
    return result


KEYS = ("live_kib", "floor_kib", "peak_kib", "rest_kib", "kept_kib", "back_share", "back_ms", "cpu_ms",
        "p9999_us", "worst_us", "busy_p9999_us", "busy_worst_us", "stalled_ms", "total_cpu_ms")


def summarize(samples):
    """{allocator: medians over the rounds}"""
    result = {}
    for name, several in samples.items():
        if several:
            one = {key: middle(several, key) for key in KEYS}
            # Half of the rounds or more never got there: no median.
            if sum(s["back_ms"] is None for s in several) * 2 >= len(several):
                one["back_ms"] = None
            one["ended"] = ended(several)
            one["bounds"] = judged(several)
            result[name] = one
    return result


def lines_of(workload, summary):
    name = workload.name
    for allocator, s in summary.items():
        # Under a limit what counts is what happens while memory is short, not after.
        worst = "busy_" if workload.group == "limit" else ""
        share = 100 * s["back_share"] if s["back_share"] is not None else None
        cells = [name, allocator, s["ended"], mib(s["live_kib"]), mib(s["floor_kib"]),
                 mib(s["peak_kib"]), mib(s["rest_kib"]), mib(s["kept_kib"]), plain(share),
                 plain(s["back_ms"]), plain(s["cpu_ms"], 1), plain(s[worst + "p9999_us"], 1),
                 plain(s[worst + "worst_us"])]
        # The first bound in the row, further ones below it.
        first, *more = [bound_cells(b) for b in s["bounds"]] or [("", "")]
        yield line((*cells, *first))
        for pair in more:
            yield line(("",) * len(cells) + pair)
        if s["stalled_ms"] is not None:
            yield f"{'':{WIDTHS[0]}}  {'':{WIDTHS[1]}}  tasks waited for memory (PSI): " \
                  f"{s['stalled_ms']:.0f} ms"
        name = ""


def bound_cells(b):
    sign = ">=" if b["least"] else "<="
    return (f"{figure(b['value'])} {b['text']} {sign} {figure(b['limit'])}",
            "yes" if b["met"] else "NO")


class Table:
    def __init__(self):
        self.started = False

    def show(self, workload, summary, chart):
        if not summary:
            return
        if not self.started:
            self.started = True
            print(line(HEADINGS))
            print("-" * (sum(WIDTHS) + 2 * len(WIDTHS) - 2))
        for text in lines_of(workload, summary):
            print(text)
        if chart:
            print(chart)
        sys.stdout.flush()

    def end(self, results, ours):
        if not self.started:
            return
        print(FOOT)
        bounds = [(r["name"], b) for r in results
                  for b in r["summary"].get(ours, {}).get("bounds", ())]
        if bounds:
            missed = [f"{name} ({figure(b['value'])} {b['text']})" for name, b in bounds
                      if not b["met"]]
            print(f"\n{ours} keeps {len(bounds) - len(missed)} of {len(bounds)} bounds"
                  + (f"; not: {', '.join(missed)}" if missed else ""))
