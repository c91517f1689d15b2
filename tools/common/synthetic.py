# SPDX-License-Identifier: BSD-2-Clause
"""Workloads that are written in C: a row is a sub-command of a program, with parameters."""

import contextlib

from .measure import check_allocator, environment, json_line, run

# Parameters that --scale and --quick make smaller. They change the amount of work, not its kind.
WORK = ("ops", "rounds")


class Synthetic:
    """One row: a name, the sub-command, its parameters, and how --quick changes them."""

    group = "synthetic"
    program = "sluice-bench-work"

    def __init__(self, name, command, text, *, quick=None, **params):
        self.name = name
        self.command = command
        self.text = text
        self.quick = quick or {}
        self.params = params
        threads = params.get("threads", 1)
        self.pinned = threads == 1 and "producers" not in params

    @contextlib.contextmanager
    def ready(self, settings):
        yield

    def arguments(self, settings):
        params = dict(self.params)
        if params.get("threads") == "cpus":
            params["threads"] = settings.threads
        if settings.quick:
            params.update(self.quick)
        for key in WORK:
            if key in params:
                params[key] = max(1, int(params[key] * settings.scale))
        return [f"{key}={value}" for key, value in params.items()]

    def measure(self, allocator, settings, core):
        argv = [settings.places.program(self.program), self.command]
        out = run(argv + self.arguments(settings), env=environment(allocator), core=core,
                  timeout=settings.timeout)
        sample = json_line(out)
        check_allocator(sample, allocator)
        return sample
