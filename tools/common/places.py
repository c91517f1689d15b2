# SPDX-License-Identifier: BSD-2-Clause
"""The paths of our own programs and of other libraries."""

import os
import re
import shutil
import subprocess

from .errors import BenchError, Skip


class Places:
    """In a build tree: what was built there. Installed: what was installed with the command."""

    def __init__(self, script, libdir, libexecdir):
        here = os.path.dirname(os.path.realpath(script))
        top = os.path.dirname(here)
        if os.path.isfile(os.path.join(top, "config.status")):
            self.preload = os.path.join(top, ".libs", "libsluice.so")
            self.programs = [os.path.join(top, "tools", d)
                             for d in ("bench", "latency", "pressure")]
            self.how = "run make"
        else:
            self.preload = first_file(os.path.join(top, "lib", "libsluice.so"),
                                      os.path.join(libdir, "libsluice.so"))
            self.programs = [os.path.join(top, "libexec", "sluice"),
                             os.path.join(libexecdir, "sluice")]
            self.how = "install Sluice"

    def program(self, name):
        path = first_file(*(os.path.join(folder, name) for folder in self.programs))
        if not os.access(path, os.X_OK):
            raise BenchError(f"{path}: not there ({self.how})")
        return path


def first_file(*paths):
    """The first path that exists; if there is none, the last one, for the error message."""
    for path in paths:
        if os.path.isfile(path):
            break
    return path


def shared_library(soname):
    """The path at which the dynamic loader finds a library, or None."""
    for ldconfig in ("/sbin/ldconfig", "/usr/sbin/ldconfig", "ldconfig"):
        if shutil.which(ldconfig):
            break
    else:
        return None
    text = subprocess.run([ldconfig, "-p"], capture_output=True, text=True, check=False).stdout
    # The first of several machine types is the native one.
    found = re.search(r"^\s*" + re.escape(soname) + r" \(.*\) => (\S+)$", text, re.MULTILINE)
    return os.path.realpath(found.group(1)) if found else None


def program(*names):
    """The first of the programs that is installed, or None. Wrappers of a user are passed over."""
    path = os.pathsep.join(("/usr/bin", "/usr/sbin", "/bin", "/sbin", os.environ.get("PATH", "")))
    for name in names:
        found = shutil.which(name, path=path)
        if found:
            return found
    return None


def programs(needs):
    """The paths of what is needed: ((program names, Debian package), ...)."""
    paths = []
    for names, package in needs:
        path = program(*names)
        if not path:
            raise Skip(f"{names[0]} is not installed (apt-get install {package})")
        paths.append(path)
    return paths
