# SPDX-License-Identifier: BSD-2-Clause
"""What the commands that compare allocators share: arguments, error lines, exit status."""

import argparse
import fnmatch
import io
import os
import signal
import sys

from . import charts
from .errors import BenchError, OutputError, UsageError


class Parser(argparse.ArgumentParser):
    def error(self, message):
        raise UsageError(f"{message} (--help lists the options)")


def count(least):
    def convert(text):
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{shown(text)}: not a whole number") from None
        if value < least:
            raise argparse.ArgumentTypeError(f"{text}: has to be at least {least}")
        return value
    return convert


def shown(text):
    """Quotes an empty text, which would be invisible in an error line."""
    return text or "''"


def counts(least):
    """A parser for numbers with commas between them."""
    one = count(least)
    return lambda text: [one(part) for part in text.split(",")]


def factor(text):
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{shown(text)}: not a number") from None
    if not 0 < value <= 1000:
        raise argparse.ArgumentTypeError(f"{text}: has to be above 0 and at most 1000")
    return value


def add_arguments(p, name, version, *, repeat, timeout, quick, plot):
    """Adds the options that all commands have; the texts and defaults are the command's own."""
    p.add_argument("--alloc", metavar="NAME=PATH", action="append", default=[],
                   help="another allocator, or another library for one of the names")
    p.add_argument("--allocs", metavar="NAME[,NAME]", help="only these allocators")
    p.add_argument("--sluice-options", metavar="[NAME=]OPTIONS", action="append", default=[],
                   help="Sluice once more with these options (sluice.conf(5)), as sluice:NAME")
    p.add_argument("--only", metavar="GLOB[,GLOB]",
                   help="only the workloads that match, by name or by group")
    p.add_argument("--quick", action="store_true", help=quick)
    p.add_argument("--repeat", metavar="N", type=count(1), help=f"rounds (default {repeat})")
    p.add_argument("--timeout", metavar="SECONDS", type=count(1), default=timeout,
                   help=f"for one run (default {timeout})")
    p.add_argument("--json", metavar="FILE", help="write everything that was measured")
    p.add_argument("--plot", metavar="DIR", help=plot)
    p.add_argument("--list", action="store_true", help="list the workloads and end")
    p.add_argument("--version", action="version", version=f"{name} {version}")


def choose(rows, only):
    if only is None:
        return rows
    wanted = set()
    for pattern in only.split(","):
        names = {r.name for r in rows if fnmatch.fnmatchcase(r.name, pattern) or r.group == pattern}
        if not names:
            raise UsageError(f"--only {shown(only)}: no workload matches {pattern!r} "
                             "(--list shows them)")
        wanted |= names
    return [r for r in rows if r.name in wanted]


def show_list(rows):
    width = max(len(r.name) for r in rows)
    group = None
    for r in rows:
        if r.group != group:
            group = r.group
            print(f"{group}:")
        print(f"  {r.name:{width}}  {r.text}")


def refuse(options, names, why):
    """Refuses options that would be ignored."""
    for name in names:
        value = getattr(options, name)
        if value is not None and value is not False and value != []:
            raise UsageError(f"--{name.replace('_', '-')} {why}")


def complain(text):
    print(f"{os.path.basename(sys.argv[0])}: {text}", file=sys.stderr, flush=True)


def ours_failed(results, found):
    """Whether Sluice, or every allocator, failed a workload. If another allocator fails, that is
    reported and the allocator is left out of the workload."""
    ours = {a.name for a in found if a.name.partition(":")[0] == "sluice"}
    return any(not r["summary"] or not ours <= set(r["summary"]) for r in results)


def check_outputs(options):
    """Checks before the measurement that the output files can be written."""
    if options.plot == "":
        raise UsageError("--plot '': cannot be written")
    if options.json is not None:
        folder = os.path.dirname(os.path.abspath(options.json))
        if not os.access(folder, os.W_OK) or os.path.isdir(options.json) or not options.json:
            raise UsageError(f"--json {shown(options.json)}: cannot be written")
    if options.plot:
        charts.check(options.plot)


class StandardOutput(io.FileIO):
    """Standard output. After a failed write the rest goes nowhere, so that the interpreter does
    not fail again when it ends."""

    def write(self, data):
        try:
            return super().write(data)
        except OSError as e:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            if isinstance(e, BrokenPipeError):
                raise
            raise OutputError(f"standard output: {e.strerror}") from None


def open_streams():
    """A stream that is closed at the start stays one that cannot be written, whatever is opened
    later."""
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")
    if sys.stdout is None:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 1)
    else:
        sys.stdout.flush()
    raw = StandardOutput(1, "w", closefd=False)
    sys.stdout = io.TextIOWrapper(io.BufferedWriter(raw), line_buffering=raw.isatty(),
                                  encoding=sys.stdout and sys.stdout.encoding,
                                  errors=sys.stdout and sys.stdout.errors)


def status_of(command):
    try:
        return command()
    except SystemExit as e:  # --help, --version, or a signal
        return e.code
    except UsageError as e:
        complain(e)
        return 2
    except BenchError as e:
        complain(e)
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\n")
        return 130


def run(command):
    """Runs a command. Turns its exceptions into an error line and an exit status. SIGTERM and
    SIGHUP end it like ^C, so that what it started does not stay."""
    def end(number, _):
        raise SystemExit(128 + number)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
    open_streams()
    try:
        status = status_of(command)
        sys.stdout.flush()
        return status
    except OutputError as e:
        complain(e)
        return 1
    except BrokenPipeError:
        return 1
