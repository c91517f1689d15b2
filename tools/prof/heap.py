# SPDX-License-Identifier: BSD-2-Clause
"""Reads the files that the library writes: jemalloc's heap_v2 with lines of our own."""

import math
import re
from dataclasses import dataclass, field

from ..common.errors import BenchError


@dataclass
class Site:
    """A stack (innermost frame first) and what was counted for it, not multiplied up."""
    stack: tuple
    live: tuple = (0, 0)  # objects, bytes
    ever: tuple = (0, 0)
    idle: tuple = (0, 0)
    freed: int = 0
    freed_ns: int = 0
    lifetimes: dict = field(default_factory=dict)  # step n: lived 2^(n-1) to 2^n ns
    age: tuple = (0, 0)  # live objects, the sum of their ages in ns
    pinned: int = 0  # bytes, an estimate


@dataclass
class Mapping:
    start: int
    end: int
    offset: int
    path: str


@dataclass
class Profile:
    mean: int  # bytes between two samples
    sites: list
    mappings: list

    def scaled(self, counts):
        """Objects and bytes that the samples stand for, as jeprof computes them."""
        objects, size = counts
        if not objects or not size:
            return 0.0, 0.0
        factor = 1 / -math.expm1(-size / objects / self.mean)
        return objects * factor, size * factor


FIGURES = re.compile(r"t\*: (\d+): (\d+) \[(\d+): (\d+)\]$")
MAPPING = re.compile(r"([0-9a-f]+)-([0-9a-f]+) r.x. ([0-9a-f]+) \S+ \d+ +(/.*|\[vdso\])$")


def read_figures(site, line):
    found = FIGURES.match(line)
    if found:
        n = [int(text) for text in found.groups()]
        site.live, site.ever = (n[0], n[1]), (n[2], n[3])
        return
    word, _, rest = line.partition(": ")
    if word == "life":
        numbers = rest.split(" ")
        site.freed, site.freed_ns = int(numbers[0]), int(numbers[1])
        site.lifetimes = {int(s): int(n) for s, n in (part.split(":") for part in numbers[2:])}
    elif word in ("age", "idle"):
        setattr(site, word, tuple(int(text) for text in rest.split(" ")))
    elif word == "pins":
        site.pinned = int(rest)


def merged(sites):
    """Two threads may have made two sites of one stack."""
    one = {}
    for s in sites:
        have = one.setdefault(s.stack, s)
        if have is s:
            continue
        for name in ("live", "ever", "idle", "age"):
            setattr(have, name, tuple(map(sum, zip(getattr(have, name), getattr(s, name)))))
        for name in ("freed", "freed_ns", "pinned"):
            setattr(have, name, getattr(have, name) + getattr(s, name))
        for step, n in s.lifetimes.items():
            have.lifetimes[step] = have.lifetimes.get(step, 0) + n
    return list(one.values())


def parse(lines, path):
    head = re.fullmatch(r"heap_v2/(\d+)", next(lines, ""))
    if not head or not int(head.group(1)):
        raise BenchError(f"{path}: not a heap profile, the first line has to be heap_v2/BYTES")
    sites, mappings = [], []
    in_mappings = False
    for line in lines:
        line = line.strip()
        if line == "MAPPED_LIBRARIES:":
            in_mappings = True
        elif in_mappings:
            found = MAPPING.match(line)
            if found:
                start, end, offset = (int(text, 16) for text in found.groups()[:3])
                mappings.append(Mapping(start, end, offset, found.group(4)))
        elif line.startswith("@"):
            sites.append(Site(tuple(int(pc, 16) for pc in line[1:].split())))
        elif sites:
            read_figures(sites[-1], line)
    if not in_mappings:
        raise BenchError(f"{path}: the profile ends too early, it has no MAPPED_LIBRARIES")
    return Profile(int(head.group(1)), merged(sites), mappings)


def read(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as f:
            return parse((line.rstrip("\n") for line in f), path)
    except OSError as e:
        raise BenchError(f"{path}: {e.strerror}") from None
    except (ValueError, TypeError):
        raise BenchError(f"{path}: not a whole heap profile") from None
