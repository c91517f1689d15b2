# SPDX-License-Identifier: BSD-2-Clause
"""The workloads: rows over the sub-commands of sluice-pressure-work, with the bounds that Sluice
must meet. Names that begin with a letter and a number (m1, e9, l2) stand for scenarios
that users of other allocators reported."""

import contextlib
import os
from dataclasses import dataclass
from typing import Callable

from ..common.errors import Skip

from . import cgroup
from .run import SLACK_KIB, run

MIB = 1024  # in KiB
# Parameters that --scale and --quick make smaller.
SIZES = ("mib", "objects", "rounds", "drains")
# How long --quick waits after all threads sleep.
QUICK_MS = 2500


@dataclass(frozen=True)
class Bound:
    """A value of a sample, and its upper (or lower) limit. None: the sample has no value."""

    text: str
    value: Callable
    limit: Callable
    least: bool = False

    def judge(self, sample):
        value = self.value(sample)
        limit = self.limit(sample)
        return {"text": self.text, "value": value, "limit": limit, "least": self.least,
                "met": met(value, limit, self.least)}


def met(value, limit, least):
    return value is not None and (value >= limit if least else value <= limit)


def threads_of(sample):
    return next((e["threads"] for e in sample["events"]), 0)


def kept(limit):
    return Bound("MiB kept", lambda s: s["kept_kib"] / MIB if s["kept_kib"] is not None else None,
                 lambda s: limit)


# Within 10 % of live, plus 64 KiB per thread.
BACK = Bound("MiB kept", lambda s: s["kept_kib"] / MIB if s["kept_kib"] is not None else None,
             lambda s: (0.1 * (s["live_kib"] or 0) + SLACK_KIB * threads_of(s)) / MIB)


def number(name):
    return lambda s: (s["report"] or {}).get(name)


def ratio(above, below):
    def value(s):
        r = s["report"] or {}
        return r[above] / r[below] if r.get(below) else None
    return value


def steady(s):
    event = next((e for e in s["events"] if e["event"] == "steady"), None)
    return (event["rss_kib"] - s["floor_kib"]) * 1024 / event["live"] if event else None


def most_kept(s):
    """The most memory kept, from one second after the event on."""
    if s["idle_at_ms"] is None or s["rest_kib"] is None:
        return None
    later = [kib for at, kib in s["rss"] if at > s["idle_at_ms"] + 1000]
    return (max(later + [s["rest_kib"]]) - s["floor_kib"] - s["live_kib"]) / MIB


def time_ratio(s):
    other = s.get("without_limit")
    if s["ended"] != "ok" or not other or not other["report"]:
        return None
    return s["report"]["ns"] / other["report"]["ns"]


def drain_ratio(s):
    r = s["report"] or {}
    return (r["drain_ns"] - r["barrier_ns"]) / r["madvise_ns"] if r.get("madvise_ns") else None


def left_share(s):
    peak = next((e["rss_kib"] for e in s["events"] if e["event"] == "peak"), 0) - s["floor_kib"]
    left = number("left_kib")(s)
    return 100 * left / peak if left is not None and peak > 0 else None


def more_sleeps(s):
    r = s["report"] or {}
    return r["with_voluntary"] - r["without_voluntary"] if "with_voluntary" in r else None


def preempted_ratio(s):
    """Preemptions per second of the hot thread, with drains against without. Other programs on the
    machine preempt it too."""
    r = s["report"] or {}
    if not r.get("without_involuntary"):
        return None
    return (r["with_involuntary"] / r["with_ms"]) / (r["without_involuntary"] / r["without_ms"])


def grown(s):
    r = s["report"] or {}
    return r["maps_max"] - r["maps_start"] if "maps_max" in r else None


def one_core_ratio(s):
    other = s.get("one_core")
    if not other:
        return None
    return s["peak_kib"] / other["peak_kib"]


class Workload:
    """One row: a name, the sub-command, its parameters, its bounds, and how it is run."""

    def __init__(self, name, command, text, *, bounds=(), group="idle", limit=None, conf=None,
                 cores=False, quick=None, **params):
        self.name = name
        self.command = command
        self.text = text
        self.bounds = bounds
        self.group = group
        self.limit = limit      # MiB; also run without it, to compare the times
        self.conf = conf        # an option for Sluice, if the library has it
        self.cores = cores      # also run on one core
        self.quick = quick or {}
        self.params = params

    pinned = False

    @contextlib.contextmanager
    def ready(self, settings):
        if (self.limit or settings.limit or settings.eater) and os.geteuid() != 0:
            raise Skip(f"it {cgroup.NEEDS_ROOT}")
        yield

    def arguments(self, settings):
        params = dict(self.params)
        if settings.quick:
            if "ms" in params:
                params["ms"] = min(params["ms"], QUICK_MS)
            params.update(self.quick)
        for key in SIZES:
            preset = settings.quick and key in self.quick
            if key in params and not preset and not self.limit:
                params[key] = max(1, int(params[key] * settings.scale))
        if settings.seconds and "ms" in params:
            params["ms"] = int(settings.seconds * 1000)
        if settings.probe is not None and self.command != "drains":
            params["probe"] = int(settings.probe)
        return [f"{key}={value}" for key, value in params.items() if value]

    def measure(self, allocator, settings, core):
        argv = [settings.work, self.command, *self.arguments(settings)]
        conf = self.conf if has_option(allocator, self.conf) else None
        if self.limit:
            limit = settings.limit
            if limit in (None, "auto"):
                limit = (self.quick["limit"] if settings.quick else self.limit) << 20
            argv = [a for a in argv if not a.startswith("limit=")]
            free = run(argv, allocator, settings, conf=conf)
            sample = run(argv, allocator, settings, limit=limit, conf=conf)
            sample["without_limit"] = free
        else:
            limit = settings.limit
            if limit == "auto":
                limit = self.auto_limit(settings)
            sample = run(argv, allocator, settings, limit=limit, conf=conf)
        if self.cores:
            sample["one_core"] = run(argv, allocator, settings, conf=conf, core=settings.cores[0])
        sample["bounds"] = [b.judge(sample) for b in self.bounds]
        return sample

    def auto_limit(self, settings):
        """The memory that the workload fills, and a fifth more."""
        params = dict(a.split("=") for a in self.arguments(settings))
        mib = int(params.get("mib", 256))
        return (mib + mib // 5 + 64) << 20


def has_option(allocator, conf):
    """Whether the library is a Sluice that knows the option: whether the file contains its name."""
    if not conf or not allocator.preload:
        return False
    name = conf.partition(":")[0].encode()
    with open(allocator.preload, "rb") as f:
        text = f.read()
    return b"SLUICE_CONF" in text and name in text


class Program(Workload):
    """sluice-pressure -- PROGRAM ARGS."""

    def __init__(self, argv):
        super().__init__(os.path.basename(argv[0]), "", " ".join(argv), group="program")
        self.argv = argv

    def measure(self, allocator, settings, core):
        sample = run(self.argv, allocator, settings, limit=settings.limit, seconds=settings.seconds,
                     built_in=False)
        sample["bounds"] = []
        return sample


CAP = "cache_limit:32M"


def rows():
    """The workloads, in the order in which they run and are printed."""
    few = {"threads": 8, "mib": 64}
    w = Workload
    objects = dict(threads=32, mib=512, min=16, max=1024, ms=3000, quick=few)
    yield w("idle-owner", "idle-owner", "32 threads free 512 MiB of their own, all sleep",
            bounds=(kept(8),), **objects)
    yield w("idle-main", "idle-main", "the same, freed by main", bounds=(kept(8),), **objects)
    yield w("idle-half", "idle-half", "the same, half by its thread and half by main",
            bounds=(kept(8),), **objects)
    yield w("idle-blocks", "idle-owner", "the same with blocks of 4 to 64 KiB",
            bounds=(kept(8),), threads=32, mib=512, min=4096, max=65536, ms=3000, quick=few)
    yield w("idle-256", "idle-owner", "256 threads free 4 MiB each, all sleep", bounds=(kept(24),),
            threads=256, mib=1024, min=16, max=1024, ms=3000, quick={"threads": 64, "mib": 64})
    yield w("idle-probe", "idle-owner",
            "as idle-owner, while one thread goes on with malloc and free",
            bounds=(kept(8),), probe=1, **objects)
    yield w("scattered", "scattered", "300,000 objects of 0.5, 1, 2 KiB, one in twenty stays",
            bounds=(Bound("% given back", lambda s: 100 * s["back_share"]
                          if s["back_share"] is not None else None, lambda s: 75, least=True),),
            threads=4, objects=300000, min=512, max=2048, **{"one-in": 20}, ms=10000,
            quick={"objects": 40000})
    yield w("e9-interleaved", "interleaved",
            "2,000,000 objects of 16 to 256 bytes, one in 16 stays",
            threads=4, objects=2000000, min=16, max=256, **{"one-in": 16}, ms=3000,
            quick={"objects": 200000})
    yield w("m2-handoff", "handoff", "10 threads allocate blocks, 400 others free them, all sleep",
            bounds=(BACK,), makers=10, threads=400, mib=512, min=2048, max=32768, ms=3000,
            quick={"threads": 40, "mib": 64})
    yield w("m3-burst", "burst", "16 workers handle a burst, each keeps 256 KiB, and sleep",
            bounds=(BACK,), threads=16, mib=256, min=16, max=16384, ms=3000, quick=few)
    yield w("m4-many", "idle-owner", "400 threads allocate and free 256 KiB each, and sleep",
            bounds=(BACK,), threads=400, mib=100, min=16, max=1024, ms=3000,
            quick={"threads": 50, "mib": 12})

    yield w("m4-cap", "beat", f"the same with a little every 100 ms; Sluice with {CAP}",
            group="flow", conf=CAP, threads=400, mib=100, min=16, max=1024, beat=100, ms=4000,
            bounds=(kept(32),), quick={"threads": 50, "mib": 12})

    yield w("m1-queue", "queue",
            "16 producers replace objects, one thread only frees; live 370 MiB",
            group="flow", bounds=(Bound("RSS / live", steady, lambda s: 1.15),), threads=16,
            mib=370, size=592, ms=8000, quick={"mib": 40})
    yield w("m5-first-free", "first-free",
            "a thread frees 256 MiB of another's and goes on in a loop",
            group="flow", bounds=(BACK,), mib=256, min=16, max=4096, ms=4000, quick={"mib": 64})
    yield w("m6-exits", "exits", "39 threads without a malloc end each 100 ms and start again",
            group="flow", bounds=(BACK,), threads=39, ms=5000)
    yield w("m7-cap", "cap", f"8 working threads free 384 of 512 MiB; Sluice with {CAP}",
            group="flow", conf=CAP, threads=8, mib=512, min=64, max=8192, ms=4000,
            quick={"mib": 128},
            bounds=(Bound("MiB kept", most_kept, lambda s: 32 + 0.1 * (s["live_kib"] or 0) / MIB),))
    yield w("m10-cpus", "idle-owner", "64 threads fill 128 MiB: the same peak on one CPU as on all",
            group="flow", cores=True, threads=64, mib=128, min=16, max=1024, ms=1,
            bounds=(Bound("peak / that on one CPU", one_core_ratio, lambda s: 1.05),), quick=few)

    for name, text, params in (("small", "small objects", dict(min=16, max=1024)),
                               ("handed", "small objects, freed by the next", dict(min=16, max=1024,
                                                                                   handed=1)),
                               ("blocks", "blocks of 4 to 64 KiB", dict(min=4096, max=65536))):
        yield w(f"turns-{name}", "turns",
                f"32 threads in turn fill and free 100 MiB each, limit 170 MiB: {text}",
                group="limit", limit=170, threads=32, mib=100, ms=100, probe=1, **params,
                bounds=(Bound("time / that without a limit", time_ratio, lambda s: 1.25),),
                quick={"threads": 8, "mib": 48, "limit": 95})

    yield w("drain-1g", "drain", "1 GiB cached by 64 sleeping threads is given back by one call",
            group="drain", threads=64, mib=1024, min=16, max=1024, probe=1,
            bounds=(Bound("time / that of one madvise", drain_ratio, lambda s: 1.5),
                    Bound("CPU time / that of one madvise",
                          ratio("drain_cpu_ns", "madvise_cpu_ns"), lambda s: 1.5)),
            quick={"threads": 16, "mib": 64})
    yield w("m8-small-start", "small-start", "64 threads are drained, then allocate a little",
            group="drain", threads=64, kib=2048, min=16, max=4096, bounds=(kept(4),),
            quick={"threads": 16})
    yield w("l2-drains", "drains", "100 drains of 60 sleeping threads beside a hot one",
            group="drain", threads=60, kib=256, min=16, max=1024, drains=100,
            bounds=(Bound("% of the peak left", left_share, lambda s: 10),
                    Bound("p99.99 / that without drains",
                          ratio("with_p9999_ns", "without_p9999_ns"), lambda s: 1.2),
                    Bound("signals", number("signals"), lambda s: 0),
                    Bound("sleeps more than without drains", more_sleeps, lambda s: 0),
                    Bound("preemptions / those without drains", preempted_ratio, lambda s: 1.2)),
            quick={"threads": 8, "drains": 10})
    yield w("e3-maps", "maps", "1,000 rounds of grow and purge by 32 threads: mappings",
            group="drain", threads=32, kib=512, min=4096, max=131072, rounds=1000,
            bounds=(Bound("mappings more than at the start", grown, lambda s: 64),),
            quick={"threads": 8, "rounds": 30})
