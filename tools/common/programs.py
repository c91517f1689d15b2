# SPDX-License-Identifier: BSD-2-Clause
"""Real programs as workloads. Each run is timed by sluice-bench-launch; that an allocator is the one
in use is proved, once for each program and allocator, by the dynamic loader's own records."""

import contextlib
import glob
import os
import re
import shutil
import subprocess
import tempfile

from . import inputs
from .errors import BenchError, Skip
from .measure import Failed, environment, json_line, run
from .places import program


def bound_mallocs(pattern):
    """The files that the processes' calls of malloc end in."""
    ends = set()
    for path in glob.glob(pattern):
        with open(path, encoding="utf-8", errors="replace") as f:
            pairs = re.findall(r"binding file (\S+) .* to (\S+) \[\d+\]: normal symbol `malloc'",
                               f.read())
        # A program that takes malloc's address stands between: all, itself included, are bound to
        # its jump to malloc, and that jump to the library.
        between = {a for a, b in pairs if a != b and (a, a) in pairs}
        ends |= {b for _, b in pairs if b not in between}
    return {os.path.realpath(p) for p in ends}


def prove(allocator, folder):
    """After a run with debug_variables(folder)."""
    bound = bound_mallocs(os.path.join(folder, "ld.*"))
    if bound != {allocator.malloc}:
        raise BenchError(f"{allocator.name} was to be measured, but malloc was bound to "
                         f"{', '.join(sorted(bound)) or 'nothing'} and not to {allocator.malloc}")


def debug_variables(folder):
    """Records go to the folder, in which none may be left from a run that failed."""
    for path in glob.glob(os.path.join(folder, "ld.*")):
        os.unlink(path)
    return {"LD_DEBUG": "bindings", "LD_DEBUG_OUTPUT": os.path.join(folder, "ld")}


class Program:
    """A command line. needs: ((program names, Debian package), ...), by which {0}, {1} in the
    command are replaced; files: {name: contents of settings}, {dir}/name in the command."""

    group = "programs"
    pinned = False

    def __init__(self, name, text, needs, command, *, files=None, variables=None, stdin=None, runs=1,
                 pinned=False, exact_rss=False):
        self.name, self.text, self.needs, self.command = name, text, needs, command
        self.files, self.variables, self.stdin = files or {}, variables or {}, stdin
        self.runs, self.pinned, self.exact_rss = runs, pinned, exact_rss
        self.folder = None
        self.proved = set()

    @contextlib.contextmanager
    def ready(self, settings):
        paths = []
        for names, package in self.needs:
            path = program(*names)
            if not path:
                raise Skip(f"{names[0]} is not installed (apt-get install {package})")
            paths.append(path)
        self.folder = tempfile.mkdtemp(prefix="sluice-bench.", dir=memory_folder())
        try:
            for name, make in self.files.items():
                contents = make(settings)
                with open(os.path.join(self.folder, name), "wb") as f:
                    f.write(contents if isinstance(contents, bytes) else contents.encode())
            self.argv = [part.format(*paths, dir=self.folder, rounds=rounds_of(settings),
                                     threads=settings.threads) for part in self.command]
            self.proved = set()
            yield
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def launch(self, allocator, settings, core, runs, variables=None):
        argv = [settings.places.program("sluice-bench-launch"), "-n", str(runs)]
        if allocator.preload:
            argv += ["-p", allocator.preload]
        if self.stdin:
            argv += ["-i", os.path.join(self.folder, self.stdin)]
        if self.exact_rss and not variables:
            argv.append("-m")
        env = environment(None, {**self.variables, **allocator.variables(), **(variables or {})})
        return json_line(run(argv + ["--"] + self.argv, env=env, core=core,
                             timeout=settings.timeout, cwd=self.folder))

    def measure(self, allocator, settings, core):
        if allocator.name not in self.proved:
            self.launch(allocator, settings, core, 1, debug_variables(self.folder))
            # The launcher itself is in the records as well, with the C library's malloc.
            forget_launcher(self.folder)
            prove(allocator, self.folder)
            self.proved.add(allocator.name)
        runs = max(1, int(self.runs * min(1.0, settings.scale * 2)))
        return self.launch(allocator, settings, core, runs)


def forget_launcher(folder):
    for path in glob.glob(os.path.join(folder, "ld.*")):
        with open(path, encoding="utf-8", errors="replace") as f:
            if "sluice-bench-launch" in f.read(4096):
                os.unlink(path)


def rounds_of(settings):
    """How often the scripts repeat their work; --quick does each once."""
    return max(1, round(4 * settings.scale))


def memory_folder():
    """Temporary files in memory where there is some: a disk would be in the measurement."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def python(script):
    return lambda settings: (script.replace("ROUNDS", str(rounds_of(settings)))
                             .replace("THREADS", str(settings.threads)))


PYTHON = (("python3",), "python3")


def real_programs():
    for name, text, script in (
            ("python-json", "python3: encode and decode JSON", inputs.PYTHON_JSON),
            ("python-dict", "python3: a dictionary of growing strings", inputs.PYTHON_DICT),
            ("python-objects", "python3: trees of objects", inputs.PYTHON_OBJECTS),
            ("python-threads", "python3: threads that compress and hash", inputs.PYTHON_THREADS)):
        yield Program(name, text, (PYTHON,), ("{0}", "-I", "{dir}/script.py"),
                      files={"script.py": python(script)}, pinned=name != "python-threads")
    yield Program("python-malloc", "python3: trees of objects, all of them by malloc "
                  "(PYTHONMALLOC=malloc)", (PYTHON,), ("{0}", "{dir}/script.py"),
                  files={"script.py": python(inputs.PYTHON_OBJECTS)},
                  variables={"PYTHONMALLOC": "malloc"}, pinned=True)
    yield Program("gcc", "gcc -O1 of a generated C file", ((("gcc",), "gcc"),),
                  ("{0}", "-O1", "-S", "-o", "{dir}/out.s", "{dir}/in.c"),
                  files={"in.c": lambda s: inputs.c_source(int(30 + 90 * min(s.scale, 4)))},
                  pinned=True)
    yield Program("sqlite3", "sqlite3: inserts, joins and updates in memory",
                  ((("sqlite3",), "sqlite3"),), ("{0}", ":memory:"), stdin="in.sql",
                  files={"in.sql": lambda s: inputs.sql(int(10000 + 90000 * min(s.scale, 4)))},
                  pinned=True)
    yield Program("lua", "lua: tables, strings and trees", ((("lua5.4", "lua5.3", "lua"), "lua5.4"),),
                  ("{0}", "{dir}/script.lua", "{rounds}"),
                  files={"script.lua": lambda s: inputs.LUA}, pinned=True)
    yield Program("perl", "perl: hashes, strings and trees", ((("perl",), "perl"),),
                  ("{0}", "{dir}/script.pl", "{rounds}"),
                  files={"script.pl": lambda s: inputs.PERL}, pinned=True)
    compressed = {"in": lambda s: inputs.text(int((2 << 20) + (14 << 20) * min(s.scale, 4)))}
    yield Program("xz", "xz -T2 of generated text", ((("xz",), "xz-utils"),),
                  ("{0}", "-T2", "-1", "--block-size=1MiB", "-k", "-c", "{dir}/in"),
                  files=compressed)
    yield Program("zstd", "zstd -T2 of generated text", ((("zstd",), "zstd"),),
                  ("{0}", "-T2", "-9", "-q", "-c", "{dir}/in"), files=compressed)
    yield Program("rocksdb", "db_bench: random writes, then random reads by two threads",
                  ((("db_bench",), "rocksdb-tools"),),
                  ("{0}", "--benchmarks=fillrandom,readrandom", "--db={dir}/db", "--threads=2",
                   "--num={rounds}0000", "--value_size=400", "--disable_wal=1", "--seed=1",
                   "--write_buffer_size=4194304", "--compression_type=none"))


def small_processes():
    for name, needs, argv, runs in (
            ("start-true", (("true",), "coreutils"), ("{0}",), 200),
            ("start-bash", (("bash",), "bash"), ("{0}", "-c", ":"), 100),
            ("start-python", PYTHON, ("{0}", "-c", "pass"), 20)):
        row = Program(name, f"`{' '.join((needs[0][0],) + argv[1:])}`, from start to end", (needs,), argv,
                      runs=runs, pinned=True, exact_rss=True)
        row.group = "processes"
        yield row


# ---- redis -------------------------------------------------------------------------------------


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
        """Debian's server is linked with jemalloc: the C library has to be preloaded as well."""
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
        """Requests a second."""
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


def redis():
    for pipeline in (1, 16):
        for command in ("SET", "GET", "LPUSH", "LRANGE"):
            yield Redis(command, pipeline)


def rows():
    yield from small_processes()
    yield from redis()
    yield from real_programs()
