# SPDX-License-Identifier: BSD-2-Clause
"""The output: the table, the lines below it, the JSON."""

import sys
from statistics import median

from ..common import numbers, percentiles
from ..common.allocators import PEERS

# 100 columns with gaps of two.
WIDTHS = (15, 10, 9, 12, 10, 14, 6, 10)
LEFT = (0, 1)
UNITS = ((1e9, "s"), (1e6, "ms"), (1e3, "us"), (1.0, "ns"))


def headings(baseline, repeat):
    ratio = f"/ {baseline}"
    return (("", "", "time", "", "time", numbers.interval_name(repeat), "RSS", "RSS"),
            ("workload", "allocator", "median", "min..max", ratio, "of the ratio", "MiB", ratio))


def line(cells):
    text = "  ".join(str(c).ljust(w) if i in LEFT else str(c).rjust(w)
                     for i, (c, w) in enumerate(zip(cells, WIDTHS)))
    return text.rstrip()


def figure(value):
    """A number with three or four significant digits."""
    return f"{value:.0f}" if value >= 1000 else f"{value:.1f}" if value >= 100 else f"{value:.2f}"


def interval(ratio):
    return f"{ratio['low']:.3f}..{ratio['high']:.3f}"


def summarize(workload, samples, clock, baseline):
    """For each allocator: times and peak RSS, and both as paired ratios against the baseline."""
    time_key = "ns_per_op" if clock == "wall" else "cpu_ns_per_op"
    times = {a: [s[time_key] for s in rows] for a, rows in samples.items()}
    peaks = {a: [s["peak_kib"] for s in rows] for a, rows in samples.items()}
    rivals = [a for a in PEERS if a in times]
    if workload.group != "synthetic" and "glibc" in times:
        rivals.append("glibc")
    best = min(rivals, key=lambda a: median(times[a]), default=None)
    result = {}
    for name, values in times.items():
        result[name] = {
            "ns": {"median": median(values), "min": min(values), "max": max(values)},
            "peak_kib": {"median": median(peaks[name]), "min": min(peaks[name]),
                         "max": max(peaks[name])},
            "end_kib": median(s.get("end_kib", 0) for s in samples[name]),
            "time_ratio": numbers.ratios(values, times[baseline]) if baseline in times else None,
            "rss_ratio": numbers.ratios(peaks[name], peaks[baseline])
                         if baseline in times else None,
            "best": best,
            "best_ratio": numbers.ratios(values, times[best]) if best else None,
        }
    return result


def lines_of(workload, summary, baseline):
    """The rows of the table for one workload."""
    if not summary:
        return
    reference = summary.get(baseline) or next(iter(summary.values()))
    scale, unit = next(((s, u) for s, u in UNITS if reference["ns"]["median"] >= 10 * s), UNITS[-1])
    name = workload.name
    for allocator, s in summary.items():
        time, rss = s["time_ratio"], s["rss_ratio"]
        low, mid, high = (figure(s["ns"][k] / scale) for k in ("min", "median", "max"))
        yield line((name, allocator, f"{mid} {unit}", f"{low}..{high}",
                    f"{time['median']:.3f}" if time else "-", interval(time) if time else "-",
                    f"{s['peak_kib']['median'] / 1024:.1f}",
                    f"{rss['median']:.3f}" if rss else "-"))
        name = ""


class Table:
    def __init__(self, baseline, repeat):
        self.baseline, self.repeat = baseline, repeat
        self.started = False

    def show(self, workload, summary):
        if not self.started:
            self.started = True
            for cells in headings(self.baseline, self.repeat):
                print(line(cells))
            print("-" * (sum(WIDTHS) + 2 * len(WIDTHS) - 2))
        for text in lines_of(workload, summary, self.baseline):
            print(text)
        sys.stdout.flush()


# ---- below the table -------------------------------------------------------------------------


def geomeans(results):
    """For each group and allocator, over the workloads that both the allocator and the baseline
    did."""
    means = {}
    for group in dict.fromkeys(r["group"] for r in results):
        rows = [r["summary"] for r in results if r["group"] == group]
        for allocator in dict.fromkeys(a for r in rows for a in r):
            mine = [r[allocator] for r in rows if allocator in r]
            means.setdefault(group, {})[allocator] = {
                key: numbers.geomean_of_rounds([m[key]["rounds"] for m in mine if m[key]])
                for key in ("time_ratio", "best_ratio", "rss_ratio")}
    return means


def show_geomeans(means, baseline, repeat):
    for group, rows in means.items():
        count = max((m["time_ratio"]["workloads"] for m in rows.values() if m["time_ratio"]),
                    default=0)
        if count == 0:
            continue
        peers = ", ".join(PEERS) + (", glibc" if group != "synthetic" else "")
        print(f"\nGeometric means over {count} {group} workloads, in parentheses the "
              f"{numbers.interval_name(repeat)};\nbest: in each workload, the fastest of {peers}")
        print(f"{'':10}  {'time / ' + baseline:>28}  {'time / best':>28}  "
              f"{'RSS / ' + baseline:>28}")
        for allocator, m in rows.items():
            cells = [f"{m[k]['median']:.3f} ({interval(m[k])})" if m[k] else "-"
                     for k in ("time_ratio", "best_ratio", "rss_ratio")]
            print(f"{allocator:10}  {cells[0]:>28}  {cells[1]:>28}  {cells[2]:>28}")


def show_slower(results, allocator, baseline, bound=1.05):
    """Prints the workloads whose whole interval lies above the bound."""
    slow = []
    for r in results:
        ratio = r["summary"].get(allocator, {}).get("time_ratio")
        if ratio and ratio["low"] > bound:
            slow.append(f"{r['name']} ({ratio['median']:.2f})")
    if slow:
        print(f"\n{allocator} is slower than {bound} x {baseline} in {len(slow)}: "
              f"{', '.join(slow)}")


def show_percentiles(results):
    """Prints medians over the rounds, for workloads that time single calls."""
    for r in results:
        for op in percentiles.operations(r["samples"]):
            print(f"\n{r['name']}: percentiles of {op}: ns (u: us, m: ms)\n{'':10}"
                  + "".join(f"{p:>10}" for p in percentiles.NAMES))
            for allocator, samples in r["samples"].items():
                print(f"{allocator:10}" + "".join(
                    f"{percentiles.short(median(s['calls'][op][p] for s in samples)):>10}"
                    for p in percentiles.NAMES))


def show_coverage(repeat):
    if numbers.interval_name(repeat) == "min..max":
        print(f"\nWith {repeat} round{'s' * (repeat > 1)}, only min..max of a ratio is shown; "
              "6 rounds or more give its 95 % interval.")
