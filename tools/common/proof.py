# SPDX-License-Identifier: BSD-2-Clause
"""Proves by the dynamic loader's records that a real program's malloc is the allocator under
test."""

import glob
import os
import re

from .errors import BenchError


def bound_mallocs(pattern):
    """The files to which the malloc calls of the processes are bound."""
    ends = set()
    for path in glob.glob(pattern):
        with open(path, encoding="utf-8", errors="replace") as f:
            pairs = re.findall(r"binding file (\S+) .* to (\S+) \[\d+\]: normal symbol `malloc'",
                               f.read())
        # If a program takes the address of malloc, all objects, the program included, are bound to
        # its jump to malloc, and that jump to the library.
        between = {a for a, b in pairs if a != b and (a, a) in pairs}
        ends |= {b for _, b in pairs if b not in between}
    return {os.path.realpath(p) for p in ends}


def prove(allocator, folder):
    """Checks the records of a run with debug_variables(folder)."""
    bound = bound_mallocs(os.path.join(folder, "ld.*"))
    if bound != {allocator.malloc}:
        raise BenchError(f"{allocator.name} was to be measured, but malloc was bound to "
                         f"{', '.join(sorted(bound)) or 'nothing'} and not to {allocator.malloc}")


def debug_variables(folder):
    """Makes the loader write records to the folder; removes those of an earlier run that failed."""
    for path in glob.glob(os.path.join(folder, "ld.*")):
        os.unlink(path)
    return {"LD_DEBUG": "bindings", "LD_DEBUG_OUTPUT": os.path.join(folder, "ld")}


def memory_folder():
    """A folder for temporary files, in memory if possible, so that no disk is measured."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
