# SPDX-License-Identifier: BSD-2-Clause
"""What sluice-bench, sluice-latency and sluice-pressure share.

    command.py      options, error lines, exit status
    errors.py       the ways in which a command gives up
    places.py       where the programs and libraries are
    allocators.py   the allocators, and which are missing
    measure.py      interleaved rounds of a workload over all allocators
    numbers.py      medians, paired ratios, intervals, geometric means
    percentiles.py  latencies of single calls
    programs.py     real programs as workloads; inputs.py has what they are given to do
"""
