# SPDX-License-Identifier: BSD-2-Clause
"""The output of programs that time each call (tools/common/record.c): "calls" of a sample has the
percentiles and a curve for each operation, in ns."""

from statistics import median

NAMES = ("p50", "p90", "p99", "p99.9", "p99.99", "p99.999", "max")
# By 1 / (1 - p), as in curves.
TICKS = (("0", 1), ("50", 2), ("90", 10), ("99", 100), ("99.9", 1e3), ("99.99", 1e4),
         ("99.999", 1e5),
         ("99.9999", 1e6))


def operations(samples):
    """The recorded operations, in the order of the program; none for other workloads."""
    first = next((s[0] for s in samples.values() if s), {})
    return list(first.get("calls", ()))


def curve(samples, op):
    """Returns [(1 / (1 - p), median over the rounds in ns)], up to the point that all rounds
    reach."""
    rows = [s["calls"][op]["curve"] for s in samples]
    return [(points[0][0], median(y for _, y in points)) for points in zip(*rows)]


def short(ns):
    """A time of up to 10 us in ns, a longer one with three digits: 12.3u, 109u, 1.20m."""
    for unit, size in (("", 1), ("u", 1e3), ("m", 1e6)):
        value = ns / size
        if abs(value) < (9999.5 if unit == "" else 999.5) or unit == "m":
            break
    return f"{value:.0f}" if unit == "" else three_digits(value) + unit


def three_digits(value):
    return f"{value:.{0 if abs(value) >= 99.95 else 1 if abs(value) >= 9.995 else 2}f}"


def span(low, high, form):
    """min..max, with the unit only once if both have the same."""
    low, high = form(low), form(high)
    return (low[:-1] if low[-1] == high[-1] and low[-1].isalpha() else low) + ".." + high
