"""Markdown of what was measured: first whether the bars hold, then every table behind them.

Medians over rounds throughout; where rates are compared, medians of the ratios of those measured in turns.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import version
from statistics import median
from typing import Final

from bench.machine import machine
from bench.serving import traffic, venvs
from bench.serving.programs import (
    BARE,
    FASTAPI,
    MODEL_SERVERS,
    NO_BATCHING,
    PYTRITON,
    RAY_HAPROXY,
    SERVICE,
    TRIVIAL,
    TWO_WORKERS,
    Program,
)
from bench.serving.rounds import (
    AT,
    BATCH,
    BATCH_CONNECTIONS,
    BATCHES,
    ENCODE_JSON,
    LARGE_BATCH,
    PAIR_LOADS,
    TURNS,
    Plan,
    Record,
    Results,
)

OPEN_LOOP: Final = {  # columns: what the open loop calls them
    "open loop at": "wanted",
    "p50 ms": "p50",
    "p99 ms": "p99",
    "p99 ms from the send": "sent99",
    "p99 ms late": "late99",
}
QUIET: Final = 0.15  # cores that others may use before the figures are no longer trusted
RECONSTRUCT_JSON: Final = ENCODE_JSON.replace("encode", "reconstruct")


@dataclass(frozen=True)
class Bar:
    """One promise. `measured` is None where it could not be measured."""

    sentence: str
    wanted: float
    measured: float | None
    unit: str = "times"
    at_most: bool = False

    def row(self) -> str:
        """The bar as a row of its table."""
        sign = "at most" if self.at_most else "at least"
        if self.measured is None:
            return f"| {self.sentence} | {sign} {self.wanted:g} {self.unit} | | not measured |"
        holds = self.measured <= self.wanted if self.at_most else self.measured >= self.wanted
        verdict = "yes" if holds else "**no**"
        return f"| {self.sentence} | {sign} {self.wanted:g} {self.unit} | {self.measured:.3g} | {verdict} |"


class Figures:
    """Medians of the results."""

    def __init__(self, results: Results) -> None:
        self.results = results

    def of(self, name: str, what: str, connections: int) -> list[Record]:
        """The measurements of one thing, by round."""
        wanted = (name, what, connections)
        return [r for r in self.results.records if (r.server, r.what, r.connections) == wanted]

    def middle(
        self, value: Callable[[Record], float], name: str, what: str = ENCODE_JSON, connections: int = AT
    ) -> float | None:
        """The median of something measured; None where there is none."""
        return _median(value(record) for record in self.of(name, what, connections))

    def share(self, what: str = ENCODE_JSON) -> float | None:
        """The service's part of the bare server's rate."""
        return self.middle(lambda r: r.load.rate / r.bare_rate, SERVICE.name, what)

    def beside(self, name: str) -> float | None:
        """Another server's rate divided by the service's: the median of pairs that were measured in turns."""
        of = [record for record in self.results.records if record.what == f"beside {name}"]
        ours, theirs = ([r.load.rate for r in of if r.server == one] for one in (SERVICE.name, name))
        return _median(other / one for one, other in zip(ours, theirs, strict=False))

    def times(self, others: Iterable[Program]) -> float | None:
        """The service's rate divided by the best rate of others, each with the connections that suit it best."""
        found = [share for other in others if (share := self.beside(other.name))]
        return 1 / max(found) if found else None

    def of_json(self, verb: str, sent: str) -> float | None:
        """The rate of raw requests divided by that of JSON requests: the median of pairs measured in turns."""
        json, raw = (self.of(SERVICE.name, f"/{verb} {form} to JSON, {TURNS}", AT) for form in ("JSON", sent))
        return _median(other.load.rate / one.load.rate for one, other in zip(json, raw, strict=False))

    def of_tight(self, kind: str) -> float | None:
        """Images per second in batches, divided by the tight loop's of the same round."""
        ours = self.of(SERVICE.name, kind, BATCH_CONNECTIONS)
        pairs = zip(ours, self.results.tight, strict=False)
        return _median(record.load.images_rate / tight[kind]["images_rate"] for record, tight in pairs)


def markdown(results: Results, plan: Plan, seconds: float) -> str:
    """The whole report."""
    figures = Figures(results)
    sections = [
        f"### Serving\n\n{machine()}; {plan.rounds} round(s), {seconds / 60:.0f} minutes in all; medians of rounds.\n"
        f"{_noise(results)}\n\n" + "\n".join(f"- {line}" for line in versions(plan)),
        "#### The bars\n\n| | wanted | measured | holds |\n|---|---|---|---|\n"
        + "\n".join(bar.row() for bar in bars(figures)),
        _programs(figures, plan),
        _singles(figures, plan),
        _batches(figures),
        _stages(results),
        _probes(results),
        _generators(figures),
    ]
    if results.missing:
        rows = "\n".join(f"- {name}: {reason}" for name, reason in results.missing.items())
        sections.append(f"#### Not measured, or not in every round\n\n{rows}")
    return "\n\n".join(section for section in sections if section) + "\n"


def bars(figures: Figures) -> list[Bar]:
    """Everything that was promised of the service."""
    others = [server.name for server in (*FASTAPI, *MODEL_SERVERS, RAY_HAPROXY, PYTRITON)]
    p99 = [figures.middle(lambda r: r.load.p99, name) for name in others]
    here = figures.middle(lambda r: r.load.p99, SERVICE.name)
    found = [one for one in p99 if one]
    forms = [
        Bar(f"`/{verb}`: a raw {sent} request, of one in JSON", 1, figures.of_json(verb, sent))
        for verb in ("encode", "reconstruct")
        for sent in ("PNG", "npy")
    ]
    png = _median(tight["reconstruct JSON"]["stages"]["write PNG"] for tight in figures.results.tight)
    worst = _median(
        max(probe["worst"] for probe in figures.results.probes if probe["round"] == number)
        for number in sorted({probe["round"] for probe in figures.results.probes})
    )
    failed = sum(r.load.failed for r in figures.results.records if r.server == SERVICE.name)
    return [
        Bar(f"`/encode`, one digit, {AT} connections, of bare uvicorn", 0.35, figures.share(f"{ENCODE_JSON}, {TURNS}")),
        Bar("of FastAPI + Pillow, the better of both, at its best", 6, figures.times(FASTAPI)),
        Bar("of the best of LitServe, BentoML, MLServer, Ray Serve", 10, figures.times(MODEL_SERVERS)),
        Bar("the same with Ray Serve behind HAProxy", 10, figures.times((*MODEL_SERVERS, RAY_HAPROXY))),
        Bar("of PyTriton at its best", 4, figures.times((PYTRITON,))),
        Bar(f"p99 at {AT} connections, of the lowest other", 1, _ratio(here, min(found, default=None)), at_most=True),
        Bar("1 connection, of the same with batching off", 0.9, figures.times((NO_BATCHING,))),
        Bar("`/reconstruct`, one digit, of bare uvicorn", 0.25, figures.share(f"{RECONSTRUCT_JSON}, {TURNS}")),
        *forms,
        *(
            Bar(f"{kind}, batches of {BATCH}, of the tight loop", wanted, figures.of_tight(kind))
            for kind, wanted in zip(BATCHES, (0.6, 0.7, 0.6, 0.6), strict=True)
        ),
        Bar("the tight loop's PNG encoder, a digit", 10, png, "us", at_most=True),
        Bar("2 workers, of one", 1.6, figures.beside(TWO_WORKERS.name)),
        Bar(f"slowest GET /readyz during batches of {LARGE_BATCH}", 20, worst, "ms", at_most=True),
        Bar("answers of this service that failed", 0, failed, "", at_most=True),
    ]


def versions(plan: Plan) -> list[str]:
    """What was measured, a line for this service and one for each environment of the peers."""
    ours = ("fastapi", "uvicorn", "uvloop", "httptools", "onnxruntime", "orjson", "numpy", "pillow")
    lines = [f"this service: {', '.join(f'{name} {version(name)}' for name in ours)}"]
    for environment in dict.fromkeys(peer.environment for peer in plan.peers if peer.environment):
        pins = venvs.versions(environment)
        wanted = ("litserve", "bentoml", "mlserver", "ray", "nvidia-pytriton", "fastapi", "uvicorn", "onnxruntime")
        lines.append(f"{environment}: {', '.join(f'{name} {pins[name]}' for name in wanted if name in pins)}")
    return lines


def _programs(figures: Figures, plan: Plan) -> str:
    """Every server with one digit a request."""
    bare = figures.middle(lambda r: r.load.rate, BARE.name)
    rows = []
    for one in (BARE, SERVICE, *plan.peers):
        name = one.name
        of = [record for record in figures.results.records if record.server == name and record.what == ENCODE_JSON]
        if not of:
            continue
        loops = [loop for loop in figures.results.open_loop if loop["server"] == name]
        failed = sum(record.load.failed for record in of) / max(1, sum(record.load.answers for record in of))
        cells = [
            *(_number(figures.middle(lambda r: r.load.rate, name, connections=count)) for count in plan.connections),
            _number(_ratio(figures.middle(lambda r: r.load.rate, name), bare)),
            _number(figures.times((one,))),
            *(_number(figures.middle(lambda r, p=p: getattr(r.load, p), name)) for p in ("p50", "p99")),  # type: ignore[misc]
            *(_number(_median(loop[figure] for loop in loops)) for figure in OPEN_LOOP.values()),
            _number(figures.middle(lambda r: r.load.resident, name)),
            _number(figures.middle(lambda r: r.load.server_cores, name)),
            f"{failed:.2%}" if failed else "",
        ]
        rows.append((name, *cells))
    return (
        "#### One base64 digit in JSON, `mu` and `logvar` back\n\n"
        + _table(
            (
                "",
                *(f"requests/s, {count} conn." for count in plan.connections),
                f"of bare, {AT}",
                "this service is … times it",
                *(f"{percentile} ms, {AT}" for percentile in ("p50", "p99")),
                *OPEN_LOOP,
                "RSS MB",
                "cores used",
                "failed",
            ),
            rows,
        )
        + f'\n\n"… times it": this service at {AT} connections and the other at its best, measured in turns. The open '
        "loop runs at half of each one's best rate. Its p50 and p99 count from the time a request was meant to leave; "
        '"from the send", from the time it left; "late": how long after its time it left. Where requests left late, '
        "the p99 says how busy the generator's core was."
    )


def _singles(figures: Figures, plan: Plan) -> str:
    rows = [
        (
            what,
            *(
                _number(figures.middle(lambda r: r.load.rate, SERVICE.name, what, count))
                for count in plan.form_connections
            ),
            *(
                _number(figures.middle(lambda r, p=p: getattr(r.load, p), SERVICE.name, what))  # type: ignore[misc]
                for p in ("p50", "p99")
            ),
            _number(figures.share(what)),
        )
        for what in traffic.SINGLE
    ]
    counts = (f"requests/s, {count} conn." for count in plan.form_connections)
    return "#### This service, one digit in every form\n\n" + _table(
        ("", *counts, f"p50 ms, {AT}", f"p99 ms, {AT}", f"of bare, {AT}"), rows
    )


def _batches(figures: Figures) -> str:
    rows = [
        (
            kind,
            _number(figures.middle(lambda r: r.load.rate, SERVICE.name, kind, BATCH_CONNECTIONS)),
            _number(figures.middle(lambda r: r.load.images_rate, SERVICE.name, kind, BATCH_CONNECTIONS)),
            *(
                _number(figures.middle(lambda r, p=p: getattr(r.load, p), SERVICE.name, kind, BATCH_CONNECTIONS))  # type: ignore[misc]
                for p in ("p50", "p99")
            ),
            _number(_median(tight[kind]["images_rate"] for tight in figures.results.tight)),
            _number(figures.of_tight(kind)),
        )
        for kind in BATCHES
    ]
    return f"#### This service, batches of {BATCH}, {BATCH_CONNECTIONS} connections\n\n" + _table(
        ("", "requests/s", "images/s", "p50 ms", "p99 ms", "images/s of the tight loop", "of it"), rows
    )


def _stages(results: Results) -> str:
    if not results.tight:
        return ""
    kinds = list(results.tight[0])
    stages = list(dict.fromkeys(stage for kind in kinds for stage in results.tight[0][kind]["stages"]))
    rows = [
        (
            stage,
            *(
                _number(_median(t[kind]["stages"][stage] for t in results.tight if stage in t[kind]["stages"]))
                for kind in kinds
            ),
        )
        for stage in stages
    ]
    rows.append(
        ("**all**", *(_number(_median(1e6 / tight[kind]["images_rate"] for tight in results.tight)) for kind in kinds))
    )
    pins = venvs.versions("limit")
    libraries = ", ".join(
        f"{name} {pins[name]}" for name in ("imagecodecs", "zlib-ng", "pybase64", "orjson", "onnxruntime")
    )
    return (
        f"#### The tight loop: microseconds an image in batches of {BATCH}, one thread, no server\n\n"
        + _table(("", *kinds), rows)
        + f"\n\nWith {libraries}."
    )


def _probes(results: Results) -> str:
    rows = [
        (
            kind,
            *(_number(_median(probe[field] for probe in of)) for field in ("images_rate", "p50", "p99", "worst")),
        )
        for kind in BATCHES
        for of in ([probe for probe in results.probes if probe["kind"] == kind],)
    ]
    return f"#### `GET /readyz` while batches of {LARGE_BATCH} run on 2 connections\n\n" + _table(
        ("", "images/s meanwhile", "p50 ms", "p99 ms", "slowest ms"), rows
    )


def _generators(figures: Figures) -> str:
    """Whether the load generators were fast enough: how much of their cores they used."""
    lines = []
    pace = figures.middle(lambda r: r.load.rate / r.load.generator_cores, TRIVIAL.name)
    reached = figures.middle(lambda r: r.load.rate, TRIVIAL.name)
    loops = [loop["rate"] for loop in figures.results.open_loop if loop["server"] == TRIVIAL.name]
    if pace and reached:
        lines.append(
            f"One thread of wrk, {AT} connections, got {_number(reached)} answers/s from a responder that does nothing "
            f"else, and would reach {_number(pace)}/s if it had a core to itself and never waited."
        )
    for name in (BARE.name, SERVICE.name):
        wrk, server = (
            figures.middle(value, name) for value in (lambda r: r.load.generator_cores, lambda r: r.load.server_cores)
        )
        if wrk and server:
            lines.append(f"Against {name} it used {wrk:.2f} of a core while the server used {server:.2f}.")
    if loops:
        lines.append(f"The open-loop generator gets at most {_number(_median(loops))} answers/s from that responder.")
    for name in (BARE.name, SERVICE.name):
        starved = _median(loop["starved"] for loop in figures.results.open_loop if loop["server"] == name)
        if starved is not None:
            lines.append(
                f"Against {name} the open-loop generator had to wait for a processor {starved:.1%} of the time."
            )
    lines += _room(figures)
    return "#### The load generators\n\n" + "\n".join(f"- {line}" for line in lines)


def _noise(results: Results) -> str:
    """How busy other processes were. They slow the bare server most, because wrk needs most of a core for it."""
    others = sorted(record.load.other_cores for record in results.records)
    if not others:
        return ""
    middle, high = median(others), others[len(others) * 9 // 10]
    verdict = " **Too much to judge by: run it again on a quiet machine.**" if middle > QUIET else ""
    return f"Other processes used {middle:.2f} cores, in the noisiest tenth {high:.2f} or more.{verdict}"


def _room(figures: Figures) -> list[str]:
    """How fast two workers could be beside wrk, by the processor time of a request in each."""
    what, (request, connections) = f"beside {TWO_WORKERS.name}", PAIR_LOADS[TWO_WORKERS.name]
    one = figures.middle(lambda r: r.load.rate, SERVICE.name, what, connections)
    server = figures.middle(lambda r: r.load.server_cores / r.load.rate, SERVICE.name, what, connections)
    wrk = figures.middle(lambda r: r.load.generator_cores / r.load.rate, SERVICE.name, what, connections)
    if not (one and server and wrk):
        return []
    cores = len(os.sched_getaffinity(0))
    possible = min(2.0, cores / (server + wrk) / one)
    return [
        f"With {request.path}, {server * 1e6:.0f} us of a request are this service and {wrk * 1e6:.0f} us wrk: "
        f"{cores} cores leave two workers room for about {possible:.2f} times one worker's rate; measured: "
        f"{_number(figures.beside(TWO_WORKERS.name))} times."
    ]


def _ratio(one: float | None, other: float | None) -> float | None:
    return one / other if one and other else None


def _median(values: Iterable[float]) -> float | None:
    found = list(values)
    return median(found) if found else None


def _number(value: float | None) -> str:
    """A number with three significant figures; from 100 on, a whole number."""
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
