# SPDX-License-Identifier: BSD-2-Clause
"""The allocators that are compared: the name and the library of each."""

import os
import re
import subprocess
from dataclasses import dataclass, replace

from .errors import UsageError
from .places import shared_library

BASELINE = "jemalloc"  # --baseline overrides it
# The allocators that Sluice is compared with, besides that of the C library.
PEERS = ("jemalloc", "mimalloc", "tcmalloc")

DEBIAN = (
    ("jemalloc", "libjemalloc.so.2", "libjemalloc2"),
    ("mimalloc", "libmimalloc.so.2", "libmimalloc2.0"),
    ("tcmalloc", "libtcmalloc_minimal.so.4", "libtcmalloc-minimal4"),
)


@dataclass(frozen=True)
class Allocator:
    name: str
    preload: str  # what is preloaded; "" for the C library
    malloc: str   # the real path of the file that malloc must come from
    options: str = ""  # Sluice's own

    def variables(self):
        return {"SLUICE_CONF": self.options} if self.options else {}


def c_library(name):
    path = shared_library("libc.so.6") or "/lib/x86_64-linux-gnu/libc.so.6"
    return Allocator(name, "", os.path.realpath(path))


def find(places, extra):
    """Returns all installed allocators, in the order of the table, and lines about the missing
    ones."""
    found, missing = [], []
    found.append(c_library("glibc"))
    for name, soname, package in DEBIAN:
        path = shared_library(soname)
        if path:
            found.append(Allocator(name, path, path))
        else:
            missing.append(f"{name} is not installed and left out (apt-get install {package})")
    if os.path.isfile(places.preload):
        real = os.path.realpath(places.preload)
        found.append(Allocator("sluice", real, real))
    else:
        missing.append(f"sluice is left out: {places.preload} is not there ({places.how})")
    for text in extra:
        one = given(text)
        found = [a for a in found if a.name != one.name] + [one]
        missing = [line for line in missing if not line.startswith(one.name + " ")]
    return found, missing


def of_options(places, options):
    """As find, for the allocators that the command line asks for."""
    found, missing = find(places, options.alloc)
    ours = next((a for a in found if a.name == "sluice"), None)
    for text in options.sluice_options:
        if not ours:
            raise UsageError(f"--sluice-options {text}: there is no sluice")
        found.append(with_options(ours, text))
    if options.allocs:
        found, missing = chosen(found, options.allocs), []
    return found, missing


def with_options(sluice, text):
    """--sluice-options [NAME=]OPTIONS. Options that the library rejects are reported when it
    starts."""
    named = re.fullmatch(r"([A-Za-z0-9_.+-]+)=(.*)", text)
    name, options = named.groups() if named else (text, text)
    if not options or "," in name:
        raise UsageError(f"--sluice-options {text}: not of the form NAME:VALUE or "
                         "LABEL=NAME:VALUE,NAME:VALUE")
    done = subprocess.run(["/bin/true"], env={"LD_PRELOAD": sluice.preload, "SLUICE_CONF": options},
                          capture_output=True, text=True, errors="replace", check=False)
    if done.returncode != 0 or done.stderr:
        why = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[0]
        raise UsageError(f"--sluice-options {text}: {why}")
    return replace(sluice, name=f"sluice:{name}", options=options)


def given(text):
    """Parses --alloc NAME=PATH."""
    name, equals, path = text.partition("=")
    if not equals or not re.fullmatch(r"[A-Za-z0-9_.+-]+", name) or not path:
        raise UsageError(f"--alloc {text}: not of the form NAME=PATH, as mine=/usr/lib/libmine.so")
    if not os.path.isfile(path):
        raise UsageError(f"--alloc {text}: {path} is not a file")
    real = os.path.realpath(path)
    if re.search(r"[ :]", real):
        raise UsageError(f"--alloc {text}: LD_PRELOAD cannot hold a path with a space or a colon")
    return Allocator(name, real, real)


def chosen(found, names, option="--allocs"):
    """Applies --allocs NAME,NAME: only these allocators."""
    by_name = {a.name: a for a in found}
    wanted = []
    for name in names.split(","):
        if name not in by_name:
            raise UsageError(f"{option} {names}: there is no {name or 'empty name'}; valid here: "
                             f"{', '.join(by_name)}")
        if by_name[name] in wanted:
            raise UsageError(f"{option} {names}: {name} is there twice")
        wanted.append(by_name[name])
    return wanted
