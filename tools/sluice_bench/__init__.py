# SPDX-License-Identifier: BSD-2-Clause
"""sluice-bench: allocators side by side. See sluice-bench(1); cli.py is the way in.

    places.py      where the programs and libraries are
    allocators.py  the allocators, and what is missing
    workloads.py   the table of synthetic workloads
    programs.py    real programs as workloads
    measure.py     interleaved rounds of a workload over all allocators
    numbers.py     medians, paired ratios, intervals, geometric means
    report.py      the table and the JSON
    charts.py      the charts, by gnuplot
    pages.py       sluice-bench pages
"""
