# SPDX-License-Identifier: BSD-2-Clause
"""RSS over time by gnuplot: in plain characters for the terminal, as SVG and as PNG; and a chart of
the memory that each workload keeps."""

import subprocess

from ..common.charts import block, drawn, key, ours_last, quoted, render, style
from ..common.places import program

WIDTH, HEIGHT = 100, 20
POINTS = 300  # per line, so that the files stay small


def thinned(rss):
    """Drops points inside a level stretch. If too many are left, keeps the lowest and the highest
    of each step of time, so that no extreme is lost."""
    bends = [p for before, p, after in zip([None, *rss], rss, [*rss[1:], None])
             if not before or not after or not before[1] == p[1] == after[1]]
    if len(bends) <= POINTS:
        return bends
    step = -(-len(bends) * 2 // POINTS)
    kept = []
    for i in range(0, len(bends), step):
        part = bends[i:i + step]
        order = sorted(range(len(part)), key=lambda k: part[k][1])
        kept += [part[k] for k in sorted({order[0], order[-1]})]
    return kept


def series(result, names):
    """Returns the first round: [(allocator, [(s, MiB)], whether it was killed)]."""
    found = []
    for name in names:
        samples = result["samples"].get(name)
        if samples and samples[0]["rss"]:
            found.append((name, [(at / 1000, kib / 1024) for at, kib in thinned(samples[0]["rss"])],
                          samples[0]["ended"] == "OOM"))
    return found


def blocks_of(found):
    return "".join(block(f"a{i}", [f"{x:.3f} {y:.2f}" for x, y in points])
                   for i, (_, points, _) in enumerate(found))


def title_of(name, killed):
    return name + (" (killed)" if killed else "")


def on_terminal(result, names):
    """A chart in plain characters. None without gnuplot or without samples."""
    gnuplot = program("gnuplot")
    found = series(result, names)
    if not gnuplot or not found:
        return None
    plots = ", ".join(f"$a{i} using 1:2 with lines title {quoted(title_of(name, killed))}"
                      for i, (name, _, killed) in enumerate(found))
    script = f"""set terminal dumb {WIDTH} {HEIGHT} nofeed noenhanced
{blocks_of(found)}
set title {quoted(result['name'] + ': RSS in MiB over time in s')}
set yrange [0:*]
set key outside right top
plot {plots}
"""
    done = subprocess.run([gnuplot, "-"], input=script, text=True, capture_output=True, check=False)
    if done.returncode != 0:
        return None
    return "\n".join(text.rstrip() for text in done.stdout.strip("\n\f").splitlines()) + "\n"


def rss_chart(folder, result, names):
    found = series(result, names)
    if not found:
        return []
    plots = []
    for i, (name, _, killed) in enumerate(found):
        colour, _ = style(name, names)
        plots.append(f"$a{i} using 1:2 with lines lc rgb '{colour}' lw 2 "
                     f"title {quoted(title_of(name, killed))}")
        if killed:
            plots.append(f"$a{i} using 1:2 every ::{len(found[i][1]) - 1} with points "
                         f"lc rgb '{colour}' pt 2 ps 1.5 lw 2 notitle")
    limit = next((s["limit"] for several in result["samples"].values() for s in several
                  if s.get("limit")), None)
    if limit:
        plots.append(f"{limit / (1 << 20):.1f} with lines lc rgb '#000000' dt 2 title 'limit'")
    body = blocks_of(found) + f"""
{key(result['name'] + ': ' + result['text'])}
set grid lc rgb '#aaaaaa' lw 0.5
set rmargin 4
set yrange [0:*]
set xlabel 'seconds'
set ylabel 'RSS, MiB'
plot {', '.join(plots)}
"""
    return render(folder, f"rss-{result['name']}", 800, 400, body)


def kept_chart(folder, results, names):
    """One row per workload: MiB above floor and live at its end, on a logarithmic axis."""
    rows = [r for r in results if r["group"] == "idle"]
    if not rows:
        return []
    blocks, plots = [], []
    step = 0.6 / max(1, len(names))
    for i, name in enumerate(names):
        lines = []
        for y, r in enumerate(reversed(rows)):
            s = r["summary"].get(name)
            if s and s["kept_kib"] is not None:
                lines.append(f"{max(s['kept_kib'] / 1024, 0.5):.2f} "
                             f"{y + 0.3 - step * (i + 0.5):.3f}")
        if not lines:
            continue
        data, plot = drawn(f"a{i}", lines, name, names, "1:2 with points", "ps 1")
        blocks.append(data)
        plots.append(plot)
    if not plots:
        return []
    ticks = ", ".join(f"{quoted(r['name'])} {y}" for y, r in enumerate(reversed(rows)))
    body = "".join(blocks) + f"""
{key('Kept while all threads sleep: RSS above the floor and the live objects')}
set logscale x
set xrange [0.4:2000]
set yrange [-0.6:{len(rows) - 0.4}]
set ytics ({ticks}) noenhanced scale 0
set xlabel 'left is better'
set xtics ('<= 0.5 MiB' 0.5, '' 1, '10 MiB' 10, '100 MiB' 100, '1 GiB' 1024)
set grid xtics lc rgb '#aaaaaa' lw 0.5
plot {', '.join(plots)}
"""
    return render(folder, "kept", 800, 150 + 28 * len(rows), body)


def draw(results, names, folder):
    """Draws all charts that have data; returns their files."""
    names = ours_last(names)
    paths = kept_chart(folder, results, names)
    for result in results:
        paths += rss_chart(folder, result, names)
    return paths
