# SPDX-License-Identifier: BSD-2-Clause
"""redis as a workload: a server of its own for each run, with redis-benchmark as its client."""

import contextlib
import os
import re
import shutil
import subprocess
import tempfile

from .errors import Skip
from .measure import Failed, environment, run
from .places import program
from .proof import debug_variables, memory_folder, prove


class Redis:
    """A server of its own for each run, on a unix socket; redis-benchmark is the client."""

    group = "programs"
    pinned = False
    CLIENTS = 32

    def __init__(self, command, pipeline):
        self.command, self.pipeline = command, pipeline
        self.name = f"redis-{command.lower()}" + (f"-p{pipeline}" if pipeline > 1 else "")
        what = f"{pipeline} at a time" if pipeline > 1 else "one at a time"
        self.text = f"redis-server: {command} requests, {what}"
        self.proved = set()

    @contextlib.contextmanager
    def ready(self, settings):
        self.server_path, self.client = program("redis-server"), program("redis-benchmark")
        if not self.server_path:
            raise Skip("redis-server is not installed (apt-get install redis-server)")
        if not self.client:
            raise Skip("redis-benchmark is not installed (apt-get install redis-tools)")
        self.folder = tempfile.mkdtemp(prefix="sluice-bench.", dir=memory_folder())
        self.proved = set()
        try:
            yield
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    @contextlib.contextmanager
    def server(self, allocator, variables=None):
        """Debian's server is linked with jemalloc, so the C library is preloaded too when it is
        measured."""
        env = environment(None, {"LD_PRELOAD": allocator.malloc, **allocator.variables(),
                                 **(variables or {})})
        with open(os.path.join(self.folder, "log"), "wb") as log, subprocess.Popen(
                [self.server_path, "--port", "0", "--unixsocket", self.socket(), "--save", "",
                 "--appendonly", "no", "--dir", self.folder], env=env, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log) as process:
            try:
                self.wait_for(process)
                yield process.pid
            finally:
                process.kill()
                process.wait()
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self.socket())

    def socket(self):
        return os.path.join(self.folder, "sock")

    def wait_for(self, process):
        for _ in range(200):
            if process.poll() is not None:
                raise Failed(f"redis-server ended with {process.returncode}")
            if os.path.exists(self.socket()):
                return
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.02)
        raise Failed("redis-server did not open its socket")

    def client_output(self, test, requests, settings, *more):
        argv = [self.client, "-s", self.socket(), "-t", test.lower(), "-n", str(requests), "-r",
                "100000", "-d", "100", "-c", str(self.CLIENTS), "-P", str(self.pipeline), *more]
        return run(argv, env=environment(), timeout=settings.timeout)

    def load(self, test, requests, settings):
        """Runs the load; returns requests per second."""
        out = self.client_output(test, requests, settings, "--csv")
        rates = re.findall(r'^"([A-Za-z0-9_]+)[^"]*","([0-9.]+)"', out, re.MULTILINE)
        if not rates or not rates[-1][0].upper().startswith(test.upper()):
            raise Failed(f"redis-benchmark printed no rate of {test}")
        return float(rates[-1][1])

    def prove(self, allocator, settings):
        if allocator.name not in self.proved:
            with self.server(allocator, debug_variables(self.folder)):
                self.load("SET", 20000, settings)
            prove(allocator, self.folder)
            self.proved.add(allocator.name)

    def measure(self, allocator, settings, core):
        self.prove(allocator, settings)
        requests = max(20000, int(settings.scale * (600000 if self.pipeline > 1 else 100000)))
        test = "LRANGE_100" if self.command == "LRANGE" else self.command
        if self.command == "LRANGE":
            requests //= 2 if self.pipeline == 1 else 8
        with self.server(allocator) as pid:
            if self.command == "GET":
                self.load("SET", requests, settings)
            before = cpu_seconds(pid)
            rate = self.load(test, requests, settings)
            cpu = cpu_seconds(pid) - before
            peak, end = memory_kib(pid)
        return {"ops": requests, "ns": int(1e9 * requests / rate), "cpu_ns": int(cpu * 1e9),
                "ns_per_op": 1e9 / rate, "cpu_ns_per_op": cpu * 1e9 / requests, "peak_kib": peak,
                "end_kib": end}


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as f:
        fields = f.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_kib(pid):
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as f:
        fields = dict(re.findall(r"^(VmHWM|VmRSS):\s+(\d+) kB", f.read(), re.MULTILINE))
    return int(fields["VmHWM"]), int(fields["VmRSS"])
