# SPDX-License-Identifier: BSD-2-Clause
"""Proves by the dynamic loader's records that a real program's malloc is the allocator under
test."""

import glob
import os
import re

from .measure import Failed


def bound_mallocs(pattern):
    """The files to which the malloc calls of the processes are bound."""
    ends = set()
    for path in glob.glob(pattern):
        with open(path, encoding="utf-8", errors="replace") as f:
            text = f.read()
        pairs = re.findall(r"binding file (\S+) .* to (\S+) \[\d+\]: normal symbol `malloc'", text)
        programs = re.findall(r"transferring control: (\S+)", text)
        # If a program takes the address of malloc, all objects, the library and the program
        # included, are bound to the program's jump to malloc, and that jump to the library.
        between = {a for a, b in pairs if a in programs and a != b and (a, a) in pairs}
        ends |= {b for _, b in pairs if b not in between}
    return {os.path.realpath(p) for p in ends}


def prove(allocator, folder):
    """Checks the records of a run with debug_variables(folder)."""
    bound = bound_mallocs(os.path.join(folder, "ld.*"))
    if bound != {allocator.malloc}:
        raise Failed("malloc was bound to "
                     f"{', '.join(sorted(bound)) or 'nothing'} and not to {allocator.malloc}")


def debug_variables(folder):
    """Makes the loader write records to the folder; removes those of an earlier run that failed."""
    for path in glob.glob(os.path.join(folder, "ld.*")):
        os.unlink(path)
    return {"LD_DEBUG": "bindings", "LD_DEBUG_OUTPUT": os.path.join(folder, "ld")}


def memory_folder():
    """A folder for temporary files, in memory if possible, so that no disk is measured."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
