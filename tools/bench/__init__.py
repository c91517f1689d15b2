# SPDX-License-Identifier: BSD-2-Clause
"""sluice-bench: compares allocators. See sluice-bench(1). The entry point is cli.py.

    workloads.py   the table of synthetic workloads
    report.py      the table and the JSON
    charts.py      the charts, by gnuplot
    pages.py       sluice-bench pages
    drain.py       sluice-bench drain
    scale.py       sluice-bench scale
    services.py    sluice-bench services; servers.py starts and watches them
"""
