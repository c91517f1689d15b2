# SPDX-License-Identifier: BSD-2-Clause
"""sluice-bench services: real servers under each allocator in turn, with the load tools of their
own projects. servers.py starts, watches and stops them."""

import glob
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import time
from statistics import median

from ..common import allocators, command, measure, numbers, output
from ..common.command import complain
from ..common.comparison import Comparison
from ..common.errors import Skip
from ..common.measure import Failed, environment

from . import inputs
from .report import figure
from .servers import STARTS_S, Server, free_port, number, percentile, read, seconds

REPEAT = 5


class Redis(Server):
    """All requests are of one command, on random keys, with values of 100 bytes."""

    needs = ((("redis-server",), "redis-server"), (("redis-benchmark",), "redis-tools"),
             (("redis-cli",), "redis-tools"))
    stop_signal = signal.SIGKILL

    def __init__(self, test, clients, pipeline, snapshot=False):
        name = "redis-snapshot" if snapshot else "redis-" + test.lower() + (
            f"-p{pipeline}" if pipeline > 1 else "") + ("-1c" if clients == 1 else "")
        super().__init__(name, f"redis: {test}, {clients} client{'s' * (clients > 1)}"
                         + (f", {pipeline} requests at a time" if pipeline > 1 else "")
                         + (", a snapshot each second" if snapshot else ""))
        self.test, self.clients, self.pipeline = test, clients, pipeline
        self.snapshot = snapshot

    def command(self):
        return [self.paths[0], "--port", "0", "--unixsocket", self.address(), "--dir", self.folder,
                "--save", "1 1" if self.snapshot else "", "--appendonly", "no"]

    def client(self, test, requests, settings):
        return measure.run(
            [self.paths[1], "-s", self.address(), "-t", test.lower(), "-n", str(requests), "-r",
             "200000", "-d", "100", "-c", str(self.clients), "-P", str(self.pipeline), "--csv"],
            env=environment(), timeout=settings.timeout)

    def ask(self, settings, *words):
        return measure.run([self.paths[2], "-s", self.address(), *words], env=environment(),
                           timeout=settings.timeout)

    def before_load(self, settings):
        if self.test == "GET" or self.snapshot:
            self.client("SET", int(2000000 * min(1, settings.scale)), settings)

    def load(self, settings):
        requests = max(10000, int((2000000 if self.pipeline > 1 else 300000) * settings.scale
                                  / (4 if self.clients == 1 else 1)))
        out = self.client(self.test, requests, settings)
        # "test","rps","avg","min","p50","p95","p99","max": ms
        found = re.search(rf'^"{self.test}[^"]*"((?:,"[0-9.]+"){{7}})', out, re.MULTILINE)
        if not found:
            raise Failed(f"redis-benchmark printed no figures of {self.test}")
        rate, _, _, p50, _, p99, worst = map(float, re.findall(r"[0-9.]+", found.group(1)))
        return {"requests": requests, "rate": rate, "p50_ms": p50, "p99_ms": p99, "max_ms": worst}

    def after_load(self, settings):
        more = {}
        if self.snapshot:
            facts = self.ask(settings, "info", "everything")
            if "rdb_last_bgsave_status:ok" not in facts:
                raise Failed("redis says that its snapshot failed")
            more["fork_ms"] = number(r"^latest_fork_usec:(\d+)", facts, "redis") / 1000
        if self.ask(settings, "dbsize").strip() in ("", "0"):
            raise Failed("redis is empty after the load")
        self.ask(settings, "flushall")
        return more


class Postgres(Server):
    """pgbench, on a copy of a database that was made once."""

    stop_signal = signal.SIGINT  # a fast shutdown

    def __init__(self, kind, clients, script):
        super().__init__(f"postgres-{kind}-{clients}c",
                         f"postgres: pgbench, {script}, {clients} connections")
        self.clients, self.script = clients, script

    def programs(self):
        for folder in sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True):
            paths = [os.path.join(folder, p)
                     for p in ("postgres", "initdb", "pgbench", "pg_isready")]
            if all(os.access(p, os.X_OK) for p in paths):
                break
        else:
            raise Skip("postgres is not installed (apt-get install postgresql)")
        if os.getuid() == 0:
            try:
                self.user = pwd.getpwnam("postgres").pw_name
            except KeyError:
                raise Skip("root cannot run postgres, and there is no user postgres") from None
        return paths

    def command(self):
        return [self.paths[0], "-D", self.path("data"), "-k", self.folder, "-c",
                "listen_addresses=", "-c", "fsync=off", "-c", "shared_buffers=64MB", "-c",
                "max_connections=100"]

    def answers(self):
        return subprocess.run([self.paths[3], "-q", "-h", self.folder], env=environment(),
                              check=False).returncode == 0

    def client(self, *arguments, settings):
        return measure.run([self.paths[2], "-h", self.folder, "-U", "postgres", *arguments,
                            "postgres"], env=environment(), timeout=settings.timeout,
                           cwd=self.folder)

    def prepare(self, settings):
        initdb = self.popen([self.paths[1], "-D", self.path("first"), "-U", "postgres", "-A",
                             "trust", "-N"], env=environment(None, {"HOME": self.folder}),
                            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                            stderr=subprocess.DEVNULL)
        if initdb.wait() != 0:
            raise Skip(f"initdb failed with {initdb.returncode}")
        with self.server(allocators.c_library("glibc")):
            self.client("-i", "-q", "-s", "2" if settings.quick else "10", settings=settings)
        shutil.rmtree(self.path("first"))
        os.rename(self.path("data"), self.path("first"))

    def begin(self):
        shutil.rmtree(self.path("data"), ignore_errors=True)
        copy_as(self.path("first"), self.path("data"), self.user)

    def load(self, settings):
        for old in glob.glob(self.path("times.*")):
            os.unlink(old)
        out = self.client("-n", "-b", self.script, "-c", str(self.clients), "-j", "2", "-T",
                          str(seconds(settings)), "-l", "--log-prefix", self.path("times"),
                          settings=settings)
        requests = number(r"^number of transactions actually processed: (\d+)", out, "pgbench")
        if number(r"^number of failed transactions: (\d+)", out, "pgbench"):
            raise Failed("transactions of pgbench failed")
        # client, transaction, us, ...
        times = sorted(int(line.split()[2]) / 1000 for name in glob.glob(self.path("times.*"))
                       for line in read(name).splitlines())
        return {"requests": requests, "rate": number(r"^tps = ([0-9.]+)", out, "pgbench"),
                "p50_ms": percentile(times, 0.5), "p99_ms": percentile(times, 0.99),
                "max_ms": times[-1]}


def copy_as(source, target, user):
    shutil.copytree(source, target)
    if user:
        for folder, _, files in os.walk(target):
            for path in (folder, *(os.path.join(folder, name) for name in files)):
                shutil.chown(path, user, user)


class MariaDB(Server):
    """sysbench, on a copy of a database that was made once."""

    needs = ((("mariadbd",), "mariadb-server"), (("mariadb-install-db",), "mariadb-server"),
             (("sysbench",), "sysbench"), (("mariadb",), "mariadb-client"))

    def __init__(self, kind, clients, script):
        super().__init__(f"mariadb-{kind}-{clients}c",
                         f"mariadb: sysbench, {script}, {clients} connections")
        self.clients, self.script = clients, script

    def command(self):
        root = ["--user=root"] if os.getuid() == 0 else []
        return [self.paths[0], "--no-defaults", f"--datadir={self.path('data')}",
                f"--socket={self.address()}", "--skip-networking", *root,
                f"--pid-file={self.path('pid')}", "--innodb-buffer-pool-size=64M",
                "--innodb-log-file-size=16M", "--innodb-flush-log-at-trx-commit=0",
                "--skip-log-bin"]

    def client(self, action, settings, *more):
        return measure.run([self.paths[2], self.script, "--db-driver=mysql",
                            f"--mysql-socket={self.address()}", "--mysql-user=root",
                            "--mysql-db=sluice", "--tables=2", *more,
                            f"--table-size={2000 if settings.quick else 20000}", action],
                           env=environment(), timeout=settings.timeout)

    def prepare(self, settings):
        root = ["--user=root"] if os.getuid() == 0 else []
        measure.run([self.paths[1], "--no-defaults", "--skip-test-db", *root,
                     "--auth-root-authentication-method=normal",
                     f"--datadir={self.path('first')}"], env=environment(),
                    timeout=settings.timeout)
        with self.server(allocators.c_library("glibc")):
            measure.run([self.paths[3], "--no-defaults", f"--socket={self.address()}",
                         "--user=root", "-e", "create database sluice"], env=environment(),
                        timeout=settings.timeout)
            self.client("prepare", settings)
        shutil.rmtree(self.path("first"))
        os.rename(self.path("data"), self.path("first"))

    def begin(self):
        shutil.rmtree(self.path("data"), ignore_errors=True)
        shutil.copytree(self.path("first"), self.path("data"))

    def load(self, settings):
        out = self.client("run", settings, f"--threads={self.clients}",
                          f"--time={seconds(settings)}", "--percentile=99", "--histogram")
        requests = number(r"^\s+transactions:\s+(\d+)", out, "sysbench")
        if not requests:
            raise Failed("sysbench did no transaction")
        return {"requests": requests,
                "rate": number(r"^\s+transactions:.*\(([0-9.]+) per sec", out, "sysbench"),
                "p50_ms": self.median_of(out),
                "p99_ms": number(r"99th percentile:\s+([0-9.]+)", out, "sysbench"),
                "max_ms": number(r"^\s+max:\s+([0-9.]+)", out, "sysbench")}

    @staticmethod
    def median_of(out):
        """From the lines `value |*** count` of the histogram, ms."""
        lines = [(float(v), int(n)) for v, n in
                 re.findall(r"^\s+([0-9.]+) \|\**\s+(\d+)$", out, re.MULTILINE)]
        left = sum(n for _, n in lines) / 2
        for value, n in lines:
            left -= n
            if left <= 0:
                return value
        return None


class Memcached(Server):
    """memcslap, whose output has no percentiles."""

    needs = ((("memcached",), "memcached"), (("memcslap",), "libmemcached-tools"))

    def __init__(self, test):
        super().__init__(f"memcached-{test}", f"memcached: {test}, 16 connections")
        self.test = test

    def command(self):
        root = ["-u", "root"] if os.getuid() == 0 else []
        return [self.paths[0], "-s", self.address(), "-m", "256", "-t", "2", *root]

    def load(self, settings):
        each = max(1000, int(20000 * settings.scale))
        out = measure.run([self.paths[1], f"--servers={self.address()}", "--concurrency=16",
                           f"--execute-number={each}", f"--test={self.test}",
                           "--initial-load=10000"], env=environment(), timeout=settings.timeout)
        took = number(rf"^Time to {self.test} .*:\s+([0-9.]+) seconds", out, "memcslap")
        return {"requests": 16 * each, "rate": 16 * each / max(took, 1e-3)}


class Web(Server):
    """A server of HTTP, with wrk."""

    def begin(self):
        self.port = free_port()

    def address(self):
        return self.port

    def load(self, settings):
        out = measure.run([self.paths[-1], "-t1", "-c32", f"-d{seconds(settings)}", "--latency",
                           "-H", "Accept-Encoding: gzip", f"http://127.0.0.1:{self.port}/page"],
                          env=environment(), timeout=settings.timeout)
        wrong = re.search(r"^\s*(Non-2xx.*|Socket errors:.*)$", out, re.MULTILINE)
        if wrong:
            raise Failed(f"wrk: {wrong.group(1)}")
        times = dict(re.findall(r"^\s+(50|99)%\s+([0-9.]+(?:us|ms|s))$", out, re.MULTILINE))
        return {"requests": number(r"^\s+(\d+) requests in", out, "wrk"),
                "rate": number(r"^Requests/sec:\s+([0-9.]+)", out, "wrk"),
                "p50_ms": in_ms(times["50"]), "p99_ms": in_ms(times["99"])}


def in_ms(text):
    value, unit = re.fullmatch(r"([0-9.]+)(us|ms|s)", text).groups()
    return float(value) * {"us": 1e-3, "ms": 1, "s": 1e3}[unit]


class Nginx(Web):
    needs = ((("nginx",), "nginx"), (("wrk",), "wrk"))

    def prepare(self, settings):
        with open(self.path("page"), "wb") as f:
            f.write(inputs.text(8192))

    def command(self):
        return [self.paths[0], "-p", self.folder, "-c", self.path("conf"), "-e", "stderr"]

    def begin(self):
        super().begin()
        user = "user root;" if os.getuid() == 0 else ""
        temporary = "".join(f"{kind}_temp_path {self.folder}/{kind};" for kind in
                            ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        with open(self.path("conf"), "w", encoding="ascii") as f:
            f.write(f"""{user} daemon off; master_process off; pid {self.folder}/pid;
events {{ worker_connections 256; }}
http {{ access_log off; gzip on; gzip_types *; {temporary}
server {{ listen 127.0.0.1:{self.port}; root {self.folder}; }} }}
""")


NODE = """
let x = 1;
const rnd = n => (x = (x * 48271) % 2147483647) % n;
require('http').createServer((request, response) => {
  const rows = [];
  for (let i = 0; i < 50; i++)
    rows.push({id: rnd(1e6), name: 'user ' + rnd(1e6), tags: ['a' + rnd(9), 'b' + rnd(9)]});
  response.end(Buffer.from(JSON.stringify(rows)));
}).listen(Number(process.argv[2]), '127.0.0.1');
"""


class Node(Web):
    needs = ((("node",), "nodejs"), (("wrk",), "wrk"))

    def prepare(self, settings):
        with open(self.path("server.js"), "w", encoding="ascii") as f:
            f.write(NODE)

    def command(self):
        return [self.paths[0], self.path("server.js"), str(self.port)]


class Sqlite(Server):
    """The shell of sqlite3, which reads its statements from a pipe."""

    needs = ((("sqlite3",), "sqlite3"),)
    stop_signal = signal.SIGKILL

    def begin(self):
        for name in ("in", "started", "done", "database"):
            if os.path.exists(self.path(name)):
                os.unlink(self.path(name))
        os.mkfifo(self.path("in"))

    def command(self):
        # `<>' keeps the pipe open.
        return ["/bin/sh", "-c", 'exec "$0" "$1" 0<>"$2" >/dev/null', self.paths[0],
                self.path("database"), self.path("in")]

    def ask(self, sql, word, timeout):
        """The shell makes the file `word` after the statements."""
        end = time.monotonic() + timeout
        with open(self.path("in"), "w", encoding="ascii") as f:
            f.write(f"{sql}\n.output {self.path(word)}\n")
        while not os.path.exists(self.path(word)):
            if time.monotonic() > end:
                raise Failed(f"not done after {timeout} s")
            time.sleep(0.01)

    def wait_for(self, process):
        self.ask("", "started", STARTS_S)

    def load(self, settings):
        rows = int(20000 + 180000 * min(settings.scale, 4))
        begin = time.monotonic()
        self.ask("PRAGMA synchronous = off;" + inputs.sql(rows), "done", settings.timeout)
        if read(self.path("log")):
            raise Failed(f"sqlite3: {self.last_log()}")
        return {"requests": rows, "rate": rows / (time.monotonic() - begin)}


def all_rows():
    for clients in (1, 50):
        yield Redis("SET", clients, 1)
    yield Redis("GET", 50, 1)
    for test in ("SET", "GET", "LPUSH", "HSET"):
        yield Redis(test, 50, 16)
    yield Redis("SET", 50, 16, snapshot=True)
    for clients in (16, 64):
        yield Postgres("read", clients, "select-only")
    yield Postgres("write", 16, "tpcb-like")
    for clients in (16, 64):
        yield MariaDB("read", clients, "oltp_read_only")
    yield MariaDB("write", 16, "oltp_write_only")
    yield Memcached("set")
    yield Memcached("get")
    yield Nginx("nginx", "nginx: a page of 8 KiB, compressed; wrk, 32 connections")
    yield Node("node", "node: JSON of 50 objects, made anew; wrk, 32 connections")
    yield Sqlite("sqlite", "sqlite3: inserts, joins and updates in a file")


# ---- the table -------------------------------------------------------------------------------

# What a sample has, and whether more of it is better.
KEYS = {"rate": True, "p50_ms": False, "p99_ms": False, "max_ms": False, "cpu_us": False,
        "peak_kib": False, "end_kib": False, "after_kib": False, "fork_ms": False}
COMPARED = ("rate", "p99_ms", "cpu_us", "peak_kib", "after_kib")
TEXT = """\
requests/s: median and min..max over the rounds. / best: the median of the ratios to the best other
allocator of that row, in the same rounds; of requests/s more is better, of all else less. p50, p99:
ms, as the load tool gives them. CPU: us of the server for each request. peak, end, after: anonymous
memory of the server, MiB, most, at the end of the load, and 3 s later (redis after FLUSHALL)."""


def is_ours(name):
    return name.partition(":")[0] == "sluice"


def summarize(samples):
    """For each allocator and key: the spread, and the ratios to the best other one's."""
    values = {name: {key: [s[key] for s in runs] for key in KEYS
                     if all(s.get(key) is not None for s in runs)}
              for name, runs in samples.items()}
    result = {name: {key: {**numbers.spread(v), "best": None} for key, v in of.items()}
              for name, of in values.items()}
    for key in COMPARED:
        peers = {n: v[key] for n, v in values.items() if not is_ours(n) and key in v}
        for name, of in values.items():
            others = [n for n in peers if n != name]
            if key in of and others:
                choose = max if KEYS[key] else min
                best = choose(others, key=lambda n: median(peers[n]))
                result[name][key]["best"] = numbers.ratios(of[key], peers[best])
    return result


def cell(summary, key, width, scale=1):
    return f"{figure(summary[key]['median'] / scale) if key in summary else '-':>{width}}"


def ratio(summary, key, width):
    best = summary.get(key, {}).get("best")
    return f"{best['median'] if best else '-':>{width}{'.2f' if best else ''}}"


def show_head():
    head = (f"{'service':18} {'allocator':10} {'requests/s':>10} {'min..max':>15} {'/ best':>6} "
            f"{'p50':>6} {'p99':>6} {'/ best':>6} {'CPU':>6} {'peak':>6} {'end':>6} {'after':>6}")
    print(f"{head}\n{'-' * len(head)}")


def show(name, summary):
    for allocator, s in summary.items():
        rate = s["rate"]
        span = f"{figure(rate['min'])}..{figure(rate['max'])}"
        memory = " ".join(cell(s, key, 6, 1024) for key in ("peak_kib", "end_kib", "after_kib"))
        fork = f"  fork {figure(s['fork_ms']['median'])} ms" if "fork_ms" in s else ""
        print(f"{name:18} {allocator:10} {cell(s, 'rate', 10)} {span:>15} {ratio(s, 'rate', 6)} "
              f"{cell(s, 'p50_ms', 6)} {cell(s, 'p99_ms', 6)} {ratio(s, 'p99_ms', 6)} "
              f"{cell(s, 'cpu_us', 6)} {memory}{fork}")
        name = ""
    sys.stdout.flush()


def show_means(results):
    names = list(dict.fromkeys(a for r in results for a in r["summary"]))
    heads = ("requests/s", "p99", "CPU", "peak", "after")
    print("\ngeometric means over the services of the ratios to the best other allocator\n"
          f"{'':10} " + " ".join(f"{head:>10}" for head in heads))
    for name in names:
        means = [numbers.geomean([r["summary"][name][key]["best"]["median"] for r in results
                                  if r["summary"].get(name, {}).get(key, {}).get("best")])
                 for key in COMPARED]
        print(f"{name:10} " + " ".join(f"{m:10.3f}" if m else f"{'-':>10}" for m in means))


def main(options, places, version):
    rows = command.choose(list(all_rows()), options.only)
    if options.list:
        command.show_list(rows)
        return 0
    found, missing = allocators.of_options(places, options)
    for text in missing:
        complain(text)
    comparison = Comparison(rows, lambda row: found, measure.Settings(places, options))
    results = []
    for row, samples in comparison:
        if not results:
            show_head()
        summary = summarize(samples)
        show(row.name, summary)
        results.append({"name": row.name, "group": row.group, "text": row.text, "summary": summary,
                        "samples": samples})
    if results:
        print(f"\n{TEXT}")
        show_means(results)
    document = comparison.document("sluice_bench", version, found, {"scale": options.scale},
                                   results)
    output.write(options, document, None)
    return 1 if command.ours_failed(results, found) else 0
