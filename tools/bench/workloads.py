# SPDX-License-Identifier: BSD-2-Clause
"""The synthetic workloads: one row per workload. The code is in the sub-commands of
sluice-bench-work."""

import os

from ..common.synthetic import Synthetic

from . import programs

def size_name(size):
    for unit, shift in (("m", 20), ("k", 10)):
        if size >= 1 << shift and size % (1 << shift) == 0:
            return f"{size >> shift}{unit}"
    return str(size)


def rows():
    """The workloads, in the order in which they run and are printed."""
    work = Synthetic
    million = 1000000
    for size, ops in ((16, 60), (64, 60), (1024, 60), (4096, 30), (32768, 10), (131072, 1),
                      (2 << 20, 0.5)):
        yield work(f"pingpong-{size_name(size)}", "pingpong",
                   f"malloc and free of {size} bytes", size=size, ops=int(ops * million))

    yield work("lifo-100", "lifo", "100 objects of many classes, last in first out",
               depth=100, min=16, max=1024, ops=25 * million)
    yield work("lifo-20k", "lifo", "20,000 objects of many classes, last in first out",
               depth=20000, min=16, max=1024, ops=5 * million)
    yield work("fifo-1k", "fifo", "1,000 objects of many classes, first in first out",
               depth=1000, min=16, max=1024, ops=25 * million)
    yield work("fifo-50k", "fifo", "50,000 objects of many classes, first in first out",
               depth=50000, min=16, max=1024, ops=15 * million)

    yield work("same-64", "fifo", "1,000 objects of 64 bytes, first in first out",
               depth=1000, min=64, max=64, ops=25 * million)
    yield work("same-64-lifo", "lifo", "10,000 objects of 64 bytes, last in first out",
               depth=10000, min=64, max=64, ops=25 * million)
    yield work("turns-1m", "fifo", "64 blocks of 32 KiB to 1 MiB, first in first out",
               depth=64, min=32768, max=1 << 20, ops=2 * million)
    yield work("turns-1m-8", "fifo", "8 blocks of 32 KiB to 1 MiB, first in first out",
               depth=8, min=32768, max=1 << 20, ops=2 * million)
    yield work("turns-25m", "fifo", "8 blocks of 5 to 25 MiB, first in first out",
               depth=8, min=5 << 20, max=25 << 20, ops=200000)

    yield work("replace-10k", "replace", "a random one of 10,000 objects is replaced",
               live=10000, min=16, max=256, ops=20 * million)
    yield work("replace-100k", "replace", "a random one of 100,000 objects is replaced",
               live=100000, min=16, max=256, ops=10 * million)
    yield work("replace-1m", "replace", "a random one of 1,000,000 objects is replaced",
               live=million, min=16, max=256, ops=4 * million, quick={"live": 200000})
    yield work("grow-fresh", "grow",
               "a structure of 1,000,000 objects, from the start of the process",
               live=million, min=16, max=256, rounds=1, warm=1, quick={"live": 100000})
    yield work("grow-again", "grow", "the same, built and torn down again and again",
               live=million, min=16, max=256, rounds=4, warm=3, quick={"live": 100000})

    for threads in (1, 2, 4, 8, 32):
        yield work(f"local-{threads}t", "local",
                   f"{threads} threads, each with 1,000 objects of its own",
                   threads=threads, live=1000, min=16, max=1024, ops=25 * million)
    for threads in ("cpus", 8):
        name = "larson" if threads == "cpus" else f"larson-{threads}t"
        yield work(name, "larson", "a server's objects outlive the threads that made them",
                   threads=threads, live=1000, each=20000, min=16, max=1024, ops=20 * million)
    yield work("brief", "brief", "threads that allocate 100 objects, free them and end",
               threads="cpus", objects=100, min=16, max=1024, ops=10000)

    for depth in (64, 1024, 32768):
        yield work(f"prodcons-{size_name(depth)}", "prodcons",
                   f"one producer, one consumer, a queue of {depth}",
                   producers=1, consumers=1, depth=depth, min=16, max=256, ops=4 * million)
    yield work("prodcons-1to4", "prodcons", "one producer, four consumers",
               producers=1, consumers=4, depth=1024, min=16, max=256, ops=4 * million)
    yield work("prodcons-4to1", "prodcons", "four producers, one consumer",
               producers=4, consumers=1, depth=1024, min=16, max=256, ops=4 * million)

    yield work("exchange", "exchange", "threads that come and go swap objects of mixed sizes",
               threads="cpus", live=2000, rounds=20, share=10, min=16, max=1024, ops=5 * million)
    yield work("parcels", "parcels", "threads send batches to each other, up to 16 KiB an object",
               threads="cpus", min=16, max=16384, ops=8 * million)

    # As in mimalloc-bench's sh6bench, sh8bench and xmalloc-test.
    for threads, share, most in ((1, 0, 1024), ("cpus", 0, 1024), (8, 0, 256), (8, 50, 1024)):
        others = ", half of them others'" if share else ""
        name = f"batches-{threads}t" if threads != "cpus" else "batches"
        yield work(f"{name}-half" if share else name, "batches",
                   f"batches of mixed sizes, freed in several orders{others}",
                   threads=threads, share=share, min=16, max=most, ops=10 * million)
    for producers, consumers, size in ((1, 1, 64), (2, 2, 64), (4, 1, 64), (1, 4, 200)):
        yield work(f"pipeline-{producers}to{consumers}", "pipeline",
                   f"{producers} allocate batches of {size} bytes an object, {consumers} free them",
                   producers=producers, consumers=consumers, min=size, max=size,
                   ops=10 * million)

    yield work("tree", "tree", "syntax trees: built, rewritten by passes, freed",
               live=50, depth=7, ops=8 * million)
    yield work("strings", "strings", "strings: copied, appended to, joined, cut",
               live=20000, max=200, ops=4 * million)
    yield work("vectors", "vectors", "1,000 vectors that grow by realloc",
               live=1000, max=65536, ops=500000)
    yield work("buffer-64m", "buffer",
               "one buffer grown to 64 MiB by 64 KiB, one byte of each written",
               step=65536, max=64 << 20, touch=1, rounds=2)
    yield work("buffer-64m-fill", "buffer", "the same, each page written",
               step=65536, max=64 << 20, touch=2, rounds=2)
    yield work("big-256k", "big", "churn of blocks of 4 KiB to 256 KiB, each page written",
               live=64, min=4096, max=256 << 10, ops=300000)
    yield work("big-16m", "big", "churn of blocks of 4 KiB to 16 MiB, each page written",
               live=32, min=4096, max=16 << 20, ops=1000)
    yield work("zeroed", "zeroed", "calloc of 64 KiB to 4 MiB, one page in 16 used",
               live=8, min=65536, max=4 << 20, every=16, ops=4000)
    yield work("zeroed-all", "zeroed", "calloc of 64 KiB to 4 MiB, each page used",
               live=8, min=65536, max=4 << 20, every=1, ops=400)
    yield work("aligned", "aligned", "alignments of 32 bytes to 4 KiB",
               live=1000, min=16, max=4096, shifts=8, ops=4 * million)
    yield work("sharing-active", "active", "do threads get neighbours on a cache line?",
               threads="cpus", size=8, writes=1000, ops=400 * million)
    yield work("sharing-passive", "passive", "do they, after they have freed each other's objects?",
               threads="cpus", size=8, writes=1000, ops=400 * million)
    yield work("fork", "fork", "a parent with 20,000 objects forks, both go on allocating",
               live=20000, each=500, min=16, max=1024, ops=400)
    yield work("latency", "steady", "each call timed, one thread",
               threads=1, live=20000, min=16, max=2048, large=100, ops=2 * million)
    yield work("latency-8t", "steady", "each call timed, eight threads",
               threads=8, live=5000, min=16, max=2048, large=100, ops=2 * million)


def all_rows():
    return [*rows(), *programs.rows()]


def cpus():
    return len(os.sched_getaffinity(0))
