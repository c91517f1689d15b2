# SPDX-License-Identifier: BSD-2-Clause
"""Proof that a real program's malloc is the allocator under test: the dynamic loader's own records."""

import glob
import os
import re

from .errors import BenchError


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


def memory_folder():
    """Temporary files in memory where there is some: a disk would be in the measurement."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
