# SPDX-License-Identifier: BSD-2-Clause
"""Reads the files that the library writes: jemalloc's heap_v2 with lines of our own."""

import math
import re
from dataclasses import dataclass, field

from ..common.command import shown
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


FIGURES = re.compile(r"([0-9]+): ([0-9]+) \[([0-9]+): ([0-9]+)\]")
MAPPING = re.compile(r"([0-9a-f]+)-([0-9a-f]+) r.x. ([0-9a-f]+) \S+ \d+ +(/.*|\[vdso\])$")
NUMBER = re.compile(r"[0-9]{1,20}")
ADDRESS = re.compile(r"(0x)?[0-9a-f]{1,16}")
LIMIT = 1 << 64
STEPS = 64
LINE_MOST = 1 << 20


def number(text, limit=LIMIT):
    n = int(text) if NUMBER.fullmatch(text) else limit
    if n >= limit:
        raise ValueError
    return n


def address(text):
    if not ADDRESS.fullmatch(text):
        raise ValueError
    return int(text, 16)


def numbers(texts, count):
    if len(texts) != count:
        raise ValueError
    return tuple(map(number, texts))


def step(text):
    """STEP:N, of a line with lifetimes"""
    at, _, n = text.partition(":")
    return number(at, STEPS), number(n)


def read_figures(site, line):
    word, _, rest = line.partition(": ")
    parts = rest.split(" ")
    if word == "t*":
        found = FIGURES.fullmatch(rest)
        n = numbers(found.groups() if found else (), 4)
        site.live, site.ever = n[:2], n[2:]
    elif word == "life":
        site.freed, site.freed_ns = numbers(parts[:2], 2)
        site.lifetimes = dict(map(step, parts[2:]))
    elif word in ("age", "idle"):
        setattr(site, word, numbers(parts, 2))
    elif word == "pins":
        site.pinned, = numbers(parts, 1)


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


def read_mapping(mappings, line):
    found = MAPPING.match(line)
    if found:
        start, end, offset = map(address, found.groups()[:3])
        mappings.append(Mapping(start, end, offset, found.group(4)))


def read_line(sites, line):
    if line.startswith("@"):
        sites.append(Site(tuple(map(address, line[1:].split()))))
    elif sites:
        read_figures(sites[-1], line)


def mean_of(line):
    head, _, text = line.partition("/")
    try:
        return number(text) if head == "heap_v2" else 0
    except ValueError:
        return 0


def parse(lines, path):
    mean = mean_of(next(lines, ""))
    if not mean:
        raise BenchError(f"{path}: not a heap profile, the first line has to be heap_v2/BYTES")
    sites, mappings = [], []
    in_mappings = False
    for at, line in enumerate(lines, 2):
        line = line.strip()
        try:
            if line == "MAPPED_LIBRARIES:":
                in_mappings = True
            elif in_mappings:
                read_mapping(mappings, line)
            else:
                read_line(sites, line)
        except ValueError:
            raise BenchError(f"{path}: not a whole heap profile, line {at} is damaged") from None
    if not in_mappings:
        raise BenchError(f"{path}: the profile ends too early, it has no MAPPED_LIBRARIES")
    return Profile(mean, merged(sites), mappings)


def read(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as f:
            lines = iter(lambda: f.readline(LINE_MOST), "")
            return parse((line.rstrip("\n") for line in lines), path)
    except OSError as e:
        raise BenchError(f"{shown(path)}: {e.strerror}") from None
