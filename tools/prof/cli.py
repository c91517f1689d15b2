# SPDX-License-Identifier: BSD-2-Clause
"""The command line: parses arguments, returns the exit status."""

import argparse
import os
import stat
import sys
import tempfile

from ..common import command
from ..common.errors import BenchError, UsageError

from . import heap, pprof, text
from .symbols import Symbols

EPILOG = """\
Exit status: 0; 1 if a file could not be read or written, 2 for bad arguments. See sluice-prof(1).
"""

WHATS = ("live", "ever", "idle", "pinned")
FORMATS = ("text", "lifetimes", "folded", "pprof")


def parser(version):
    p = command.Parser(prog="sluice-prof", allow_abbrev=False, epilog=EPILOG,
                       formatter_class=argparse.RawDescriptionHelpFormatter,
                       description="Shows a heap profile that Sluice wrote (option prof), or "
                                   "writes it in the form of another program.")
    p.add_argument("--format", choices=FORMATS, default="text",
                   help="text: a table of call sites (the default); lifetimes: how long their "
                        "objects live; folded: stacks for flame graphs; pprof: for pprof "
                        "(profile.proto, gzip)")
    p.add_argument("--what", choices=WHATS,
                   help="which bytes text and folded show: live (the default), ever allocated, "
                        "idle (live, of threads that are idle or have ended), or pinned (free, in "
                        "slabs that live objects keep)")
    p.add_argument("-n", "--top", metavar="N", type=command.count(1),
                   help="how many call sites a table has (default 20)")
    p.add_argument("-o", "--output", metavar="FILE", help="write there, not to standard output")
    p.add_argument("--version", action="version", version=f"sluice-prof {version}")
    p.add_argument("profile", metavar="PROFILE", help="the file, of jemalloc's form heap_v2")
    return p


def checked(options):
    if options.format in ("lifetimes", "pprof") and options.what:
        raise UsageError(f"--what {options.what}: --format {options.format} has all of them")
    if options.format in ("folded", "pprof") and options.top:
        raise UsageError(f"--top {options.top}: --format {options.format} is no table")
    if options.output == "":
        raise UsageError("--output '': cannot be written")
    if options.format == "pprof" and not options.output and sys.stdout.isatty():
        raise UsageError("--format pprof is not for a terminal, use -o FILE")
    return options


def converted(options):
    profile = heap.read(options.profile)
    symbols = Symbols(profile)
    what, top = options.what or "live", options.top or 20
    if options.format == "pprof":
        return pprof.written(profile, symbols)
    if options.format == "folded":
        return text.folded(profile, symbols, what).encode()
    if options.format == "lifetimes":
        return text.lifetimes(profile, symbols, top).encode()
    return text.sizes(profile, symbols, what, top).encode()


def replace(path, data):
    """A regular file is there as a whole, or not at all."""
    place = os.path.realpath(path)
    with tempfile.NamedTemporaryFile(dir=os.path.dirname(place), delete=False) as f:
        try:
            f.write(data)
            f.flush()
            os.replace(f.name, place)
        except BaseException:
            os.unlink(f.name)
            raise


def is_special(path):
    """Whether the name is that of a device, a FIFO, or something else that is written to."""
    try:
        return not stat.S_ISREG(os.stat(path).st_mode)
    except FileNotFoundError:
        return False


def write(path, data):
    if not path:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    try:
        if is_special(path):
            with open(os.open(path, os.O_WRONLY | os.O_NOCTTY), "wb") as f:
                f.write(data)
        else:
            replace(path, data)
    except OSError as e:
        raise BenchError(f"{path}: {e.strerror}") from None


def main(argv, _file, version, _libdir, _libexecdir):
    def run():
        options = checked(parser(version).parse_args(argv))
        write(options.output, converted(options))
        return 0
    return command.run(run)
