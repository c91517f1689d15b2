# SPDX-License-Identifier: BSD-2-Clause
"""sluice-bench: allocators side by side. See sluice-bench(1); cli.py is the way in.

    workloads.py   the table of synthetic workloads
    report.py      the table and the JSON
    charts.py      the charts, by gnuplot
    pages.py       sluice-bench pages
    drain.py       sluice-bench drain
    scale.py       sluice-bench scale
"""
