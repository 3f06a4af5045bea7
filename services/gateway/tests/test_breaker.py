"""When a service that is away is asked again."""

from __future__ import annotations

from lakegate_gateway.relay.breaker import Breaker


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def failing(broken: Breaker, clock: Clock, times: int, *, seconds: float) -> None:
    for _ in range(times):
        assert broken.admits()
        broken.failed()
        clock.now += seconds / times


def test_a_breaker_opens_after_failures_that_last_and_lets_one_try_a_second() -> None:
    clock = Clock()
    broken = Breaker("lineage", clock)
    failing(broken, clock, 50, seconds=0.9)  # a replica that goes: many in a moment
    assert broken.admits()
    clock.now += 0.2
    broken.failed()
    assert not broken.admits()
    clock.now += 1.01
    assert [broken.admits() for _ in range(3)] == [True, False, False]
    broken.failed()
    clock.now += 1.01
    assert broken.admits()
    broken.succeeded()
    assert [broken.admits() for _ in range(3)] == [True] * 3


def test_a_breaker_stays_closed_while_some_connections_succeed() -> None:
    clock = Clock()
    broken = Breaker("lineage", clock)
    for _ in range(20):
        failing(broken, clock, 4, seconds=2)
        broken.succeeded()
    assert not broken.is_open
