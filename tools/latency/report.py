# SPDX-License-Identifier: BSD-2-Clause
"""The figures of the samples, and the tables."""

import sys

from ..common import percentiles
from ..common.allocators import PEERS
from ..common.numbers import spread

from .workloads import FLOOR

RIVALS = (*PEERS, "glibc")
# Per million calls.
ABOVE = ("above_1us", "above_5us", "above_20us")
CAUSES = ("faulted", "waited", "preempted")
THREAD = ("minor_faults", "major_faults", "voluntary_switches", "involuntary_switches")
OPERATIONS = {"malloc": "malloc with the first touch of the block", "free": "free",
              "period": "from the time to wake up until the work is done", "request": "a request"}
BESIDE = ("p99", "p99.9", "p99.99", "above_5us")


def known(name, count):
    """Whether a percentile of so many calls is meaningful: at least one call lies above it."""
    return name == "max" or count * (1 - float(name[1:]) / 100) >= 1


def figures(samples, op, floor):
    """The figures of one allocator: spreads over the rounds; the excess over the floor of the same
    round."""
    calls = [s["calls"][op] for s in samples]
    made = {"count": calls[0]["count"], "excess": {}}
    for name in percentiles.NAMES:
        if not known(name, made["count"]):
            continue
        made[name] = spread([c[name] for c in calls])
        if floor:
            made["excess"][name] = spread([c[name] - s["calls"][op][name]
                                           for c, s in zip(calls, floor)])
    # A period is not a call and is always longer.
    for name in (*ABOVE, *CAUSES) if op != "period" else ():
        if name in calls[0]:
            made[name] = spread([1e6 * c[name] / c["count"] for c in calls])
    return made


def best_ratio(rows, ours, value):
    """Our value divided by the least of the peers. None if that is 0; 0 if ours is 0."""
    theirs = {a: value(rows[a]) for a in RIVALS if a in rows}
    theirs = {a: v for a, v in theirs.items() if v is not None}
    mine = value(rows[ours])
    if not theirs or mine is None:
        return None
    best = min(theirs, key=theirs.get)
    return {"ratio": max(0, mine) / theirs[best], "best": best} if theirs[best] > 0 else None


def summarize(samples):
    """Returns {operation: {allocator: figures}}. Sluice also has `best`: the ratios to the best
    peer, of the counts and of the excess of each percentile over the floor (without a floor, of the
    percentile)."""
    floor = samples.get(FLOOR)
    summary = {}
    for op in percentiles.operations(samples):
        rows = {a: figures(s, op, floor if a != FLOOR else None) for a, s in samples.items()}
        for name in [a for a in rows if a.partition(":")[0] == "sluice"]:
            def excess(row, key):
                found = (row["excess"] if floor else row).get(key)
                return found["median"] if found else None
            rows[name]["best"] = {
                **{p: best_ratio(rows, name, lambda r, p=p: excess(r, p))
                   for p in percentiles.NAMES},
                **{p: best_ratio(rows, name, lambda r, p=p: r[p]["median"] if p in r else None)
                   for p in ABOVE}}
        summary[op] = rows
    return summary


def thread_figures(samples):
    """Returns {allocator: {minor_faults: spread, ...}} of the measured thread."""
    return {a: {key: spread([s[key] for s in rows]) for key in THREAD}
            for a, rows in samples.items() if rows and THREAD[0] in rows[0]}


def beside(samples, others):
    """Returns {operation: {allocator: {p99.99: spread of the ratios of the rounds, ...}}}."""
    made = {}
    for op in percentiles.operations(samples):
        for allocator, rows in samples.items():
            pairs = [(a["calls"][op], b["calls"][op])
                     for a, b in zip(rows, others.get(allocator, ()))]
            ratios = {key: [a[key] / b[key] for a, b in pairs if b[key]] for key in BESIDE}
            made.setdefault(op, {})[allocator] = {k: spread(v) for k, v in ratios.items() if v}
    return made


# ---- the tables ------------------------------------------------------------------------------


def number(value):
    """A number with three or four digits; k: thousands."""
    if abs(value) >= 9999.5:
        return percentiles.three_digits(value / 1e3) + "k"
    return f"{value:.0f}" if value == 0 or abs(value) >= 100 else f"{value:.1f}"


def ratio(value):
    return f"{value:.2f}"


class Table:
    """Columns of figures, one row per allocator; below each figure its min..max over the rounds."""

    def __init__(self, allocators, columns, title, width=11):
        self.first, self.width = max(10, *(len(a) for a in allocators)), width
        heading = f"\n{title}\n" if title else ""
        print(f"{heading}{'':{self.first}}" + "".join(f" {c:>{width}}" for c in columns))

    def row(self, name, cells):
        print((f"{name:{self.first}}" + "".join(f" {c:>{self.width}}" for c in cells)).rstrip())

    def spreads(self, name, values, form):
        self.row(name, [form(v["median"]) if v else "-" for v in values])
        if any(v and v["min"] != v["max"] for v in values):
            self.row("", [percentiles.span(v["min"], v["max"], form) if v else "" for v in values])


def show_best(rows, columns, keys):
    """Prints each Sluice divided by the best peer, column by column."""
    ours = {a: row["best"] for a, row in rows.items() if "best" in row}
    if not ours:
        return
    table = Table(rows, columns, "  divided by the best peer's")
    found = [next((b[key]["best"] for b in ours.values() if b[key]), "-") for key in keys]
    table.row("best peer", found)
    for allocator, best in ours.items():
        table.row(allocator, [ratio(best[key]["ratio"]) if best[key] else "-" for key in keys])


def show_operation(op, rows, repeat):
    names = percentiles.NAMES
    table = Table(rows, names, f"  {OPERATIONS[op]}: ns (u: us, m: ms), medians of {repeat} "
                  "rounds, min..max below")
    for allocator, row in rows.items():
        table.spreads(allocator, [row.get(p) for p in names], percentiles.short)
    if FLOOR in rows:
        table = Table(rows, names, "  above the floor of the same round, 0 if below it")
        for allocator, row in rows.items():
            if allocator != FLOOR:
                table.row(allocator, [percentiles.short(max(0, row["excess"][p]["median"]))
                                      if p in row["excess"] else "-" for p in names])
    show_best(rows, names, names)
    if ABOVE[0] not in next(iter(rows.values())):
        return
    columns = ("> 1 us", "> 5 us", "> 20 us")
    table = Table(rows, (*columns, *CAUSES),
                  "  calls per million (k: thousands); right: causes of those above 5 us")
    for allocator, row in rows.items():
        table.spreads(allocator, [row[key] for key in (*ABOVE, *CAUSES)], number)
    show_best(rows, columns, ABOVE)


def show_thread(rows):
    table = Table(rows, ("minor faults", "major faults", "sleeps", "preemptions"),
                  "  the measured thread", 13)
    for allocator, row in rows.items():
        table.spreads(allocator, [row[key] for key in THREAD], number)


def show(result, repeat):
    print(f"\n{result['name']}: {result['text']}")
    for op, rows in result["summary_by_operation"].items():
        show_operation(op, rows, repeat)
    if result["thread"]:
        show_thread(result["thread"])
    for op, rows in (result.get("beside") or {}).items():
        table = Table(rows, [key.replace("above_", "> ") for key in BESIDE],
                      f"  {op}: ratio to {result['beside_name']}")
        for allocator, row in rows.items():
            table.spreads(allocator, [row.get(key) for key in BESIDE], ratio)
    sys.stdout.flush()


def show_overview(results):
    """Prints one line for each workload, operation and Sluice: the ratios to the best peer."""
    keys = ("p99.9", "p99.99", "above_5us")
    rows = [(f"{r['name']} {op}" + (f" ({a})" if a != "sluice" else ""), row["best"])
            for r in results for op, found in r["summary_by_operation"].items()
            for a, row in found.items() if "best" in row]
    if not rows:
        return
    print("\nSluice divided by the best peer in each column: time above the floor, and calls above "
          "5 us")
    table = Table([name for name, _ in rows], ("p99.9", "p99.99", "> 5 us"), "", 14)
    for name, best in rows:
        table.row(name, [f"{b['ratio']:.2f} {b['best']}" if b else "-"
                         for b in (best[key] for key in keys)])
