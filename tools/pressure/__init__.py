# SPDX-License-Identifier: BSD-2-Clause
"""sluice-pressure: what comes back, and under pressure. See sluice-pressure(1); cli.py is the way in.

    cgroup.py     a memory cgroup with a limit, v1 or v2, for the time of one run; the eater
    run.py        one run of a program, its RSS sampled from outside, and the figures of it
    workloads.py  the table of workloads, each with the bounds that Sluice is held to
    report.py     the table
    charts.py     RSS over time, on the terminal and as files

Allocators, arguments and rounds are in tools/common, charts in tools/bench.
"""
