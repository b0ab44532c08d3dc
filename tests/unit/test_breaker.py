"""When the breaker lets a call through, and when it does not."""

from __future__ import annotations

import threading

import pytest

from knowledge_base.breaker import Breaker
from knowledge_base.errors import StoreProtocolError, StoreUnavailable


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(failures=5, rest_seconds=2.0, clock=clock)


def fail(breaker: Breaker, error: Exception | None = None) -> None:
    with pytest.raises(StoreUnavailable, match="no answer"), breaker.guard():
        raise error or StoreUnavailable("no answer")


def refused(breaker: Breaker) -> int:
    """Seconds to wait, of a call that is not let through."""
    with pytest.raises(StoreUnavailable, match="lately") as caught, breaker.guard():
        raise AssertionError("the store was asked")
    return caught.value.retry_after_seconds


def test_it_opens_after_five_failures_in_a_row_and_not_before(breaker: Breaker) -> None:
    for _ in range(4):
        fail(breaker)
    with breaker.guard():
        pass
    for _ in range(5):
        fail(breaker)
    assert refused(breaker) == 2


def test_a_store_that_answers_with_another_error_has_answered(breaker: Breaker) -> None:
    for _ in range(4):
        fail(breaker)
    with pytest.raises(StoreProtocolError), breaker.guard():
        raise StoreProtocolError("what?")
    fail(breaker)
    with breaker.guard():
        pass


def test_after_its_rest_one_call_is_let_through_and_closes_it(breaker: Breaker, clock: Clock) -> None:
    for _ in range(5):
        fail(breaker)
    clock.now += 1.5
    assert refused(breaker) == 1
    clock.now += 0.5
    with breaker.guard():
        assert refused(breaker) == 1
    with breaker.guard():
        pass


def test_a_probe_that_fails_begins_the_rest_anew(breaker: Breaker, clock: Clock) -> None:
    for _ in range(5):
        fail(breaker)
    clock.now += 2.0
    fail(breaker)
    assert refused(breaker) == 2
    clock.now += 2.0
    with pytest.raises(KeyboardInterrupt), breaker.guard():
        raise KeyboardInterrupt
    with breaker.guard():
        pass


def test_of_many_threads_one_alone_probes(breaker: Breaker, clock: Clock) -> None:
    for _ in range(5):
        fail(breaker)
    clock.now += 2.0
    inside, go = threading.Event(), threading.Event()

    def probe() -> None:
        with breaker.guard():
            inside.set()
            go.wait(5)

    thread = threading.Thread(target=probe)
    thread.start()
    assert inside.wait(5)
    assert [refused(breaker) for _ in range(8)] == [1] * 8
    go.set()
    thread.join()
