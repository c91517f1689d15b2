# SPDX-License-Identifier: BSD-2-Clause
"""A memory cgroup with a limit, v1 or v2, that exists for one run; and the eater."""

import contextlib
import itertools
import os
import signal
import subprocess
import time

from ..common.errors import BenchError
from ..common.measure import environment

NEEDS_ROOT = "needs a memory cgroup, and to make one needs root"
numbers = itertools.count(1)


class Kind:
    """The file names of a cgroup version."""

    def __init__(self, limit, swap, events):
        self.limit = limit
        self.swap = swap
        self.events = events


V1 = Kind("memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.oom_control")
V2 = Kind("memory.max", "memory.swap.max", "memory.events")


def read(path):
    try:
        with open(path, encoding="ascii") as f:
            return f.read()
    except OSError:
        return ""


def parents():
    """Yields our own cgroup and its ancestors with a memory controller, as (directory, kind)."""
    mounts = []
    for line in read("/proc/self/mountinfo").splitlines():
        left, _, right = line.partition(" - ")
        kind, options = right.split()[0], right.split()[-1].split(",")
        if kind == "cgroup" and "memory" in options:
            mounts.append((left.split()[4], V1))
        elif kind == "cgroup2":
            mounts.append((left.split()[4], V2))
    own = {}
    for line in read("/proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            own[V1] = path
        elif not controllers:
            own[V2] = path
    for top, kind in mounts:
        path = own.get(kind, "/")
        while True:
            yield os.path.join(top, path.strip("/")), kind
            if path in ("", "/"):
                break
            path = os.path.dirname(path)


class Group:
    def __init__(self, path, kind):
        self.path = path
        self.kind = kind

    def write(self, name, text):
        with open(os.path.join(self.path, name), "w", encoding="ascii") as f:
            f.write(text)

    def set_limit(self, limit):
        self.write(self.kind.limit, str(limit))
        # Without this, memory above the limit could go to swap.
        with contextlib.suppress(OSError):
            self.write(self.kind.swap, str(limit) if self.kind is V1 else "0")

    def enter(self):
        """Called in the child, before exec."""
        self.write("cgroup.procs", str(os.getpid()))

    def oom_kills(self):
        for line in read(os.path.join(self.path, self.kind.events)).splitlines():
            name, _, value = line.partition(" ")
            if name == "oom_kill":
                return int(value)
        return 0

    def remove(self):
        for _ in range(100):
            for pid in read(os.path.join(self.path, "cgroup.procs")).split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            try:
                os.rmdir(self.path)
                return
            except FileNotFoundError:
                return
            except OSError:
                time.sleep(0.02)
        raise BenchError(f"{self.path}: cannot be removed")


def make():
    if os.geteuid() != 0:
        raise BenchError(NEEDS_ROOT)
    name = f"sluice-pressure.{os.getpid()}.{next(numbers)}"
    for parent, kind in parents():
        group = Group(os.path.join(parent, name), kind)
        try:
            os.mkdir(group.path)
        except OSError:
            continue
        if os.path.exists(os.path.join(group.path, kind.limit)):
            return group
        os.rmdir(group.path)
    raise BenchError("no memory cgroup can be made here: no cgroup with the memory controller is "
                     "mounted and writable")


@contextlib.contextmanager
def limited(limit):
    """Runs without a cgroup if limit is None."""
    if limit is None:
        yield None
        return
    group = make()
    try:
        group.set_limit(limit)
        yield group
    finally:
        group.remove()


EATER_LIMIT = 64 << 20


@contextlib.contextmanager
def eater(program):
    """A process that waits for memory in a cgroup of its own. It raises the memory pressure (PSI)
    of the whole machine without taking memory from others. Gives a function that starts it."""
    started = []
    with limited(EATER_LIMIT) as group:
        def start():
            started.append(subprocess.Popen(
                [program, "eater", "mib=256"], env=environment(), stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=group.enter))
        try:
            yield start
            if any(process.poll() is not None for process in started):
                raise BenchError("the eater ended early: it needs 256 MiB for a file in TMPDIR or "
                                 "/var/tmp")
        finally:
            for process in started:
                process.kill()
                process.wait()


def stalled_us():
    """How long some task has waited for memory since boot, from PSI; None without PSI."""
    for line in read("/proc/pressure/memory").splitlines():
        if line.startswith("some "):
            return int(line.rpartition("=")[2])
    return None
