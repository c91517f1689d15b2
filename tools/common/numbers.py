# SPDX-License-Identifier: BSD-2-Clause
"""Statistics of the samples: medians and order statistics only, so no distribution is assumed."""

import math
from statistics import median


def sign_interval(n, level=0.95):
    """Indexes (low, high) in a sorted sample of n, and their coverage for the median.

    The median of the population lies outside the range of n values with probability 2 * 2^-n; the
    probabilities for the values further inwards are binomial, as in the sign test. Below n = 6 no
    interval reaches 95 %; the result is then the whole range with its coverage.
    """
    if n < 1:
        raise ValueError("no samples")
    low, tail = 0, 2.0 ** -n
    while low + 1 < n - low - 2:
        more = tail + math.comb(n, low + 1) * 2.0 ** -n
        if 1 - 2 * more < level:
            break
        low, tail = low + 1, more
    return low, n - 1 - low, max(0.0, 1 - 2 * tail)


def middle(pairs):
    """The median of ratios. For an even number of them, the geometric mean of the middle two (1 for
    2 and 1/2)."""
    ordered = sorted(pairs)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else math.sqrt(ordered[half - 1] * ordered[half])


def ratios(values, base):
    """Ratios paired by round: their median, the low and high of the interval, and all of them."""
    pairs = [a / b for a, b in zip(values, base) if b > 0]
    if not pairs:
        return None
    ordered = sorted(pairs)
    low, high, _ = sign_interval(len(ordered))
    return {"median": middle(pairs), "low": ordered[low], "high": ordered[high], "rounds": pairs}


def interval_name(n, level=0.95):
    """The name of the interval of n samples, in all output."""
    if sign_interval(n)[2] < level:
        return "min..max"
    return f"{level:.0%} interval".replace("%", " %")


def spread(values):
    return {"median": median(values), "min": min(values), "max": max(values)}


def geomean(values):
    values = [v for v in values if v > 0]
    if not values:
        return None
    return math.exp(sum(math.log(v) for v in values) / len(values))


def geomean_of_rounds(rows):
    """rows: for each workload, the ratios of its rounds. Returns the geometric mean of the medians
    over the workloads; its interval comes from the geometric means of single rounds."""
    rows = [r for r in rows if r]
    if not rows:
        return None
    by_round = sorted(geomean([r[i] for r in rows]) for i in range(min(len(r) for r in rows)))
    low, high, _ = sign_interval(len(by_round))
    return {"median": geomean([middle(r) for r in rows]), "low": by_round[low],
            "high": by_round[high], "workloads": len(rows)}
