# SPDX-License-Identifier: BSD-2-Clause
"""The exceptions that end a command or a workload, each with one line for the user."""


class UsageError(Exception):
    """The arguments are wrong: exit status 2."""


class BenchError(Exception):
    """The machine or a program fails us: exit status 1."""


class OutputError(Exception):
    """Standard output cannot be written: exit status 1."""


class Skip(Exception):
    """This workload cannot be run here; the text says why."""
