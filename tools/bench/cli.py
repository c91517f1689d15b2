# SPDX-License-Identifier: BSD-2-Clause
"""The command line: parses arguments, returns the exit status."""

import argparse

from ..common import allocators, command, measure, output
from ..common.command import Parser, complain, counts
from ..common.comparison import Comparison
from ..common.errors import UsageError
from ..common.places import Places

from . import charts, drain, pages, report, scale, services, workloads

TIMEOUT = 600
# The commands, and the options that are refused with each.
IGNORED = {
    "pages": ("alloc", "allocs", "baseline", "list", "only", "plot", "scale", "sluice_options",
              "threads", "time"),
    "drain": ("alloc", "allocs", "baseline", "list", "only", "scale", "sluice_options", "time"),
    "scale": ("baseline", "time"),
    "services": ("baseline", "plot", "threads", "time"),
}
EPILOG = """\
The order of allocators rotates from round to round. Single-threaded workloads are pinned to one
core. Every ratio is the median of the ratios within a round, with its 95 % interval (sign test).
Exit status: 0; 1 if Sluice, or every allocator, failed a workload, 2 for bad arguments. See
sluice-bench(1).
"""


def parser(version):
    p = Parser(prog="sluice-bench", allow_abbrev=False, epilog=EPILOG,
               formatter_class=argparse.RawDescriptionHelpFormatter,
               usage="sluice-bench [OPTIONS] [COMMAND]",
               description="Compares memory allocators side by side.")
    p.add_argument("command", nargs="?", metavar="COMMAND",
                   help="`pages`: measure the cost of the page layer by itself; `drain`: how soon "
                        "and at whose cost the pcps of threads are emptied; `scale`: compare "
                        "allocators with 1 to 4,096 threads; `services`: real servers under "
                        "load (default: compare allocators)")
    command.add_arguments(p, "sluice-bench", version,
                          repeat=f"7, scale and services {scale.REPEAT}",
                          timeout=f"{TIMEOUT}, scale {scale.TIMEOUT}",
                          quick="3 rounds of a tenth of the work, and smaller sizes",
                          plot="write charts, SVG and PNG, by gnuplot")
    p.add_argument("--baseline", metavar="NAME",
                   help=f"the allocator that ratios refer to (default {allocators.BASELINE})")
    p.add_argument("--scale", metavar="X", type=command.factor,
                   help="multiply the work (default 1)")
    p.add_argument("--threads", metavar="N[,N]", type=counts(1),
                   help="number of threads of the workloads that do not name one (default: the "
                        f"number of cores), or of drain (default {drain.THREADS}); for scale, all "
                        f"numbers of threads (default {','.join(map(str, scale.THREADS))})")
    p.add_argument("--time", choices=("wall", "cpu"),
                   help="compare wall time, or the CPU time of all threads, which a busy machine "
                        "disturbs less (default wall)")
    p.set_defaults(timeout=None)
    return p


def options_of(argv, version):
    options = parser(version).parse_args(argv)
    if options.command not in (None, *IGNORED):
        raise UsageError(f"there is no command {command.shown(options.command)}; valid are "
                         f"{', '.join(IGNORED)}, or none")
    if options.command:
        command.refuse(options, IGNORED[options.command], f"has no meaning with {options.command}")
    if options.threads and max(options.threads) > scale.THREADS_MAX:
        raise UsageError(f"--threads {max(options.threads)}: has to be at most {scale.THREADS_MAX}")
    of_scale = options.command == "scale"
    if not of_scale:
        if options.threads is None:
            options.threads = [drain.THREADS if options.command == "drain" else workloads.cpus()]
        if len(options.threads) > 1:
            raise UsageError(f"--threads {','.join(map(str, options.threads))}: several numbers "
                             "are valid with scale only")
        options.threads = options.threads[0]
    if options.repeat is None:
        if options.quick:
            options.repeat = {"scale": 2, "services": 1}.get(options.command, 3)
        else:
            options.repeat = {"scale": scale.REPEAT,
                              "services": services.REPEAT}.get(options.command, 7)
    if options.timeout is None:
        options.timeout = scale.TIMEOUT if of_scale else TIMEOUT
    options.time = options.time or "wall"
    if options.scale is None:
        options.scale = 0.1 if options.quick else 1.0
    return options


def compare(options, places, version):
    rows = command.choose(workloads.all_rows(), options.only)
    if options.list:
        command.show_list(rows)
        return 0
    found, missing = allocators.of_options(places, options)
    baseline = options.baseline or allocators.BASELINE
    if options.baseline:
        allocators.chosen(found, options.baseline, "--baseline")
    for text in missing:
        complain(text)
    settings = measure.Settings(places, options)
    comparison = Comparison(rows, lambda row: found, settings)
    table = report.Table(baseline, settings.repeat)
    results = []
    for row, samples in comparison:
        summary = report.summarize(row, samples, options.time, baseline)
        table.show(row, summary)
        results.append({"name": row.name, "group": row.group, "text": row.text, "summary": summary,
                        "samples": samples})
    report.show_percentiles(results)
    means = report.geomeans(results)
    report.show_geomeans(means, baseline, settings.repeat)
    if any(a.name == "sluice" for a in found):
        report.show_slower(results, "sluice", baseline)
    report.show_coverage(settings.repeat)
    document = comparison.document(
        "sluice_bench", version, found,
        {"scale": settings.scale, "threads": settings.threads, "time": options.time}, results,
        baseline=baseline, geomeans=means)
    output.write(options, document, lambda folder: charts.draw(document, folder))
    return 1 if command.ours_failed(results, found) else 0


def main(argv, script, version, libdir, libexecdir):
    def work():
        options = options_of(argv, version)
        command.check_outputs(options)
        places = Places(script, libdir, libexecdir)
        if options.command == "pages":
            return pages.main(options, places)
        if options.command == "drain":
            return drain.main(options, places)
        if options.command == "scale":
            return scale.main(options, places)
        if options.command == "services":
            return services.main(options, places, version)
        return compare(options, places, version)
    return command.run(work)
