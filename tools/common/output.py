# SPDX-License-Identifier: BSD-2-Clause
"""The output of a command beside its tables: a progress bar, the JSON, the charts."""

import json
import os
import platform
import sys

from .errors import BenchError


class Progress:
    """A bar on standard error if that is a terminal."""

    def __init__(self, total):
        self.total = max(1, total)
        self.done = 0
        self.shown = sys.stderr.isatty()

    def step(self, workload, allocator):
        if self.shown:
            share = min(1.0, self.done / self.total)
            bar = ("#" * int(30 * share)).ljust(30)
            sys.stderr.write(f"\r\033[K[{bar}] {share:4.0%}  {workload}  {allocator}")
            sys.stderr.flush()
        self.done += 1

    def clear(self):
        if self.shown:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()


def machine():
    model = ""
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as f:
            model = next((text.split(":", 1)[1].strip() for text in f
                          if text.startswith("model name")), "")
    except OSError:
        pass
    return {"cpus": os.cpu_count(), "cpus_allowed": len(os.sched_getaffinity(0)), "model": model,
            "kernel": platform.release(), "machine": platform.machine(),
            "libc": " ".join(platform.libc_ver())}


def write_json(path, document):
    try:
        with open(path, "w", encoding="utf-8") as f:
            json.dump(document, f, indent=1)
            f.write("\n")
    except OSError as e:
        return f"{path}: {e.strerror}"
    return None


def write(options, document, draw):
    """Writes the output of --json and --plot; draw(folder) writes the charts and returns their
    files."""
    if options.json:
        trouble = write_json(options.json, document)
        if trouble:
            raise BenchError(trouble)
    if options.plot:
        print()
        for path in draw(options.plot):
            print(path)
