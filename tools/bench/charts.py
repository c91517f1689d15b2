# SPDX-License-Identifier: BSD-2-Clause
"""Charts by gnuplot, each as SVG and PNG: time and peak RSS by workload against the baseline, the
latencies of single calls, the cost by thread count; for `drain` when the caches are empty; and for `scale`
what each row does over the number of threads."""

import os
import re
import subprocess

from ..common import percentiles
from ..common.errors import BenchError, UsageError
from ..common.places import program

# Told apart without colour as well, by the form of the points. Ours is drawn last, on top.
STYLES = {"glibc": ("#7f7f7f", 4), "jemalloc": ("#1f5fbf", 6), "mimalloc": ("#e08214", 8),
          "tcmalloc": ("#2a9d4a", 10), "sluice": ("#c2185b", 7), "floor": ("#000000", 1)}
OTHERS = (("#7b3fb5", 12), ("#8c564b", 2), ("#17a2b8", 1), ("#444444", 3))
FONT = "DejaVu Sans"
# Beyond these a point is drawn at the border.
RATIO_LOW, RATIO_HIGH = 1 / 32, 32


def check(folder):
    """Before anything is measured: can the charts be written?"""
    if not program("gnuplot"):
        raise UsageError("--plot needs gnuplot (apt-get install gnuplot-nox)")
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as e:
        raise UsageError(f"--plot {folder}: {e.strerror}") from None
    if not os.access(folder, os.W_OK):
        raise UsageError(f"--plot {folder}: cannot be written")


def style(name, names):
    known = STYLES.get(name)
    if known:
        return known
    others = [n for n in names if n not in STYLES]
    return OTHERS[others.index(name) % len(OTHERS)]


def quoted(text):
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def block(name, lines):
    return f"${name} << END\n" + "\n".join(lines) + "\nEND\n"


def drawn(name, lines, allocator, names, using, form):
    """What one allocator has in a chart: its data as a block, and what plots them."""
    colour, point = style(allocator, names)
    return (block(name, lines),
            f"${name} using {using} lc rgb '{colour}' pt {point} {form} title {quoted(allocator)}")


def render(folder, name, width, height, body):
    """The same commands for both terminals; returns the files."""
    paths = []
    for kind, terminal in (
            ("svg", f"svg size {width},{height} dynamic font {quoted(FONT + ',12')} background '#ffffff'"),
            ("png", f"pngcairo size {width * 2},{height * 2} fontscale 1 font {quoted(FONT + ',12')} "
                    "background '#ffffff' linewidth 2 pointscale 1.6 fontscale 1.9")):
        path = os.path.join(folder, f"{name}.{kind}")
        script = f"set terminal {terminal}\nset output {quoted(path)}\nset encoding utf8\n{body}"
        done = subprocess.run([program("gnuplot"), "-"], input=script, text=True,
                              capture_output=True, check=False)
        if done.returncode != 0 or not os.path.exists(path):
            raise BenchError(f"gnuplot: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
        paths.append(path)
    return paths


def clip(value):
    return min(max(value, RATIO_LOW), RATIO_HIGH)


def marks(lowest, highest):
    """Labels of a logarithmic axis of ratios: powers of two, and some between on a short one."""
    if highest / lowest >= 4:
        found = [(f"1/{1 << k}", 2.0 ** -k) for k in range(5, 0, -1)]
        found += [(str(1 << k), 2.0 ** k) for k in range(6)]
    else:
        found = [(f"{m:g}", m) for m in (0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.1, 1.2, 1.4,
                                         1.6, 2, 2.5, 3, 4)]
    return [(text, m) for text, m in found if lowest / 1.15 <= m <= highest * 1.15]


# ---- drain ------------------------------------------------------------------------------------


def drain_values(name, modes, kinds, key, top):
    """A block of lines `x, low, middle, high` for each kind of threads; what never came is at the top."""
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
    """When the page caches were empty, and the CPU time that a thread paid."""
    kinds = {"asleep": STYLES["jemalloc"], "computing": STYLES["mimalloc"], "hot": STYLES["sluice"]}
    paths = []
    for name, key, title, label in (
            ("drain-time", "ms", "Until the page caches are empty", "ms until the last one is empty"),
            ("drain-cpu", "cpu_us", "What a drain costs a thread", "us of CPU time a thread")):
        modes = {m: v for m, v in document["modes"].items() if m != "none"}
        window = document["window_ms"]
        ticks = ", ".join(f"'{m}' {x}" for x, m in enumerate(modes))
        plots = ", ".join(f"$d{i} using 1:2:3:4 with yerrorbars lc rgb '{colour}' pt {point} ps 1.2 lw 2 "
                          f"title {quoted(kind)}" for i, (kind, (colour, point)) in enumerate(kinds.items()))
        scale = (f"set logscale y\nset yrange [0.005:{window * 2}]\nset ytics add ('never' {window})\n"
                 if key == "ms" else "set yrange [0:*]\n")
        paths += render(folder, name, 760, 460, f"""{drain_values('d', modes, kinds, key, window)}
set title {quoted(f"{title}, {document['threads']} threads")} noenhanced
set grid y lc rgb '#aaaaaa' lw 0.5
set key outside top center horizontal
set xtics ({ticks})
set xrange [-0.5:{len(modes) - 0.5}]
{scale}set ylabel {quoted(label)}
plot {plots}
""")
    return paths


# ---- scale ------------------------------------------------------------------------------------


SCALE_PANELS = (("ops", "operations a CPU second", "set format y '%.0s%c'"),
                ("switches", "context switches for 1,000 operations", "set yrange [0.009:*]"),
                ("worst_us", "worst call, us of CPU time", ""),
                ("peak_mib", "peak RSS, MiB", ""))
SCALE_LEAST = 0.01  # 0 has no place on a logarithmic axis


def draw_scale(document, folder):
    """A chart for each row: four panels over the number of threads."""
    names = [n for n in document["allocators"] if n != "sluice"]
    names += [n for n in document["allocators"] if n == "sluice"]
    counts = document["threads"]
    ticks = ", ".join(f"'{n}' {n}" for n in counts)
    paths = []
    for row, by_threads in document["rows"].items():
        blocks, panels = [], []
        for key, label, settings in SCALE_PANELS:
            plots = []
            for index, allocator in enumerate(names):
                lines = []
                for threads, one in by_threads.items():
                    value = one["summary"].get(allocator, {}).get(key)
                    if value:
                        low, mid, high = (max(value[k], SCALE_LEAST) for k in ("min", "median", "max"))
                        lines.append(f"{threads} {mid:.5f} {low:.5f} {high:.5f}")
                if not lines:
                    continue
                data, plot = drawn(f"{key}{index}", lines, allocator, names, "1:2:3:4 with yerrorlines",
                                   "ps 0.7 lw 1.5")
                blocks.append(data)
                plots.append(plot)
            if plots:
                panels.append(f"set title {quoted(row + ': ' + label)} noenhanced\n"
                              f"set yrange [*:*]\nset format y '%g'\n{settings}\n"
                              f"plot {', '.join(plots)}\n")
        if panels:
            paths += render(folder, f"scale-{row}", 1000, 760, "".join(blocks) + f"""
set multiplot layout 2,2
set logscale xy
set grid lc rgb '#aaaaaa' lw 0.5
set key outside top center horizontal
set xtics ({ticks}) rotate by -45
set xrange [{counts[0] / 1.3}:{counts[-1] * 1.3}]
set xlabel 'threads'
{''.join(panels)}unset multiplot
""")
    return paths


# ---- ratios by workload ----------------------------------------------------------------------


def ratio_chart(folder, name, title, results, names, baseline, key):
    """A row a workload, a point an allocator with its interval, on a logarithmic scale."""
    rows = [r for r in results if any(s[key] for s in r["summary"].values())]
    shown = [n for n in names if n != baseline]
    if not rows or not shown:
        return []
    step = 0.7 / max(1, len(shown))
    blocks, plots = [], []
    lowest, highest = 0.8, 1.25
    for index, allocator in enumerate(shown):
        lines = []
        for y, r in enumerate(reversed(rows)):
            ratio = r["summary"].get(allocator, {}).get(key)
            if ratio:
                low, mid, high = (clip(ratio[k]) for k in ("low", "median", "high"))
                lines.append(f"{mid:.4f} {y + 0.35 - step * (index + 0.5):.3f} {low:.4f} {high:.4f}")
                lowest, highest = min(lowest, mid), max(highest, mid)
        if not lines:
            continue
        data, plot = drawn(f"a{index}", lines, allocator, names, "1:2:3:4 with xerrorbars", "ps 0.8 lw 1")
        blocks.append(data)
        plots.append(plot)
    ticks = ", ".join(f"{quoted(r['name'])} {y}" for y, r in enumerate(reversed(rows)))
    bands = "\n".join(f"set object rectangle from graph 0, first {y - 0.5} to graph 1, first {y + 0.5} "
                      "behind fillcolor rgb '#f3f3f3' fillstyle solid noborder"
                      for y in range(0, len(rows), 2))
    xtics = ", ".join(f"'{text}' {value:.6f}" for text, value in marks(lowest, highest))
    body = "".join(blocks) + f"""
set title {quoted(title)} noenhanced
set logscale x 2
set xrange [{lowest / 1.15}:{highest * 1.15}]
set yrange [-0.6:{len(rows) - 0.4}]
set ytics ({ticks}) noenhanced scale 0
set xtics ({xtics})
set xlabel 'ratio to {baseline} of the same round: median and its interval; left is better'
set grid xtics lc rgb '#aaaaaa' lw 0.5
set key outside top center horizontal
set arrow from 1, graph 0 to 1, graph 1 nohead lc rgb '#000000' lw 1 front
{bands}
plot {', '.join(plots)}
"""
    return render(folder, name, 900, 150 + 24 * len(rows), body)


# ---- lines -----------------------------------------------------------------------------------


def line_chart(folder, name, title, series, names, settings, points_too=True):
    """series: {allocator: [(x, y)]}"""
    blocks, plots = [], []
    for index, (allocator, points) in enumerate(series.items()):
        colour, point = style(allocator, names)
        blocks.append(block(f"a{index}", [f"{x} {y:.4f}" for x, y in points]))
        form = f"linespoints pt {point} ps 1" if points_too else "lines"
        plots.append(f"$a{index} with {form} lc rgb '{colour}' lw 2 "
                     f"title {quoted(allocator)}")
    body = "".join(blocks) + f"""
set title {quoted(title)} noenhanced
set grid lc rgb '#aaaaaa' lw 0.5
set rmargin 6
set key outside top center horizontal
{settings}
plot {', '.join(plots)}
"""
    return render(folder, name, 900, 520, body)


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
    return line_chart(folder, "threads", f"Cost by thread count (local-*t, {clock} time)", points, names,
                      f"""set logscale x 2
set xtics ({ticks})
set xrange [{counts[0] / 1.2}:{counts[-1] * 1.2}]
set yrange [0:*]
set xlabel 'threads'
set ylabel 'ns for a free and a malloc, all threads together'""")


def latency_charts(folder, results, names):
    """A chart for each operation whose calls were timed one by one."""
    paths = []
    for r in results:
        for op in percentiles.operations(r["samples"]):
            curves = {a: percentiles.curve(s, op) for a, s in r["samples"].items()}
            furthest = max(x for points in curves.values() for x, _ in points)
            ticks = ", ".join(f"'{text}' {x:.0f}" for text, x in percentiles.TICKS if x <= furthest)
            paths += line_chart(folder, f"{r['name']}-{op}", f"Latency of {op} ({r['name']}: {r['text']})",
                                curves, names, f"""set logscale xy
set xtics ({ticks})
set xrange [1:{furthest}]
set format y '%.0f'
set xlabel 'percentile of the calls'
set ylabel 'ns'""", points_too=False)
    return paths


def draw(document, folder):
    """All charts for which there is something; returns the files."""
    results = document["workloads"]
    names = [n for n in document["allocators"] if n != "sluice"]
    names += [n for n in document["allocators"] if n == "sluice"]
    clock, baseline = document["settings"]["time"], document["baseline"]
    paths = []
    for groups, suffix, what in ((("synthetic",), "synthetic", "synthetic workloads"),
                                 (("processes", "programs"), "programs", "real programs")):
        rows = [r for r in results if r["group"] in groups]
        paths += ratio_chart(folder, f"time-{suffix}", f"{clock.capitalize()} time, {what}", rows,
                             names, baseline, "time_ratio")
        paths += ratio_chart(folder, f"rss-{suffix}", f"Peak RSS, {what}", rows, names, baseline,
                             "rss_ratio")
    return paths + thread_chart(folder, results, names, clock) + latency_charts(folder, results, names)
