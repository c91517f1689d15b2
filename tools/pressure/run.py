# SPDX-License-Identifier: BSD-2-Clause
"""One run of a program under one allocator: its events, its RSS sampled from outside, how it ended,
and the figures computed from them."""

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import time

from ..common import measure
from ..common.errors import BenchError
from ..common.measure import Failed, check_allocator, environment, how_it_ended, last_line

from . import cgroup

INTERVAL = 0.015
PAGE_KIB = os.sysconf("SC_PAGESIZE") // 1024
SLACK_KIB = 64  # per thread


def process_clock(pid):
    """The clock of another process's CPU time (clock_getcpuclockid)."""
    return (~pid << 3) | 2


class Settings(measure.Settings):
    def __init__(self, places, options):
        super().__init__(places, options)
        self.work = places.program("sluice-pressure-work")
        self.seconds = options.seconds
        self.limit = options.limit
        self.eater = options.eater
        self.probe = options.probe


class Watch:
    """The observations of a process while it runs."""

    def __init__(self, process, out, on_idle):
        self.process = process
        self.out = out
        self.on_idle = on_idle
        self.begin = time.monotonic_ns()
        self.rss = []  # (ns of the monotonic clock, KiB)
        self.cpu_ns = 0
        self.mapped = set()
        self.events = []
        self.report = None
        self.read_to = 0
        self.rest = b""
        self.statm = os.open(f"/proc/{process.pid}/statm", os.O_RDONLY)

    def sample(self):
        with contextlib.suppress(OSError, IndexError):
            kib = int(os.pread(self.statm, 128, 0).split()[1]) * PAGE_KIB
            if kib:
                self.rss.append((time.monotonic_ns(), kib))
            self.cpu_ns = time.clock_gettime_ns(process_clock(self.process.pid))

    def look_at_maps(self):
        for line in cgroup.read(f"/proc/{self.process.pid}/maps").splitlines():
            if "r-xp" in line and "/" in line:
                self.mapped.add(line[line.index("/"):])

    def lines(self):
        """New lines of the program's output. Lines of JSON are ours."""
        more = os.pread(self.out.fileno(), 1 << 16, self.read_to)
        self.read_to += len(more)
        *whole, self.rest = (self.rest + more).split(b"\n")
        for line in whole:
            with contextlib.suppress(ValueError):
                found = json.loads(line)
                if not isinstance(found, dict):
                    continue
                if "event" in found:
                    self.events.append(found)
                    if found["event"] == "floor":
                        self.look_at_maps()
                    elif found["event"] == "idle":
                        self.on_idle()
                elif "malloc" in found:
                    self.report = found

    def until_it_ends(self, timeout, seconds):
        """Waits for the end. Terminates the process after `seconds`, which is not a fault; kills it
        after `timeout`, which is one."""
        stopped = False
        ticks = 0
        while True:
            self.sample()
            self.lines()
            if self.process.poll() is not None:
                break
            ticks += 1
            if ticks % 20 == 10 and not self.mapped:
                self.look_at_maps()
            ran = (time.monotonic_ns() - self.begin) / 1e9
            if ran > timeout:
                raise Failed(f"not done after {timeout} s")
            if seconds and ran > seconds and not stopped:
                os.killpg(self.process.pid, signal.SIGTERM)
                stopped = True
            time.sleep(INTERVAL)
        self.lines()
        os.close(self.statm)
        return stopped


def kill(process):
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def run(argv, allocator, settings, *, limit=None, conf=None, core=None, seconds=None,
        built_in=True):
    """Returns a sample, all data about this run; raises Failed if there is none."""
    env = environment(allocator, {"SLUICE_CONF": ",".join(filter(None, (conf, allocator.options)))}
                      if conf else None)
    with contextlib.ExitStack() as stack:
        out = stack.enter_context(tempfile.TemporaryFile())
        err = stack.enter_context(tempfile.TemporaryFile())
        group = stack.enter_context(cgroup.limited(limit))
        pressure = stack.enter_context(cgroup.eater(settings.work)) if settings.eater else None

        def prepare():
            if group:
                group.enter()
            if core is not None:
                os.sched_setaffinity(0, {core})

        try:
            process = subprocess.Popen(argv, env=env, stdin=subprocess.DEVNULL, stdout=out,
                                       stderr=err, preexec_fn=prepare, start_new_session=True)
        except OSError as e:
            raise BenchError(f"{argv[0]}: {e.strerror}") from None
        stack.callback(kill, process)
        stalled = cgroup.stalled_us()
        watch = Watch(process, out, pressure or (lambda: None))
        if pressure and not built_in:
            pressure()
        stopped = watch.until_it_ends(settings.timeout, seconds)
        ran = (time.monotonic_ns() - watch.begin) / 1e9
        err.seek(0)
        message = last_line(err.read().decode(errors="replace"))
        status = process.returncode
        if group and status == -signal.SIGKILL and group.oom_kills():
            ended = "OOM"
        elif status == 0 or stopped and status == -signal.SIGTERM:
            ended = "ok"
        else:
            raise Failed(f"{how_it_ended(status)}: {message}")
        stalled_ms = (cgroup.stalled_us() - stalled) / 1000 \
            if settings.eater and stalled is not None else None
    if built_in and ended == "ok":
        check_allocator(watch.report or {}, allocator)
    elif allocator.malloc not in watch.mapped and watch.mapped:
        raise BenchError(f"{allocator.name} was to be measured, but {argv[0]} did not load "
                         f"{allocator.malloc}")
    return {"ended": ended, "seconds": ran, "limit": limit, "stalled_ms": stalled_ms,
            **figures(watch, ended)}


def figures(watch, ended):
    """Memory in KiB, times in ms. If the workload prints no events, the figures come from the
    samples."""
    events = {e["event"]: e for e in watch.events}
    rss = watch.rss or [(watch.begin, 0)]
    zero = rss[0][0]
    floor = events["floor"]["rss_kib"] if "floor" in events else 0
    # A workload's own events may show a higher peak than the samples.
    peak = max([kib for _, kib in rss] + [e["rss_kib"] for e in watch.events])
    result = {
        "events": watch.events, "report": watch.report,
        "rss": [[round((at - zero) / 1e6, 1), kib] for at, kib in rss],
        "floor_kib": floor, "peak_kib": peak, "live_kib": None, "rest_kib": None, "kept_kib": None,
        "back_share": None, "back_ms": None, "cpu_ms": None, "idle_at_ms": None,
        "total_cpu_ms": watch.cpu_ns / 1e6,
        "worst_us": None, "p9999_us": None, "busy_worst_us": None, "busy_p9999_us": None,
    }
    if ended == "ok" and not events:
        result["rest_kib"] = rss[-1][1]
        result["back_share"] = (peak - rss[-1][1]) / peak if peak else None
    if "idle" in events:
        idle = events["idle"]
        live = idle["live"] / 1024
        result["idle_at_ms"] = (idle["at"] - zero) / 1e6
        result["live_kib"] = live
        goal = floor + 1.1 * live + SLACK_KIB * idle["threads"]
        later = [(idle["at"], idle["rss_kib"])] + [s for s in rss if s[0] > idle["at"]]
        at = next((at for at, kib in later if kib <= goal), None)
        if at is None and "rest" in events and events["rest"]["rss_kib"] <= goal:
            at = events["rest"]["at"]
        result["back_ms"] = (at - idle["at"]) / 1e6 if at is not None else None
    if "rest" in events:
        rest = events["rest"]
        result["rest_kib"] = rest["rss_kib"]
        result["kept_kib"] = rest["rss_kib"] - floor - rest["live"] / 1024
        if peak > floor:
            result["back_share"] = (peak - rest["rss_kib"]) / (peak - floor)
        result["cpu_ms"] = (rest["cpu_ns"] - idle["cpu_ns"]
                            - (rest["probe_ns"] - idle["probe_ns"])) / 1e6
    report = watch.report or {}
    if "idle_max_ns" in report:
        for name in ("busy", "idle"):
            prefix = "" if name == "idle" else "busy_"
            result[prefix + "worst_us"] = report[f"{name}_max_ns"] / 1000
            result[prefix + "p9999_us"] = report[f"{name}_p9999_ns"] / 1000
    return result
