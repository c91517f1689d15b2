# SPDX-License-Identifier: BSD-2-Clause
"""A server as a workload: it runs below a temporary directory, on a unix socket or a free port of
its own, and a load tool measures it. It is killed with this process, however that ends."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

from ..common.errors import Skip
from ..common.measure import Failed, die_with, environment
from ..common.places import programs
from ..common.proof import debug_variables, memory_folder, prove

SAMPLE_S = 0.5
STARTS_S, STOPS_S = 60, 30


# ---- what /proc says of a process and of all that it started ---------------------------------


def read(path):
    """A file of /proc; empty if the process is gone."""
    try:
        with open(path, encoding="ascii", errors="replace") as f:
            return f.read()
    except OSError:
        return ""


def stat_fields(pid):
    """The fields of /proc/PID/stat from the state on; empty if the process is gone."""
    return read(f"/proc/{pid}/stat").rpartition(")")[2].split()


def tree(root):
    children = {}
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        fields = stat_fields(pid)
        if fields:
            children.setdefault(int(fields[1]), []).append(pid)
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def cpu_seconds(pids):
    """Of these processes, and of the children that the first one has waited for."""
    ticks = 0
    for pid in pids:
        fields = stat_fields(pid)
        if fields:
            ticks += int(fields[11]) + int(fields[12])
            if pid == pids[0]:
                ticks += int(fields[13]) + int(fields[14])
    return ticks / os.sysconf("SC_CLK_TCK")


def memory_kib(pids):
    """Anonymous memory. What a process shares with one that it forked counts once."""
    return sum(int(kib) for pid in pids for kib in
               re.findall(r"^Pss_Anon:\s+(\d+) kB", read(f"/proc/{pid}/smaps_rollup"),
                          re.MULTILINE))


class Memory(threading.Thread):
    """Samples the memory of a server: [(seconds since the start of the load, KiB), ...]."""

    def __init__(self, root):
        super().__init__(daemon=True)
        self.root, self.samples = root, []
        self.begin, self.over = time.monotonic(), threading.Event()

    def sample(self):
        kib = memory_kib(tree(self.root))
        self.samples.append((round(time.monotonic() - self.begin, 2), kib))
        return kib

    def run(self):
        while not self.over.wait(SAMPLE_S):
            self.sample()

    def end(self):
        self.over.set()
        self.join()
        return self.sample()


# ---- servers ---------------------------------------------------------------------------------


class Server:
    """A service. Subclasses give needs (((program names, Debian package), ...)), command() and
    load()."""

    group = "services"
    pinned = False
    needs = ()
    stop_signal = signal.SIGTERM
    user = None  # the server's user, if root may not run it

    def __init__(self, name, text):
        self.name, self.text = name, text
        self.proved = set()
        self.folder = None
        self.port = 0

    def programs(self):
        """The paths of what is needed."""
        return programs(self.needs)

    def prepare(self, settings):
        """Makes in self.folder what all runs begin with."""

    def begin(self):
        """Makes what one run begins with."""

    def before_load(self, settings):
        """Fills the server."""

    def after_load(self, settings):
        """Checks the server, and deletes its data if it can."""
        return {}

    def address(self):
        """A unix socket, or a port."""
        return self.path("sock")

    def path(self, name):
        return os.path.join(self.folder, name)

    @contextlib.contextmanager
    def ready(self, settings):
        self.paths = self.programs()
        self.folder = tempfile.mkdtemp(prefix="sluice-bench.", dir=memory_folder())
        self.proved = set()
        try:
            if self.user:
                shutil.chown(self.folder, self.user)
            try:
                self.prepare(settings)
            except Failed as why:
                raise Skip(f"its data could not be made: {why}") from None
            yield
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def answers(self):
        address = self.address()
        unix = isinstance(address, str)
        with socket.socket(socket.AF_UNIX if unix else socket.AF_INET) as s:
            with contextlib.suppress(OSError):
                s.connect(address if unix else ("127.0.0.1", address))
                return True
        return False

    def popen(self, argv, **more):
        """Starts a program that leads a session, as the server's user, and dies with us."""
        if self.user:
            more.update(user=self.user, group=self.user, extra_groups=[])
        return subprocess.Popen(argv, cwd=self.folder, start_new_session=True,
                                preexec_fn=die_with(os.getpid()), **more)

    @contextlib.contextmanager
    def server(self, allocator, variables=None):
        """The C library is preloaded too: Debian's redis is linked with jemalloc."""
        env = environment(None, {"LD_PRELOAD": allocator.malloc, "HOME": self.folder,
                                 **allocator.variables(), **(variables or {})})
        self.begin()
        with open(self.path("log"), "wb") as log:
            process = self.popen(self.command(), env=env, stdin=subprocess.DEVNULL, stdout=log,
                                 stderr=log)
        try:
            self.wait_for(process)
            yield process.pid
        finally:
            self.stop(process)

    def wait_for(self, process):
        end = time.monotonic() + STARTS_S
        while not self.answers():
            if process.poll() is not None:
                raise Failed(f"{self.paths[0]} ended with {process.returncode}: {self.last_log()}")
            if time.monotonic() > end:
                raise Failed(f"{self.paths[0]} did not answer within {STARTS_S} s")
            time.sleep(0.02)

    def last_log(self):
        lines = read(self.path("log")).strip().splitlines()
        return lines[-1] if lines else "no message"

    def stop(self, process):
        pids = tree(process.pid)
        if process.poll() is None:
            process.send_signal(self.stop_signal)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOPS_S)
        for pid in pids:
            if pid == process.pid and process.returncode is not None:
                continue
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()

    def prove(self, allocator):
        """Checks once for each allocator that the server's malloc is bound to it."""
        if allocator.name not in self.proved:
            with self.server(allocator, debug_variables(self.folder)):
                pass
            prove(allocator, self.folder)
            self.proved.add(allocator.name)

    def measure(self, allocator, settings, core):
        self.prove(allocator)
        with self.server(allocator) as pid:
            if allocator.malloc not in read(f"/proc/{pid}/maps"):
                raise Failed(f"the server has not mapped {allocator.malloc}")
            self.before_load(settings)
            cpu = cpu_seconds(tree(pid))
            memory = Memory(pid)
            memory.start()
            try:
                sample = self.load(settings)
            finally:
                end_kib = memory.end()
            sample.update(self.after_load(settings))
            for _ in range(2 if settings.quick else 6):
                time.sleep(SAMPLE_S)
                after_kib = memory.sample()
            sample["cpu_us"] = (cpu_seconds(tree(pid)) - cpu) * 1e6 / sample["requests"]
        return {**sample, "peak_kib": max(kib for _, kib in memory.samples), "end_kib": end_kib,
                "after_kib": after_kib, "memory": memory.samples}


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def seconds(settings):
    return max(1, round(5 * settings.scale))


def number(pattern, text, what):
    found = re.search(pattern, text, re.MULTILINE)
    if not found:
        raise Failed(f"{what} printed no figure: {text.strip()[-200:]!r}")
    return float(found.group(1))


def percentile(ordered, share):
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
