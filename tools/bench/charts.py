# SPDX-License-Identifier: BSD-2-Clause
"""The charts of sluice-bench: time and peak RSS by workload against the baseline, and the time by
number of threads. For `drain`: the times at which the pcps are empty. For `scale`: each row over
the number of threads."""

import re

from ..common import numbers
from ..common.charts import (STYLES, block, drawn, key, latency_charts, line_chart, ours_last,
                             quoted, render, time_axis)

# A point beyond these is drawn at the border.
RATIO_LOW, RATIO_HIGH = 1 / 32, 32
TIMES = {"cpu": "CPU time", "wall": "wall time"}


def clip(value):
    return min(max(value, RATIO_LOW), RATIO_HIGH)


def marks(lowest, highest):
    """Labels for a logarithmic axis of ratios: powers of two; on a short axis, also values
    between."""
    if highest / lowest >= 4:
        found = [(f"1/{1 << k}", 2.0 ** -k) for k in range(5, 0, -1)]
        found += [(str(1 << k), 2.0 ** k) for k in range(6)]
    else:
        found = [(f"{m:g}", m) for m in (0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.1, 1.2, 1.4,
                                         1.6, 2, 2.5, 3, 4)]
    return [(text, m) for text, m in found if lowest / 1.15 <= m <= highest * 1.15]


# ---- drain ------------------------------------------------------------------------------------


def drain_values(name, modes, kinds, key, top):
    """A block of lines `x, low, middle, high` for each kind of threads. A drain that never ended is
    drawn at the top."""
    blocks = []
    for index, kind in enumerate(kinds):
        lines = []
        for x, mode in enumerate(modes):
            value = modes[mode]["kinds"][kind][key]
            if value is None or isinstance(value, dict):
                low, middle, high = (value[k] if value else top for k in ("min", "median", "max"))
            else:
                low = middle = high = value
            lines.append(f"{x + (index - 1) * 0.2:.2f} {middle:.4f} {low:.4f} {high:.4f}")
        blocks.append(block(f"{name}{index}", lines))
    return "".join(blocks)


def draw_drain(document, folder):
    """The times at which the pcps were empty, and the CPU time that each thread paid."""
    kinds = {"asleep": STYLES["jemalloc"], "computing": STYLES["mimalloc"], "hot": STYLES["sluice"]}
    paths = []
    for name, field, title, label in (
            ("drain-time", "ms", "Time until the pcps are empty", "until the last one is empty"),
            ("drain-cpu", "cpu_us", "What a drain costs each thread", "CPU time of a thread, us")):
        modes = {m: v for m, v in document["modes"].items() if m != "none"}
        window = document["window_ms"]
        ticks = ", ".join(f"'{m}' {x}" for x, m in enumerate(modes))
        plots = ", ".join(f"$d{i} using 1:2:3:4 with yerrorbars lc rgb '{colour}' pt {point} "
                          f"ps 1.2 lw 2 title {quoted(kind)}"
                          for i, (kind, (colour, point)) in enumerate(kinds.items()))
        scale = (f"{time_axis('y', 0.007, window / 2, 1e6)}set yrange [*:{window * 2}]\n"
                 f"set ytics add ('never' {window})\n" if field == "ms" else "set yrange [0:*]\n")
        paths += render(folder, name, 760, 460, f"""{drain_values('d', modes, kinds, field, window)}
{key(f"{title}, {document['threads']} threads")}
set grid y lc rgb '#aaaaaa' lw 0.5
set xtics ({ticks})
set xrange [-0.5:{len(modes) - 0.5}]
{scale}set ylabel {quoted(label)}
plot {plots}
""")
    return paths


# ---- scale ------------------------------------------------------------------------------------


SCALE_PANELS = (("ops", "operations per CPU second", "set format y '%.0s%c'"),
                ("switches", "context switches per 1,000 operations", "set yrange [0.009:*]"),
                ("worst_us", "slowest call, CPU time", None),
                ("peak_mib", "peak RSS, MiB", ""))
SCALE_LEAST = 0.01  # 0 has no place on a logarithmic axis


def draw_scale(document, folder):
    """A chart for each row: four panels over the number of threads."""
    names = ours_last(document["allocators"])
    counts = document["threads"]
    ticks = ", ".join(f"'{n}' {n}" for n in counts)
    paths = []
    for row, by_threads in document["rows"].items():
        blocks, panels = [], []
        for field, label, settings in SCALE_PANELS:
            plots, ends = [], []
            for index, allocator in enumerate(names):
                lines = []
                for threads, one in by_threads.items():
                    value = one["summary"].get(allocator, {}).get(field)
                    if value:
                        low, mid, high = (max(value[k], SCALE_LEAST)
                                          for k in ("min", "median", "max"))
                        lines.append(f"{threads} {mid:.5f} {low:.5f} {high:.5f}")
                if not lines:
                    continue
                data, plot = drawn(f"{field}{index}", lines, allocator, names,
                                   "1:2:3:4 with yerrorlines", "ps 0.7 lw 1.5")
                blocks.append(data)
                plots.append(plot)
                ends += [float(y) for line in lines for y in line.split()[2:]]
            if plots:
                if settings is None:
                    settings = time_axis("y", min(ends), max(ends), 1e3)
                panels.append(f"{key(row + ': ' + label)}\n"
                              f"set yrange [*:*]\nset ytics auto\nset format y '%g'\n{settings}\n"
                              f"plot {', '.join(plots)}\n")
        if panels:
            paths += render(folder, f"scale-{row}", 1000, 760, "".join(blocks) + f"""
set multiplot layout 2,2
set logscale xy
set grid lc rgb '#aaaaaa' lw 0.5
set xtics ({ticks}) rotate by -45
set xrange [{counts[0] / 1.3}:{counts[-1] * 1.3}]
set xlabel 'threads'
{''.join(panels)}unset multiplot
""")
    return paths


# ---- ratios by workload ----------------------------------------------------------------------


def ratio_chart(folder, name, title, results, names, baseline, field, interval):
    """One row per workload, one point per allocator with its interval, on a logarithmic scale."""
    rows = [r for r in results if any(s[field] for s in r["summary"].values())]
    shown = [n for n in names if n != baseline]
    if not rows or not shown:
        return []
    step = 0.7 / max(1, len(shown))
    blocks, plots = [], []
    lowest, highest = 0.8, 1.25
    for index, allocator in enumerate(shown):
        lines = []
        for y, r in enumerate(reversed(rows)):
            ratio = r["summary"].get(allocator, {}).get(field)
            if ratio:
                low, mid, high = (clip(ratio[k]) for k in ("low", "median", "high"))
                lines.append(f"{mid:.4f} {y + 0.35 - step * (index + 0.5):.3f} "
                             f"{low:.4f} {high:.4f}")
                lowest, highest = min(lowest, mid), max(highest, mid)
        if not lines:
            continue
        data, plot = drawn(f"a{index}", lines, allocator, names, "1:2:3:4 with xerrorbars",
                           "ps 0.8 lw 1")
        blocks.append(data)
        plots.append(plot)
    ticks = ", ".join(f"{quoted(r['name'])} {y}" for y, r in enumerate(reversed(rows)))
    bands = "\n".join(f"set object rectangle from graph 0, first {y - 0.5} to graph 1, "
                      f"first {y + 0.5} behind fillcolor rgb '#f3f3f3' fillstyle solid noborder"
                      for y in range(0, len(rows), 2))
    xtics = ", ".join(f"'{text}' {value:.6f}" for text, value in marks(lowest, highest))
    body = "".join(blocks) + f"""
{key(title)}
set logscale x 2
set xrange [{lowest / 1.15}:{highest * 1.15}]
set yrange [-0.6:{len(rows) - 0.4}]
set ytics ({ticks}) noenhanced scale 0
set xtics ({xtics})
set xlabel 'divided by that of {baseline} in the same round: median and {interval}; left is better'
set grid xtics lc rgb '#aaaaaa' lw 0.5
set arrow from 1, graph 0 to 1, graph 1 nohead lc rgb '#000000' lw 1 front
{bands}
plot {', '.join(plots)}
"""
    return render(folder, name, 900, 150 + 24 * len(rows), body)


def thread_chart(folder, results, names, clock):
    points = {}
    for r in results:
        match = re.fullmatch(r"local-(\d+)t", r["name"])
        for allocator, s in r["summary"].items() if match else ():
            points.setdefault(allocator, []).append((int(match.group(1)), s["ns"]["median"]))
    points = {a: p for a, p in points.items() if len(p) > 1}
    if not points:
        return []
    counts = sorted({x for p in points.values() for x, _ in p})
    ticks = ", ".join(f"'{x}' {x}" for x in counts)
    title = f"Time of a free and a malloc by number of threads (local-*t, {TIMES[clock]})"
    return line_chart(folder, "threads", title, points, names, f"""set logscale x 2
set xtics ({ticks})
set xrange [{counts[0] / 1.2}:{counts[-1] * 1.2}]
set yrange [0:*]
set xlabel 'threads'
set ylabel 'ns, all threads together'""")


def draw(document, folder):
    """Draws all charts that have data; returns their files."""
    results = document["workloads"]
    names = ours_last(document["allocators"])
    clock, baseline = document["settings"]["time"], document["baseline"]
    interval = numbers.interval_name(document["settings"]["repeat"])
    paths = []
    for groups, suffix, what in ((("synthetic",), "synthetic", "Synthetic workloads"),
                                 (("processes", "programs"), "programs", "Real programs")):
        rows = [r for r in results if r["group"] in groups]
        paths += ratio_chart(folder, f"time-{suffix}", f"{what}: {TIMES[clock]}", rows, names,
                             baseline, "time_ratio", interval)
        paths += ratio_chart(folder, f"rss-{suffix}", f"{what}: peak RSS", rows, names, baseline,
                             "rss_ratio", interval)
    paths += thread_chart(folder, results, names, clock)
    return paths + latency_charts(folder, results, names)
