# SPDX-License-Identifier: BSD-2-Clause
"""Drawing by gnuplot, each chart as SVG and PNG; and the latency chart of single calls."""

import os
import subprocess

from . import percentiles
from .errors import BenchError, UsageError
from .places import program

# Points differ in form as well as in colour.
STYLES = {"glibc": ("#7f7f7f", 4), "jemalloc": ("#1f5fbf", 6), "mimalloc": ("#e08214", 8),
          "tcmalloc": ("#2a9d4a", 10), "sluice": ("#c2185b", 7), "floor": ("#000000", 1)}
OTHERS = (("#7b3fb5", 12), ("#8c564b", 2), ("#17a2b8", 1), ("#444444", 3))
FONT = "DejaVu Sans"
# For axes of times, in ns.
UNITS = (("ns", 1), ("us", 1e3), ("ms", 1e6), ("s", 1e9))


def check(folder):
    """Checks before the measurement that the charts can be written."""
    if not program("gnuplot"):
        raise UsageError("--plot needs gnuplot (apt-get install gnuplot-nox)")
    try:
        os.makedirs(folder, exist_ok=True)
    except FileExistsError:
        raise UsageError(f"--plot {folder}: is not a directory") from None
    except OSError as e:
        raise UsageError(f"--plot {folder}: cannot be made: {e.strerror}") from None
    if not os.access(folder, os.W_OK):
        raise UsageError(f"--plot {folder}: cannot be written")


def ours_last(names):
    """Puts Sluice last, so that its curve is drawn on top."""
    return [n for n in names if n != "sluice"] + [n for n in names if n == "sluice"]


def style(name, names):
    known = STYLES.get(name)
    if known:
        return known
    others = [n for n in names if n not in STYLES]
    return OTHERS[others.index(name) % len(OTHERS)]


def quoted(text):
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def key(title):
    """The title, with the legend below it."""
    return f"set key outside top center horizontal noenhanced title {quoted(title)} font ',12'"


def time_axis(axis, low, high, unit=1):
    """A logarithmic axis from low to high, with a label at each power of ten: 10 us, 1 ms. unit:
    the unit of the data in ns."""
    steps = [(f"{n} {name}", n * ns / unit) for name, ns in UNITS for n in (1, 10, 100)]
    low, high = low / 1.3, high * 1.3
    if high < 30 * low:
        steps = [(f"{n} {name}", n * ns / unit) for name, ns in UNITS
                 for n in (1, 2, 5, 10, 20, 50, 100, 200, 500)]
    shown = ", ".join(f"'{text}' {value:g}" for text, value in steps if low <= value <= high)
    return f"set logscale {axis}\nset {axis}range [{low:g}:{high:g}]\nset {axis}tics ({shown})\n"


def block(name, lines):
    return f"${name} << END\n" + "\n".join(lines) + "\nEND\n"


def drawn(name, lines, allocator, names, using, form):
    """The part of one allocator in a chart: its data as a block, and the element that plots it."""
    colour, point = style(allocator, names)
    return (block(name, lines),
            f"${name} using {using} lc rgb '{colour}' pt {point} {form} title {quoted(allocator)}")


def render(folder, name, width, height, body):
    """Runs the commands for both terminals; returns the files."""
    paths = []
    for kind, terminal in (
            ("svg", f"svg size {width},{height} dynamic font {quoted(FONT + ',12')} "
                    "background '#ffffff'"),
            ("png", f"pngcairo size {width * 2},{height * 2} fontscale 1 "
                    f"font {quoted(FONT + ',12')} background '#ffffff' linewidth 2 pointscale 1.6 "
                    "fontscale 1.9")):
        path = os.path.join(folder, f"{name}.{kind}")
        script = f"set terminal {terminal}\nset output {quoted(path)}\nset encoding utf8\n{body}"
        done = subprocess.run([program("gnuplot"), "-"], input=script, text=True,
                              capture_output=True, check=False)
        if done.returncode != 0 or not os.path.exists(path):
            raise BenchError(f"gnuplot: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
        paths.append(path)
    return paths


# ---- lines -----------------------------------------------------------------------------------


def line_chart(folder, name, title, series, names, settings, points_too=True):
    """series: {allocator: [(x, y)]}; settings: the axes, as gnuplot commands."""
    blocks, plots = [], []
    for index, (allocator, points) in enumerate(series.items()):
        colour, point = style(allocator, names)
        blocks.append(block(f"a{index}", [f"{x} {y:.4f}" for x, y in points]))
        form = f"linespoints pt {point} ps 1" if points_too else "lines"
        plots.append(f"$a{index} with {form} lc rgb '{colour}' lw 2 "
                     f"title {quoted(allocator)}")
    body = "".join(blocks) + f"""
{key(title)}
set grid lc rgb '#aaaaaa' lw 0.5
set rmargin 6
{settings}
plot {', '.join(plots)}
"""
    return render(folder, name, 900, 520, body)


def latency_charts(folder, results, names):
    """One chart for each operation whose calls were timed one by one."""
    paths = []
    for r in results:
        for op in percentiles.operations(r["samples"]):
            curves = {a: percentiles.curve(s, op) for a, s in r["samples"].items()}
            furthest = max(x for points in curves.values() for x, _ in points)
            times = [y for points in curves.values() for _, y in points if y > 0]
            ticks = ", ".join(f"'{text}' {x:.0f}" for text, x in percentiles.TICKS if x <= furthest)
            paths += line_chart(folder, f"{r['name']}-{op}",
                                f"Latency of {op} ({r['name']}: {r['text']})",
                                curves, names, f"""set logscale x
set xtics ({ticks})
set xrange [1:{furthest}]
{time_axis("y", min(times), max(times))}set xlabel 'percentile of the calls'""", points_too=False)
    return paths
