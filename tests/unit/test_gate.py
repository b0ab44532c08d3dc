"""The bounded gate: how many run, how many wait, who is refused, and what happens to those who leave."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from starlette.requests import ClientDisconnect

from api.errors import DeadlineExceeded, NotReady
from api.gate import Gate, WorkerCrashed, unless_gone
from rag_service.errors import Busy


class Tally:
    """A meter that remembers."""

    def __init__(self) -> None:
        self.running = self.waiting = self.most_running = self.most_waiting = self.refusals = self.expiries = 0

    def level(self, running: int, waiting: int) -> None:
        self.running, self.waiting = running, waiting
        self.most_running = max(self.most_running, running)
        self.most_waiting = max(self.most_waiting, waiting)

    def rejected(self) -> None:
        self.refusals += 1

    def expired(self) -> None:
        self.expiries += 1


async def through(gate: Gate, call: Callable[[], Any]) -> Any:
    async with gate.admit() as ticket:
        return await ticket.run(call)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


def play(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(scenario)


def test_a_call_runs_in_a_thread_and_its_result_comes_back() -> None:
    async def scenario() -> None:
        gate = Gate(1, 0, 5.0, Tally(), "models")
        name = await through(gate, lambda: threading.current_thread().name)
        assert name == "models_0"

    play(scenario())


def test_of_twelve_at_once_two_run_eight_wait_and_two_are_refused() -> None:
    async def scenario() -> None:
        tally, go = Tally(), threading.Event()
        gate = Gate(2, 8, 5.0, tally)
        inside = [asyncio.create_task(through(gate, lambda: go.wait(5))) for _ in range(10)]
        await until(lambda: tally.running == 2 and tally.waiting == 8)
        for _ in range(2):
            began = time.perf_counter()
            with pytest.raises(Busy) as refusal:
                await through(gate, lambda: None)
            assert time.perf_counter() - began < 0.05
            assert refusal.value.retry_after_seconds == 5  # 10 inside at 1 s each over 2 workers
        go.set()
        assert await asyncio.gather(*inside) == [True] * 10
        assert (tally.most_running, tally.most_waiting, tally.refusals) == (2, 8, 2)
        await until(lambda: (tally.running, tally.waiting) == (0, 0))

    play(scenario())


def test_uploading_takes_a_place_too() -> None:
    async def scenario() -> None:
        tally = Tally()
        gate = Gate(1, 0, 5.0, tally)
        async with gate.admit():
            assert (tally.running, tally.waiting) == (0, 1)
            with pytest.raises(Busy):
                await through(gate, lambda: None)
        assert await through(gate, lambda: 7) == 7

    play(scenario())


def test_leaving_while_waiting_frees_the_place() -> None:
    async def scenario() -> None:
        tally, go = Tally(), threading.Event()
        gate = Gate(1, 1, 5.0, tally)
        first = asyncio.create_task(through(gate, lambda: go.wait(5)))
        second = asyncio.create_task(through(gate, lambda: "never"))
        await until(lambda: (tally.running, tally.waiting) == (1, 1))
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        assert (tally.running, tally.waiting) == (1, 0)
        third = asyncio.create_task(through(gate, lambda: "third"))
        await until(lambda: tally.waiting == 1)
        go.set()
        assert (await first, await third) == (True, "third")

    play(scenario())


def test_leaving_while_running_keeps_the_worker_until_the_call_returns() -> None:
    async def scenario() -> None:
        tally, go = Tally(), threading.Event()
        gate = Gate(1, 0, 5.0, tally)
        first = asyncio.create_task(through(gate, lambda: go.wait(5)))
        await until(lambda: tally.running == 1)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        assert tally.running == 1
        with pytest.raises(Busy):
            await through(gate, lambda: None)
        go.set()
        await until(lambda: tally.running == 0)
        assert await through(gate, lambda: "free") == "free"

    play(scenario())


@pytest.mark.parametrize("place", ["running", "waiting", "uploading"])
def test_past_the_deadline_the_caller_is_told(place: str) -> None:
    async def scenario() -> None:
        tally, go = Tally(), threading.Event()
        gate = Gate(1, 1, 0.05, tally)
        ahead = asyncio.create_task(through(gate, lambda: go.wait(5))) if place == "waiting" else None
        await until(lambda: tally.running == (1 if ahead else 0))
        began = time.perf_counter()
        with pytest.raises(DeadlineExceeded, match=r"^not answered within 0\.05 s$"):
            async with gate.admit() as ticket:
                await (asyncio.sleep(5) if place == "uploading" else ticket.run(lambda: go.wait(5)))
        assert time.perf_counter() - began < 1.0
        go.set()
        if ahead is not None:
            await asyncio.gather(ahead, return_exceptions=True)
        assert tally.expiries == (2 if ahead else 1)
        await until(lambda: (tally.running, tally.waiting) == (0, 0))

    play(scenario())


def test_a_timeout_of_the_call_itself_is_not_the_deadline() -> None:
    def call() -> None:
        raise TimeoutError("the store's own")

    async def scenario() -> None:
        with pytest.raises(TimeoutError, match="the store's own"):
            await through(Gate(1, 0, 5.0, Tally()), call)

    play(scenario())


def test_a_native_panic_becomes_an_ordinary_error_without_its_text() -> None:
    class PanicException(BaseException):
        pass

    def call() -> None:
        raise PanicException("DOE^JANE")

    async def scenario() -> None:
        gate = Gate(1, 0, 5.0, Tally())
        with pytest.raises(WorkerCrashed, match=r"^PanicException$"):
            await through(gate, call)
        assert await through(gate, lambda: "still works") == "still works"

    play(scenario())


def test_an_abandoned_error_is_not_printed_by_asyncio(caplog: pytest.LogCaptureFixture) -> None:
    go = threading.Event()

    def call() -> None:
        go.wait(5)
        raise ValueError("DOE^JANE")

    async def scenario() -> None:
        tally = Tally()
        with pytest.raises(DeadlineExceeded):
            await through(Gate(1, 0, 0.02, tally), call)
        go.set()
        await until(lambda: tally.running == 0)

    play(scenario())
    assert "DOE^JANE" not in caplog.text


def test_draining_waits_for_what_runs_and_refuses_what_comes() -> None:
    async def scenario() -> None:
        tally, go = Tally(), threading.Event()
        gate = Gate(1, 1, 5.0, tally)
        running = asyncio.create_task(through(gate, lambda: go.wait(5)))
        await until(lambda: tally.running == 1)
        assert await gate.drain(0.02) is False
        with pytest.raises(NotReady, match="shutting down"):
            await through(gate, lambda: None)
        go.set()
        assert await gate.drain(5.0) is True
        assert await running is True

    play(scenario())


def test_a_ticket_is_good_for_one_call() -> None:
    async def scenario() -> None:
        async with Gate(1, 0, 5.0, Tally()).admit() as ticket:
            await ticket.run(lambda: None)
            with pytest.raises(RuntimeError):
                await ticket.run(lambda: None)

    play(scenario())


def test_work_is_cancelled_when_the_client_leaves() -> None:
    cancelled = []

    async def receive() -> dict[str, str]:
        await asyncio.sleep(0.01)
        return {"type": "http.disconnect"}

    async def work() -> None:
        try:
            await asyncio.sleep(5)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    async def scenario() -> None:
        with pytest.raises(ClientDisconnect):
            await unless_gone(receive, work())

    play(scenario())
    assert cancelled == [True]


def test_work_done_in_time_is_returned_and_nobody_listens_on() -> None:
    async def never() -> dict[str, str]:
        await asyncio.sleep(60)
        return {}

    async def work() -> int:
        return 7

    async def scenario() -> None:
        assert await unless_gone(never, work()) == 7
        assert len(asyncio.all_tasks()) == 1

    play(scenario())
