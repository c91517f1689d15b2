# SPDX-License-Identifier: BSD-2-Clause
"""The workloads: rows over the sub-commands of sluice-latency-work, and redis."""

import re

from ..common.measure import Failed, check_allocator, environment, json_line, run
from ..common.redis import Redis
from ..common.synthetic import Synthetic

FLOOR = "floor"


class Latency(Synthetic):
    """beside: the row to compare this one with."""

    program = "sluice-latency-work"
    floor = True

    def __init__(self, name, command, text, *, beside=None, **params):
        super().__init__(name, command, text, **params)
        # The core of the round is passed on. Only the measured thread is pinned, not the process,
        # so that the scheduler places a thread of the allocator freely.
        self.pinned = True
        self.beside = beside

    def measure(self, allocator, settings, core):
        argv = [settings.places.program(self.program), self.command, *self.arguments(settings),
                f"core={settings.cores.index(core)}"]
        if allocator.name == FLOOR:
            argv.append("empty=1")
        sample = json_line(run(argv, env=environment(allocator), timeout=settings.timeout))
        check_allocator(sample, allocator)
        return sample


class RedisLatency(Redis):
    """The latency distribution of the requests, as redis-benchmark prints it."""

    floor = False
    beside = None
    REQUESTS = 300000

    def __init__(self):
        super().__init__("SET", 1)
        self.text = "redis-server: redis-benchmark's own latencies of SET requests, 32 clients"

    def measure(self, allocator, settings, core):
        self.prove(allocator, settings)
        requests = max(20000, int(self.REQUESTS * settings.scale))
        with self.server(allocator):
            self.client_output("SET", requests // 10, settings)
            out = self.client_output("SET", requests, settings)
        return {"ops": requests, "calls": {"request": distribution(out)}}


def distribution(text):
    """Parses lines such as `99.219% <= 0.327 milliseconds (cumulative count 99235)`. Of the two
    lists in the output, the first has the percentiles."""
    found = re.findall(r"^([0-9.]+)% <= ([0-9.]+) milliseconds \(cumulative count (\d+)\)$",
                       text.partition("Cumulative distribution")[0].replace("\r", "\n"),
                       re.MULTILINE)
    rows = [(float(share) / 100, float(ms) * 1e6, int(n)) for share, ms, n in found]
    if not rows or rows[-1][0] != 1:
        raise Failed("redis-benchmark printed no distribution")
    count = rows[-1][2]
    call = {"count": count, "max": rows[-1][1]}
    for percent in (50, 90, 99, 99.9, 99.99, 99.999):
        # The counts are exact, the percentages rounded.
        call[f"p{percent:g}"] = next(ns for _, ns, n in rows if n >= percent / 100 * count)
    call["curve"] = []
    for step in range(128):
        x = 2 ** (step / 4)
        if x > count:
            break
        call["curve"].append([x, next(ns for _, ns, n in rows if n >= (1 - 1 / x) * count)])
    return call


def all_rows():
    """The workloads, in the order in which they run and are printed."""
    yield Latency("steady", "steady", "a random one of 20,000 live objects is replaced",
                  ops=2000000)
    yield Latency("growth", "growth", "50 MB a second are allocated and written, none is freed",
                  quick={"mb": 15, "warm": 5})
    yield Latency("burst", "burst", "bursts of 20,000 objects, all freed, and pauses of 50 ms",
                  quick={"bursts": 5})
    yield Latency("burst-3s", "burst", "the same with pauses of 3 s: unused memory was given back",
                  bursts=3, pause_ms=3000, quick={"bursts": 1, "pause_ms": 1500})
    yield Latency("neighbour", "neighbour",
                  "steady, beside a thread that allocates 50 bursts a second",
                  ops=4000000)
    yield Latency("neighbour-drain", "neighbour",
                  "the same, and after each burst it gives memory back",
                  beside="neighbour", drain=1, ops=4000000)
    yield Latency("periodic", "periodic", "50 objects are replaced each millisecond, SCHED_FIFO if "
                  "allowed", quick={"periods": 300})
    yield RedisLatency()
