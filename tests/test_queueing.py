"""The simulation agrees with the theory of queues, and the autoscaler with what Kubernetes documents.

Seeds are fixed, so nothing fails by chance. Tolerances are about three standard errors of so many requests.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import pytest

from harness.autoscaler import Autoscaler, scale
from harness.queueing import (
    Floats,
    Generator,
    MeasuredTurns,
    Policy,
    Turns,
    beside_generator,
    bursts,
    poisson,
    simulate,
)

REQUESTS: Final = 150_000


def draws() -> np.random.Generator:
    return np.random.default_rng(5)


def exponential(seed: int = 7) -> list[float]:
    return list(np.random.default_rng(seed).exponential(1.0, 2 * REQUESTS).tolist())


def erlang_c(servers: int, load: float) -> float:
    """The probability that a request waits in M/M/c; `load` in Erlang (A. K. Erlang, 1917)."""
    last = load**servers / math.factorial(servers) * servers / (servers - load)
    return last / (sum(load**busy / math.factorial(busy) for busy in range(servers)) + last)


class TestOneServer:
    @pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
    def test_exponential_services_are_the_queue_m_m_1(self, load: float) -> None:
        """Sojourn times are exponential, too, with mean 1 / (1 - load)."""
        services = iter(exponential())
        arrivals = poisson(load, REQUESTS / load, draws())
        times = simulate(arrivals, lambda count: next(services), replicas=1, policy="random")
        assert times.mean() == pytest.approx(1 / (1 - load), rel=0.06)
        assert np.percentile(times, 99) == pytest.approx(math.log(100) / (1 - load), rel=0.1)

    @pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
    def test_constant_services_are_the_queue_m_d_1(self, load: float) -> None:
        """The mean wait is load / (2 (1 - load)): Pollaczek and Khinchine."""
        arrivals = poisson(load, REQUESTS / load, draws())
        times = simulate(arrivals, lambda count: 1.0, replicas=1, policy="random")
        assert times.mean() - 1 == pytest.approx(load / (2 * (1 - load)), rel=0.06)

    def test_turns_carry_more_than_one_request_at_a_time(self) -> None:
        """1.5 requests come in a second, and a request alone takes one: it takes turns of several."""
        turns = Turns(0.6, 0.4)
        arrivals = poisson(1.5, REQUESTS / 1.5, draws())
        times = simulate(arrivals, turns, replicas=1, policy="random", most=256)
        assert times.max() < 100
        assert turns.capacity(256) > 1.5


class TestManyServers:
    @pytest.mark.parametrize(("servers", "load"), [(2, 1.4), (8, 6.4)])
    def test_one_queue_is_m_m_c(self, servers: int, load: float) -> None:
        """The mean wait is Erlang's C / (servers - load)."""
        services = iter(exponential())
        arrivals = poisson(load, REQUESTS / load, draws())
        times = simulate(arrivals, lambda count: next(services), replicas=servers, policy="one queue")
        assert times.mean() - 1 == pytest.approx(erlang_c(servers, load) / (servers - load), rel=0.08)

    def test_random_splitting_leaves_each_server_m_m_1(self) -> None:
        services = iter(exponential())
        arrivals = poisson(20 * 0.6, REQUESTS / 12, draws())
        times = simulate(arrivals, lambda count: next(services), replicas=20, policy="random")
        assert times[REQUESTS // 5 :].mean() == pytest.approx(2.5, rel=0.06)

    def test_two_choices_are_what_mitzenmacher_found(self) -> None:
        """With very many servers at load 0.9 the mean is the sum of 0.9^(2^i - 2): 2.61 in place of 10 (2001)."""
        services = iter(exponential())
        arrivals = poisson(200 * 0.9, 2 * REQUESTS / 180, draws())
        times = simulate(arrivals[: 2 * REQUESTS], lambda count: next(services), replicas=200, policy="two choices")
        expected = sum(0.9 ** (2**i - 2) for i in range(1, 10))
        assert times[REQUESTS:].mean() == pytest.approx(expected, rel=0.06)

    @pytest.mark.parametrize("policy", ["round robin", "random", "two choices", "least connections"])
    def test_replicas_that_open_later_take_part_from_then_on(self, policy: Policy) -> None:
        """One cannot answer twice what it can; four can."""
        arrivals = np.arange(0, 400, 0.5)
        times = simulate(arrivals, lambda count: 1.0, replicas=4, policy=policy, opens=[0.0, 100.0, 100.0, 100.0])
        assert times[190] > 90
        assert times[-1] < 10 or policy in ("round robin", "random")  # which give the first its share still


class TestArrivals:
    def test_bursts_have_the_rate_and_come_together(self) -> None:
        rate, seconds = 1000.0, 60.0
        alone, together = poisson(rate, seconds, draws()), bursts(rate, seconds, draws(), size=8, width=1e-3)
        assert len(together) / seconds == pytest.approx(rate, rel=0.05)
        in_tenths = [np.histogram(times, 600, (0, seconds))[0] for times in (alone, together)]
        ratios = [counts.var() / counts.mean() for counts in in_tenths]
        assert ratios[0] == pytest.approx(1, rel=0.2)
        assert ratios[1] == pytest.approx(15, rel=0.3)  # E[size^2] / E[size] of a geometric size with mean 8


class TestOneMachine:
    NEVER = Generator(0.0, 0.0)

    def test_without_a_generator_it_is_the_same_queue(self) -> None:
        arrivals, turns = poisson(0.6, 20_000.0, draws()), Turns(0.5, 0.5)
        times = beside_generator(arrivals, turns, self.NEVER, iter(lambda: 0.0, 1.0), most=1, connections=10**6)
        assert np.sort(times) == pytest.approx(np.sort(simulate(arrivals, turns, replicas=1, policy="random", most=1)))

    def test_requests_without_an_idle_connection_wait_from_the_time_they_were_meant_for(self) -> None:
        times = beside_generator(
            np.zeros(3), Turns(1.0, 0.0), self.NEVER, iter(lambda: 0.0, 1.0), most=256, connections=1
        )
        assert times == pytest.approx([1.0, 2.0, 3.0])

    def test_measured_turns_lie_on_lines(self) -> None:
        turns = MeasuredTurns([1.0, 2.0, 4.0], [10.0, 14.0, 16.0])
        assert [turns(count) for count in (1, 2, 3, 4, 6)] == [10.0, 14.0, 15.0, 16.0, 18.0]


class TestAutoscaler:
    SETTINGS = Autoscaler(0.5, least=2, most=100, start=30)

    def test_it_holds_what_a_steady_load_needs(self) -> None:
        course = scale(np.full(1200, 10.0), self.SETTINGS)
        assert set(course.ready) == {20}
        assert course.refused.sum() == 0

    def test_it_follows_a_load_that_grows_and_refuses_nothing_within_the_headroom(self) -> None:
        """Twice the load is all that replicas at half can do."""
        course = scale(load(10, 20), self.SETTINGS)
        assert course.refused.sum() == 0
        assert course.ready[-1] == pytest.approx(40, rel=0.1)

    def test_what_is_beyond_the_headroom_is_refused_until_replicas_have_started(self) -> None:
        course = scale(load(10, 40), self.SETTINGS)
        assert course.refused[60:90].sum() == pytest.approx(30 * 20)
        assert course.refused[-60:].sum() == 0

    def test_it_goes_down_only_after_its_window(self) -> None:
        course = scale(load(20, 5), self.SETTINGS)
        assert set(course.ready[:350]) == {40}
        assert course.ready[-1] == 10

    def test_it_keeps_its_bounds(self) -> None:
        assert scale(load(0.1, 200), self.SETTINGS).ready.min() == 2
        assert scale(load(0.1, 200), self.SETTINGS).ready.max() == 100


def load(before: float, after: float) -> Floats:
    """A load that changes at once after a minute, and is then the same for 20."""
    return np.concatenate([np.full(60, before), np.full(1200, after)])
