"""Kubernetes' HorizontalPodAutoscaler on processor time, second by second, with replicas that take time to start.

Requests are a flow here: at the rates where there are many replicas, a second has millions of them, and what differs
between two seconds is the load and not chance. What chance does within a second is `harness.queueing`'s.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from harness.queueing import Floats

Usage = Callable[[float], float]


@dataclass(frozen=True)
class Autoscaler:
    """Settings of a HorizontalPodAutoscaler (autoscaling/v2), and of the cluster around it. Times in whole seconds."""

    target: float  # of the processor time that a replica requests: averageUtilization / 100
    least: int  # minReplicas
    most: int  # maxReplicas
    up_percent: int = 100  # scaleUp: the larger of so many percent ...
    up_pods: int = 4  # ... and so many replicas more, each 15 s; Kubernetes' defaults
    down_percent: int = 100
    down_window: int = 300  # scaleDown.stabilizationWindowSeconds
    tolerance: float = 0.1  # no change while the metric is this near to the target
    start: int = 10  # from the decision to ready: scheduling, and the service's own start
    period: int = 15  # between two decisions
    delay: int = 15  # of the metric, beyond the window that it is the mean of
    window: int = 15


@dataclass(frozen=True)
class Course:
    """What came of it, second by second: replicas that are ready, what is refused of the load."""

    ready: Floats
    refused: Floats


def held(usage: Usage, target: float) -> float:
    """The load at which a replica uses so much processor time, both 0..1."""
    return float(max(load for load in np.linspace(0, 1, 1001) if usage(float(load)) <= target))


def scale(load: Floats, settings: Autoscaler, usage: Usage = lambda share: share, queue: float = 0.0) -> Course:
    """Follow a load, each second in replicas that do all that they can [T].

    `usage`: the processor time that a replica uses, 0..1, when it does this share of what it can, 0..1. It grows. What
    replicas cannot do waits, up to `queue` seconds of work of each, and the rest is refused. They begin with as many as
    hold the target at the first load. A replica that is starting counts as one that uses nothing, as Kubernetes has it.
    """
    wanted = ready = _within(math.ceil(load[0] / max(held(usage, settings.target), 0.001) - 1e-9), settings)
    starting: deque[tuple[int, int]] = deque()
    advice: deque[tuple[int, int]] = deque()  # (second, replicas), for the window of scaling down
    used, backlog = [ready * usage(min(1.0, load[0] / ready))] * (settings.delay + settings.window), 0.0
    found = np.zeros((2, len(load)))
    for second, work in enumerate(load.tolist()):
        while starting and starting[0][0] <= second:
            ready += starting.popleft()[1]
        done = min(backlog + work, float(ready))
        waits = backlog + work - done
        backlog = min(waits, queue * ready)
        found[:, second] = ready, waits - backlog
        used.append(ready * usage(done / ready))
        if second % settings.period:
            continue
        end = len(used) - settings.delay
        ratio = sum(used[end - settings.window : end]) / settings.window / settings.target / wanted
        proposed = wanted if abs(ratio - 1) <= settings.tolerance else math.ceil(ratio * wanted)
        advice.append((second, proposed))
        while advice[0][0] <= second - settings.down_window:
            advice.popleft()
        if proposed > wanted:
            limit = max(math.ceil(wanted * (1 + settings.up_percent / 100)), wanted + settings.up_pods)
            more = _within(min(proposed, limit), settings) - wanted
            if more > 0:
                starting.append((second + settings.start, more))
                wanted += more
        else:
            least = max(replicas for _, replicas in advice)
            floor = math.floor(wanted * (1 - settings.down_percent / 100))
            fewer = wanted - _within(max(least, floor), settings)
            if fewer > 0 and not starting:
                ready -= fewer
                wanted -= fewer
    return Course(*found)


def _within(replicas: int, settings: Autoscaler) -> int:
    return max(settings.least, min(settings.most, replicas))
