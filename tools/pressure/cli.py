# SPDX-License-Identifier: BSD-2-Clause
"""The command line: parses arguments, returns the exit status."""

import argparse
import os
import re
import shutil
import signal

from ..common import allocators, command, output
from ..common.command import complain
from ..common.comparison import Comparison
from ..common.errors import BenchError, UsageError
from ..common.places import Places, program

from . import cgroup, charts, report
from .run import Settings
from .workloads import Program, rows

EPILOG = """\
Exit status: 0, whether the bounds are kept or not; 1 if something could not be run, 2 for bad
arguments. See sluice-pressure(1).
"""


def size(text):
    """Parses --limit: a number of bytes, with K, M or G, or auto."""
    if text == "auto":
        return text
    found = re.fullmatch(r"(\d+)([KMG]?)", text)
    shifts = {"": 0, "K": 10, "M": 20, "G": 30}
    value = int(found.group(1)) << shifts[found.group(2)] if found else 0
    if value < 1 << 20:
        raise argparse.ArgumentTypeError(
            f"{text}: neither auto nor a number of bytes (K, M, G) from 1M on")
    return value


def parser(version):
    p = command.Parser(prog="sluice-pressure", allow_abbrev=False, epilog=EPILOG,
                       formatter_class=argparse.RawDescriptionHelpFormatter,
                       usage="sluice-pressure [OPTIONS] [-- PROGRAM ARGS...]",
                       description="Measures which memory comes back, when and at what cost, and "
                                   "which allocator survives a limit.")
    command.add_arguments(p, "sluice-pressure", version, repeat=1, timeout=300,
                          quick="much smaller workloads",
                          plot="write charts, SVG and PNG, by gnuplot")
    p.add_argument("--limit", metavar="BYTES|auto", type=size,
                   help="run under a memory cgroup with this limit (needs root); auto: a fifth "
                        "more than the workload's own memory")
    p.add_argument("--eater", action="store_true",
                   help="raise memory pressure (PSI) when the workload goes idle (needs root)")
    p.add_argument("--seconds", metavar="N", type=command.factor,
                   help="how long a workload stays idle; a PROGRAM is terminated after that")
    p.add_argument("--scale", metavar="X", type=command.factor,
                   help="multiply the memory of a workload (default 1)")
    p.add_argument("--probe", action=argparse.BooleanOptionalAction, default=None,
                   help="run a thread whose calls are timed, or none (default: depends on the "
                        "workload; one in which all threads sleep has none)")
    p.add_argument("--chart", action=argparse.BooleanOptionalAction, default=True,
                   help="show RSS over time below each workload, in plain characters")
    return p


def options_of(argv, version):
    program_args = None
    if "--" in argv:
        at = argv.index("--")
        argv, program_args = argv[:at], argv[at + 1:]
        if not program_args:
            raise UsageError("no program after -- (--help shows the usage)")
    options = parser(version).parse_args(argv)
    options.program = program_args
    options.repeat = options.repeat or 1
    if program_args:
        command.refuse(options, ("list", "only", "probe", "quick", "scale"),
                       "is about the built-in workloads, not about a program")
        if options.limit == "auto":
            raise UsageError("--limit auto: give the limit of a program in bytes, as --limit 64M")
        found = shutil.which(program_args[0])
        if not found:
            there = os.path.exists(program_args[0])
            raise UsageError(f"{command.shown(program_args[0])}: "
                             + ("is not an executable file" if there
                                else "there is no such program"))
        options.program = [found, *program_args[1:]]
    options.scale = options.scale or 1.0
    return options


def terminated(number, _frame):
    """Exits through the handlers, so that the cgroup is removed."""
    raise SystemExit(128 + number)


def compare(options, places, version):
    if options.program:
        wanted = [Program(options.program)]
    else:
        wanted = command.choose(list(rows()), options.only)
    if options.list:
        command.show_list(wanted)
        return 0
    found, missing = allocators.of_options(places, options)
    for text in missing:
        complain(text)
    options.threads = 1
    settings = Settings(places, options)
    if (options.limit or options.eater) and os.geteuid() != 0:
        raise BenchError(f"{'--limit' if options.limit else '--eater'} {cgroup.NEEDS_ROOT}")
    if options.chart and not program("gnuplot"):
        complain("without gnuplot there are no charts (apt-get install gnuplot-nox)")
    names = [a.name for a in found]
    comparison = Comparison(wanted, lambda row: found, settings)
    table = report.Table()
    results = []
    for row, samples in comparison:
        result = {"name": row.name, "group": row.group, "text": row.text,
                  "summary": report.summarize(samples), "samples": samples}
        results.append(result)
        table.show(row, result["summary"],
                   charts.on_terminal(result, names) if options.chart else None)
    table.end(results, "sluice")
    document = comparison.document(
        "sluice_pressure", version, found,
        {"scale": settings.scale, "limit": settings.limit, "eater": settings.eater}, results)
    output.write(options, document, lambda folder: charts.draw(results, names, folder))
    return 1 if comparison.failures else 0


def main(argv, script, version, libdir, libexecdir):
    def work():
        options = options_of(argv, version)
        command.check_outputs(options)
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, terminated)
        return compare(options, Places(script, libdir, libexecdir), version)
    return command.run(work)
