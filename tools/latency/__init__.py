# SPDX-License-Identifier: BSD-2-Clause
"""sluice-latency: the tail of malloc and free, allocators side by side. See sluice-latency(1); cli.py
is the way in. Allocators, rounds and charts are in tools/common and tools/bench.

    workloads.py   the table of workloads
    report.py      what is made of the samples, and the tables
"""
