# SPDX-License-Identifier: BSD-2-Clause
"""sluice-latency: compares the slowest malloc and free calls of allocators. See sluice-latency(1).
The entry point is cli.py. Allocators, rounds and charts are in tools/common.

    workloads.py   the table of workloads
    report.py      the figures of the samples, and the tables
"""
