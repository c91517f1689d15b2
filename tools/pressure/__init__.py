# SPDX-License-Identifier: BSD-2-Clause
"""sluice-pressure: which memory comes back, and behaviour under memory pressure. See
sluice-pressure(1). The entry point is cli.py.

    cgroup.py     a memory cgroup with a limit, v1 or v2, for the time of one run; the eater
    run.py        one run of a program, its RSS sampled from outside, and its figures
    workloads.py  the table of workloads, each with the bounds that Sluice must meet
    report.py     the table
    charts.py     RSS over time, on the terminal and as files

Allocators, arguments and rounds are in tools/common, charts in tools/common/charts.py.
"""
