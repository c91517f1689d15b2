# SPDX-License-Identifier: BSD-2-Clause
"""The allocators that are compared: a name and the library to preload."""

import os
import re
from dataclasses import dataclass

from .errors import UsageError
from .places import shared_library

BASELINE = "jemalloc"
# Those that Sluice is held against, besides the C library's own.
PEERS = ("jemalloc", "mimalloc", "tcmalloc")

DEBIAN = (
    ("jemalloc", "libjemalloc.so.2", "libjemalloc2"),
    ("mimalloc", "libmimalloc.so.2", "libmimalloc2.0"),
    ("tcmalloc", "libtcmalloc_minimal.so.4", "libtcmalloc-minimal4"),
)


@dataclass(frozen=True)
class Allocator:
    name: str
    library: str  # what is preloaded; "" for the C library
    malloc: str   # the real path of the file that malloc has to come from


def find(places, extra):
    """All that are there, in the order of the table, and lines about those that are not."""
    found, missing = [], []
    libc = shared_library("libc.so.6") or "/lib/x86_64-linux-gnu/libc.so.6"
    found.append(Allocator("glibc", "", os.path.realpath(libc)))
    for name, soname, package in DEBIAN:
        path = shared_library(soname)
        if path:
            found.append(Allocator(name, path, path))
        else:
            missing.append(f"{name} is not installed and left out (apt-get install {package})")
    if os.path.isfile(places.library):
        real = os.path.realpath(places.library)
        found.append(Allocator("sluice", real, real))
    else:
        missing.append(f"sluice is left out: {places.library} is not there ({places.how})")
    for text in extra:
        one = given(text)
        found = [a for a in found if a.name != one.name] + [one]
        missing = [line for line in missing if not line.startswith(one.name + " ")]
    return found, missing


def given(text):
    """--alloc NAME=PATH."""
    name, equals, path = text.partition("=")
    if not equals or not re.fullmatch(r"[A-Za-z0-9_.+-]+", name) or not path:
        raise UsageError(f"--alloc {text}: not of the form NAME=PATH")
    if not os.path.isfile(path):
        raise UsageError(f"--alloc {text}: there is no file {path}")
    real = os.path.realpath(path)
    if re.search(r"[ :]", real):
        raise UsageError(f"--alloc {text}: LD_PRELOAD cannot hold a path with a space or a colon")
    return Allocator(name, real, real)


def chosen(found, names):
    """--allocs NAME,NAME: only these."""
    by_name = {a.name: a for a in found}
    wanted = []
    for name in names.split(","):
        if name not in by_name:
            raise UsageError(f"--allocs {names}: there is no {name} (here: {', '.join(by_name)})")
        wanted.append(by_name[name])
    return wanted
