# SPDX-License-Identifier: BSD-2-Clause
"""sluice-bench pages: the page layer by itself. The program is linked with the layers, so nothing
is preloaded. Each run measures every row, and ratios compare rows of the same run."""

import sys
from statistics import median

from ..common import measure, numbers, output
from ..common.errors import BenchError

from . import report

BULK = (1, 2, 3, 4, 8, 16, 32, 64, 128)
# How the owner of a pcp enters it; tools/bench/pcp_variants.h explains them.
WAYS = ("spin", "none", "handoff")


def collect(settings, progress):
    """Returns {(name, n): [row of each run]} and ticks_per_ns."""
    program = settings.places.program("sluice-bench-pages")
    passes = "11" if settings.quick else "51"
    samples, rate = {}, 0.0
    for number in range(settings.repeat):
        progress.step("pages", "sluice")
        core = settings.cores[number % len(settings.cores)]
        try:
            result = measure.json_line(measure.run([program, passes], core=core,
                                                   env=measure.environment(),
                                                   timeout=settings.timeout))
        except measure.Failed as why:
            raise BenchError(f"pages: {why}") from None
        rate = result["ticks_per_ns"]
        for row in result["rows"]:
            samples.setdefault((row["name"], row["n"]), []).append(row)
    progress.clear()
    return samples, rate


def summarize(samples):
    """Returns the rows with their medians and their ratios to single pages; the ratios of the pcp
    to the other paths; and the ratios of the other ways into a pcp to the spinlock."""
    def ratio(key, base):
        return numbers.ratios([r["ticks"] for r in samples[key]],
                              [r["ticks"] for r in samples[base]])
    rows = []
    for key, runs in samples.items():
        ticks = [r["ticks"] for r in runs]
        rows.append({"name": key[0], "n": key[1], "ticks": median(ticks), "min": min(ticks),
                     "max": max(ticks), "ns": median(r["ns"] for r in runs),
                     "to_single": ratio(key, ("single", 1))})
    cheaper = {name: ratio(("pcp", 1), (name, 1)) for name in ("buddy", "buddy-split")}
    ways = [{"name": key[0], "n": key[1], "to_spin": ratio(key, (spin_of(key[0]), key[1]))}
            for key in samples if "pcp_lock=" in key[0]]
    return rows, cheaper, ways


def spin_of(name):
    return name.partition("=")[0] + "=spin"


def cell(row):
    return f"{row['ticks']:7.1f} {row['ns']:6.1f} {row['to_single']['median']:6.3f} " \
           f"({report.interval(row['to_single'])})"


def show(rows, cheaper, rate, repeat):
    by_key = {(r["name"], r["n"]): r for r in rows}
    unit = "cycles" if rate != 1.0 else "ticks"
    print(f"Cost of a page, allocated and freed: {unit} ({rate:.2f} a ns), ns, and the ratio to "
          "single\n"
          f"pages with its {numbers.interval_name(repeat)}")
    head = f"{unit:>7} {'ns':>6} {'ratio':>6} {'':14}"
    print(f"\n{'pages':>8}  {'array':36}  {'list':36}\n"
          f"{'a call':>8}  {head:36}  {head:36}".rstrip())
    print(f"{'single':>8}  {cell(by_key['single', 1])}")
    for n in BULK:
        print(f"{n:8}  {cell(by_key['array', n]):36}  {cell(by_key['list', n])}")
    print(f"{'128 single pages in turn':>8}: {cell(by_key['singles', 128]).strip()}")
    print(f"\n{'path':28} {unit:>8} {'ns':>7}  the pcp is cheaper by")
    for name, text in (("pcp", "pcp (hits)"), ("buddy", "buddy core, no split"),
                       ("buddy-split", "buddy core, split and merge")):
        row = by_key[name, 1]
        line = f"{text:28} {row['ticks']:8.1f} {row['ns']:7.1f}"
        if name in cheaper:
            c = cheaper[name]
            line += f"  {100 * (1 - c['median']):.1f} % ({100 * (1 - c['high']):.1f} to " \
                    f"{100 * (1 - c['low']):.1f})"
        print(line)


def show_ways(rows, ways, rate, repeat):
    by_key = {(r["name"], r["n"]): r for r in rows}
    ratios = {(w["name"], w["n"]): w["to_spin"] for w in ways}
    unit = "cycles" if rate != 1.0 else "ticks"
    print("\nThe owner's way into its pcp (hits only): the ratio is to pcp_lock=spin, with its "
          f"{numbers.interval_name(repeat)}")
    head = f"{unit:>7} {'ns':>6}"
    wide = f"{head} {'ratio':>6} {'':14}"
    print(f"{'pages':>8}  {'pcp_lock=spin':14}  {'pcp_lock=none':36}  pcp_lock=handoff\n"
          f"{'a call':>8}  {head:14}  {wide:36}  {wide}".rstrip())
    for label, name, n in ([("single", "pcp_lock", 0)] + [(str(n), "pcp_lock", n) for n in BULK]
                           + [("cache", "cache,pcp_lock", 0)]):
        cells = []
        for way in WAYS:
            row = by_key[f"{name}={way}", n]
            text = f"{row['ticks']:7.1f} {row['ns']:6.1f}"
            if way != "spin":
                r = ratios[f"{name}={way}", n]
                text += f" {r['median']:6.3f} ({report.interval(r)})"
            cells.append(text.ljust(36 if way != "spin" else 14))
        print(f"{label:>8}  {'  '.join(cells)}".rstrip())
    print("cache: single pages without what the public functions do around it")


def main(options, places):
    settings = measure.Settings(places, options)
    samples, rate = collect(settings, output.Progress(settings.repeat))
    rows, cheaper, ways = summarize(samples)
    show(rows, cheaper, rate, settings.repeat)
    show_ways(rows, ways, rate, settings.repeat)
    report.show_coverage(settings.repeat)
    document = {
        "arguments": sys.argv[1:], "machine": output.machine(), "ticks_per_ns": rate,
        "rows": rows, "pcp_to_buddy": cheaper, "pcp_lock": ways,
        "runs": [{"name": k[0], "n": k[1], "ticks": [r["ticks"] for r in v]}
                 for k, v in samples.items()]}
    output.write(options, document, None)
    return 0
