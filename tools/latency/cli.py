# SPDX-License-Identifier: BSD-2-Clause
"""The command line: parses arguments, returns the exit status."""

import argparse

from ..common import allocators, charts, command, measure, output
from ..common.command import complain
from ..common.comparison import Comparison
from ..common.places import Places

from . import report, workloads

EPILOG = """\
Each malloc (with its first touch) and each free is timed by itself; nothing is subtracted. `floor`
is the same loop with an empty operation. Exit status: 0; 1 if Sluice, or every allocator, failed a
workload, 2 for bad arguments. See sluice-latency(1).
"""


def options_of(argv, version):
    p = command.Parser(prog="sluice-latency", allow_abbrev=False, epilog=EPILOG,
                       formatter_class=argparse.RawDescriptionHelpFormatter,
                       usage="sluice-latency [OPTIONS]",
                       description="Compares the slowest calls of memory allocators.")
    command.add_arguments(p, "sluice-latency", version, repeat=5, timeout=120,
                          quick="2 rounds of a tenth of the work",
                          plot="write percentile charts, SVG and PNG, by gnuplot")
    options = p.parse_args(argv)
    if options.repeat is None:
        options.repeat = 2 if options.quick else 5
    options.scale = 0.1 if options.quick else 1.0
    options.threads = 1
    return options


def columns(row, found):
    return [allocators.c_library(workloads.FLOOR), *found] if row.floor else found


def result_of(row, samples, done):
    by_operation = report.summarize(samples)
    result = {"name": row.name, "group": row.group, "text": row.text, "samples": samples,
              "summary": {a: True for a in samples}, "summary_by_operation": by_operation,
              "thread": report.thread_figures(samples)}
    others = next((r for r in done if r["name"] == row.beside), None)
    if others:
        result["beside_name"] = row.beside
        result["beside"] = report.beside(samples, others["samples"])
    return result


def compare(options, places, version):
    rows = command.choose(list(workloads.all_rows()), options.only)
    if options.list:
        command.show_list(rows)
        return 0
    found, missing = allocators.of_options(places, options)
    for text in missing:
        complain(text)
    settings = measure.Settings(places, options)
    comparison = Comparison(rows, lambda row: columns(row, found), settings)
    results = []
    for row, samples in comparison:
        results.append(result_of(row, samples, results))
        report.show(results[-1], settings.repeat)
    report.show_overview(results)
    document = comparison.document("sluice_latency", version, found, {}, results)
    names = [workloads.FLOOR, *(a.name for a in found)]
    output.write(options, document, lambda folder: charts.latency_charts(folder, results, names))
    return 1 if command.ours_failed(results, found) else 0


def main(argv, script, version, libdir, libexecdir):
    def work():
        options = options_of(argv, version)
        command.check_outputs(options)
        return compare(options, Places(script, libdir, libexecdir), version)
    return command.run(work)
