# SPDX-License-Identifier: BSD-2-Clause
"""sluice-latency: the tail of malloc and free, allocators side by side. See sluice-latency(1); cli.py
is the way in. What is not here is sluice_bench's: allocators, rounds, charts.

    workloads.py   the table of workloads
    report.py      what is made of the samples, and the tables
"""
