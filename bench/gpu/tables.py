"""What runs of the graphs take, as tables: each way of running them, how exact they are, and how many at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Final

import numpy as np

from bench.gpu import ways
from bench.gpu.ways import Array
from service.inference.bundle import Bundle

SIZES: Final = (1, 16, 256, 1024)
SIDES: Final = ("encoder", "decoder")
CORES: Final = len(os.sched_getaffinity(0))


def of_ways(bundles: dict[str, Bundle]) -> Iterator[str]:
    """Microseconds of encoding and decoding by each way, from a NumPy array to NumPy arrays."""
    names = ("CPU, 1 thread", f"CPU, {CORES} threads", "plain", "binding", "pinned", "graph", "TF32")
    yield f"| model | rows | {' | '.join(names)} |"
    yield "|---" * (len(names) + 2) + "|"
    for name, bundle in bundles.items():
        makers = [_makers(bundle, side) for side in SIDES]
        for size in SIZES:
            feeds = [ways.feeds(bundle, size)[side][1] for side in SIDES]
            taken = [
                sum(ways.microseconds(made[way](feed)) for made, feed in zip(makers, feeds, strict=True))
                for way in names
            ]
            yield f"| {name} | {size} | {' | '.join(f'{each:,.0f}' for each in taken)} |"


def of_bits(bundles: dict[str, Bundle]) -> Iterator[str]:
    """How far a GPU's results are from a CPU's, and whether a row's depend on the batch that it is in."""
    yield "| model | graph | off at most | with TF32 | sizes with the same bits of a row | rows of a batch alike |"
    yield "|---|---|---|---|---|---|"
    for name, bundle in bundles.items():
        for side in SIDES:
            graph = ways.feeds(bundle, 1)[side][0]
            cpu, gpu = ways.open_session(graph, cuda=False), ways.open_session(graph)
            rough = ways.open_session(graph, use_tf32="1")
            off, rougher, bits, alike = 0.0, 0.0, dict[bytes, list[int]](), []
            for size in ways.SIZES:
                feed = ways.feeds(bundle, size)[side][1]
                found, wanted = ways.plain(gpu, feed)(), ways.plain(cpu, feed)()
                off = max(off, _off(found, wanted))
                rougher = max(rougher, _off(ways.plain(rough, feed)(), wanted))
                bits.setdefault(b"".join(array[0].tobytes() for array in found), []).append(size)
                inputs = len(bundle.golden.image)
                if not all((array[row] == array[row % inputs]).all() for array in found for row in range(size)):
                    alike.append(size)
            groups = "; ".join(", ".join(map(str, sizes)) for sizes in bits.values())
            odd = f"not of {', '.join(map(str, alike))}" if alike else "yes"
            yield f"| {name} | {side} | {off:.1g} | {rougher:.1g} | {groups} | {odd} |"


def of_threads(bundles: dict[str, Bundle]) -> Iterator[str]:
    """Runs a second of one session by one thread, and by two at once."""
    yield "| model | graph | rows | 1 thread | 2 threads | of it |\n|---|---|---|---|---|---|"
    for name, bundle in bundles.items():
        for side in SIDES:
            session = ways.open_session(ways.feeds(bundle, 1)[side][0])
            for size in (1, 64, 1024):
                run = ways.plain(session, ways.feeds(bundle, size)[side][1])
                run()
                one, two = ways.rate([run]), ways.rate([run, run])
                yield f"| {name} | {side} | {size} | {one:,.0f} | {two:,.0f} | {two / one:.2f} |"


def of_first_runs(bundles: dict[str, Bundle]) -> Iterator[str]:
    """What the first run of a batch size takes beside the next one, in a session that has run all powers of two."""
    yield "| model | graph | first run of a new size, us | the next | the same rows, padded |\n|---|---|---|---|---|"
    for name, bundle in bundles.items():
        for side in SIDES:
            session = ways.open_session(ways.feeds(bundle, 1)[side][0])
            for size in ways.SIZES:
                ways.plain(session, ways.feeds(bundle, size)[side][1])()
            firsts, nexts, padded = [], [], []
            for size in (3, 5, 7, 11, 23, 47, 99, 150, 201, 251):
                run = ways.plain(session, ways.feeds(bundle, size)[side][1])
                firsts.append(ways.once(run))
                nexts.append(ways.once(run))
                power = 1 << (size - 1).bit_length()
                padded.append(ways.once(ways.plain(session, ways.feeds(bundle, power)[side][1])))
            told = " | ".join(f"{np.median(taken):,.0f}" for taken in (firsts, nexts, padded))
            yield f"| {name} | {side} | {told} |"


def _makers(bundle: Bundle, side: str) -> dict[str, Callable[[ways.Feed], Callable[[], list[Array]]]]:
    graph = ways.feeds(bundle, 1)[side][0]
    one, all_cores = ways.open_session(graph, cuda=False), ways.open_session(graph, threads=CORES, cuda=False)
    gpu, rough = ways.open_session(graph), ways.open_session(graph, use_tf32="1")
    recorded = ways.open_session(graph, enable_cuda_graph="1")
    return {
        "CPU, 1 thread": lambda feed: ways.plain(one, feed),
        f"CPU, {CORES} threads": lambda feed: ways.plain(all_cores, feed),
        "plain": lambda feed: ways.plain(gpu, feed),
        "binding": lambda feed: ways.bound(gpu, feed),
        "pinned": lambda feed: ways.bound(gpu, feed, pinned=True),
        "graph": lambda feed: ways.replayed(recorded, feed),
        "TF32": lambda feed: ways.plain(rough, feed),
    }


def _off(found: list[Array], wanted: list[Array]) -> float:
    pairs = zip(found, wanted, strict=True)
    return max(float(np.abs(one.astype(np.float64) - other).max()) for one, other in pairs)
