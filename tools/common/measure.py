# SPDX-License-Identifier: BSD-2-Clause
"""Rounds: each round runs every allocator once, so that a disturbance of the machine affects
all."""

import contextlib
import ctypes
import json
import os
import signal
import subprocess

from .errors import BenchError

PR_SET_PDEATHSIG = 1
ENVIRONMENT_OUT = ("LD_PRELOAD", "SLUICE_CONF", "MALLOC_CONF", "MALLOC_ARENA_MAX")


def environment(allocator=None, variables=None):
    """The environment without allocator settings, MIMALLOC_* and GLIBC_TUNABLES included."""
    env = {k: v for k, v in os.environ.items()
           if k not in ENVIRONMENT_OUT and not k.startswith(("MIMALLOC_", "TCMALLOC_", "GLIBC_"))}
    env["LC_ALL"] = "C"
    if allocator and allocator.preload:
        env["LD_PRELOAD"] = allocator.preload
        env.update(allocator.variables())
    env.update(variables or {})
    return env


def last_line(text):
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1] if lines else "no message"


def how_it_ended(status):
    if status < 0:
        try:
            return f"killed by {signal.Signals(-status).name}"
        except ValueError:
            return f"killed by signal {-status}"
    return f"exit status {status}"


class Failed(Exception):
    """A run of a workload under an allocator failed; the text says how."""


def kill_all(process):
    """Kills the process and all that it started: it leads a session of its own."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def die_with(parent):
    """For preexec_fn: the program is killed when this process ends, however that happens."""
    prctl = ctypes.CDLL(None).prctl

    def begin():
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
    return begin


def run(argv, *, env, core=None, timeout=600, cwd=None, stdin=None):
    """Runs a program and returns its output. The core is set for the program, not for us."""
    die = die_with(os.getpid())

    def begin():
        die()
        if core is not None:
            os.sched_setaffinity(0, {core})
    with subprocess.Popen(argv, env=env, stdin=stdin or subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          errors="replace", cwd=cwd, preexec_fn=begin,
                          start_new_session=True) as process:
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            kill_all(process)
            raise Failed(f"not done after {timeout} s") from None
        except BaseException:
            kill_all(process)
            raise
    if process.returncode != 0:
        raise Failed(f"{how_it_ended(process.returncode)}: {last_line(err)}")
    return out


def json_line(text):
    try:
        return json.loads(last_line(text))
    except ValueError:
        raise Failed(f"no JSON in what it printed: {last_line(text)}") from None


class Settings:
    """The settings of a whole run of the tool."""

    def __init__(self, places, options):
        self.places = places
        self.repeat = options.repeat
        self.quick = options.quick
        self.scale = options.scale
        self.threads = options.threads
        self.cores = sorted(os.sched_getaffinity(0))
        self.timeout = options.timeout


def rounds(workload, allocators, settings, progress):
    """Returns {allocator: [sample of each round]} and lines about what failed. An allocator that
    fails once is left out of the workload."""
    left = list(allocators)
    samples = {a.name: [] for a in left}
    failures = []
    with workload.ready(settings):
        for number in range(settings.repeat):
            core = settings.cores[number % len(settings.cores)] if workload.pinned else None
            shift = number % max(1, len(left))
            for allocator in left[shift:] + left[:shift]:
                progress.step(workload.name, allocator.name)
                try:
                    sample = workload.measure(allocator, settings, core)
                except Failed as why:
                    failures.append(f"{workload.name}: {allocator.name}: {why}")
                    samples.pop(allocator.name)
                    left = [a for a in left if a is not allocator]
                    continue
                samples[allocator.name].append(sample)
    return samples, failures


def check_allocator(sample, allocator):
    """Each run reports the library that its malloc came from. A wrong one would make the comparison
    false."""
    if sample.get("malloc") != allocator.malloc or not sample.get("mapped"):
        raise BenchError(f"{allocator.name} was to be measured, but malloc came from "
                         f"{sample.get('malloc')} and not from {allocator.malloc}")
