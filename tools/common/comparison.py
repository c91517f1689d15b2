# SPDX-License-Identifier: BSD-2-Clause
"""One run of a command over its workloads. Records the samples, and which workloads were skipped or
failed."""

import sys
import time

from .command import complain
from .errors import Skip
from .measure import rounds
from .output import Progress, machine


class Comparison:
    """Yields (workload, {allocator: samples}). columns(workload): the allocators to run it
    under."""

    def __init__(self, rows, columns, settings):
        self.rows, self.columns, self.settings = rows, columns, settings
        self.skipped, self.failures = {}, []
        self.started = time.time()

    def __iter__(self):
        repeat = self.settings.repeat
        progress = Progress(sum(len(self.columns(row)) for row in self.rows) * repeat)
        for row in self.rows:
            columns = self.columns(row)
            try:
                samples, failed = rounds(row, columns, self.settings, progress)
            except Skip as why:
                progress.done += len(columns) * repeat
                progress.clear()
                self.skipped[row.name] = str(why)
                complain(f"{row.name} is skipped: {why}")
                continue
            progress.clear()
            for text in failed:
                complain(text)
            self.failures += failed
            yield row, samples

    def document(self, tool, version, found, settings, results, **more):
        """The document that --json writes."""
        return {
            tool: version, "arguments": sys.argv[1:], "started": int(self.started),
            "seconds": round(time.time() - self.started, 1), "machine": machine(),
            "settings": {"repeat": self.settings.repeat, "quick": self.settings.quick, **settings},
            "allocators": {a.name: {"malloc": a.malloc, "options": a.options} for a in found},
            "skipped": self.skipped, "failures": self.failures, "workloads": results, **more,
        }
