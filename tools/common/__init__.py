# SPDX-License-Identifier: BSD-2-Clause
"""What sluice-bench, sluice-latency and sluice-pressure share.

    command.py      options, error lines, exit status
    errors.py       the exceptions that end a command or a workload
    places.py       where the programs and libraries are
    allocators.py   the allocators, installed and missing
    measure.py      interleaved rounds of a workload over all allocators
    numbers.py      medians, paired ratios, intervals, geometric means
    percentiles.py  latencies of single calls
    synthetic.py    workloads that are written in C
    redis.py        redis as a workload
    proof.py        proof that a program uses the allocator under test
    comparison.py   one run of a command over its workloads
    output.py       a progress bar, the JSON
    charts.py       drawing by gnuplot
"""
