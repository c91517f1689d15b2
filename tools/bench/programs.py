# SPDX-License-Identifier: BSD-2-Clause
"""Real programs as workloads. sluice-bench-launch times each run. For each program and allocator,
the records of the dynamic loader prove once that the program uses the allocator."""

import contextlib
import glob
import os
import shutil
import tempfile

from ..common.measure import environment, json_line, run
from ..common.places import programs
from ..common.proof import debug_variables, memory_folder, prove
from ..common.redis import Redis

from . import inputs


class Program:
    """A command line. needs: ((program names, Debian package), ...); their paths replace {0}, {1}
    in the command. files: {name: contents}; the command names such a file as {dir}/name."""

    group = "programs"
    pinned = False

    def __init__(self, name, text, needs, command, *, files=None, variables=None, stdin=None,
                 runs=1, pinned=False, exact_rss=False):
        self.name, self.text, self.needs, self.command = name, text, needs, command
        self.files, self.variables, self.stdin = files or {}, variables or {}, stdin
        self.runs, self.pinned, self.exact_rss = runs, pinned, exact_rss
        self.folder = None
        self.proved = set()

    @contextlib.contextmanager
    def ready(self, settings):
        paths = programs(self.needs)
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
            # The launcher is in the records too, with the malloc of the C library.
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
    """How often the scripts repeat their work; once with --quick."""
    return max(1, round(4 * settings.scale))


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
    yield Program("lua", "lua: tables, strings and trees",
                  ((("lua5.4", "lua5.3", "lua"), "lua5.4"),),
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
        row = Program(name, f"`{' '.join((needs[0][0],) + argv[1:])}`, from start to end", (needs,),
                      argv, runs=runs, pinned=True, exact_rss=True)
        row.group = "processes"
        yield row


def redis():
    for pipeline in (1, 16):
        for command in ("SET", "GET", "LPUSH", "LRANGE"):
            yield Redis(command, pipeline)


def rows():
    yield from small_processes()
    yield from redis()
    yield from real_programs()
