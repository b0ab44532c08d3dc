"""A bounded gate: few requests work, few wait, the rest are refused at once.

Model calls are blocking and use every core, so a plain threadpool would run forty of them side by side and an
`async def` would stop the event loop. The gate runs at most `workers` in threads of its own.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from contextvars import copy_context
from typing import Any, Final, Protocol, TypeVar

from starlette.requests import ClientDisconnect
from starlette.types import Receive

from api.errors import DeadlineExceeded, NotReady
from rag_service.errors import Busy

T = TypeVar("T")
MAX_RETRY_AFTER: Final = 60
_WEIGHT_OF_NEWEST: Final = 0.2


class GateMeter(Protocol):
    """Where a gate reports. Contract: calls return at once and never raise."""

    def level(self, running: int, waiting: int) -> None:
        """How many calls run, and how many requests upload or wait, from now on."""

    def rejected(self) -> None:
        """One request was refused."""

    def expired(self) -> None:
        """One request passed its deadline."""


class WorkerCrashed(RuntimeError):
    """A call ended in something that is no `Exception` (a native panic, SystemExit); carries its type's name only."""


class Ticket:
    """A place inside the gate, good for one call."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self.started = False

    async def run(self, call: Callable[[], T]) -> T:
        """Wait for a worker, then run `call` in its thread. Cancelling while waiting gives the place back at once."""
        if self.started:
            raise RuntimeError("a ticket is good for one call")
        return await self._gate._run(self, call)


class Gate:
    """`workers` calls run, `queue` more requests may be inside (uploading or waiting), the next raises `Busy`.

    Contract:
    - everything inside `admit` shares one deadline, counted from admission; past it `DeadlineExceeded` is raised;
    - a thread cannot be stopped: a call whose caller left keeps its worker until it returns, so never more than
      `workers` calls run;
    - all methods belong to the event loop's thread.
    """

    def __init__(self, workers: int, queue: int, deadline_seconds: float, meter: GateMeter, name: str = "gate") -> None:
        self._workers = workers
        self._capacity = workers + queue
        self._deadline_seconds = deadline_seconds
        self._meter = meter
        self._slots = asyncio.Semaphore(workers)
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix=name)
        self._idle = asyncio.Event()
        self._idle.set()
        self._running = 0
        self._waiting = 0
        self._mean_seconds = 1.0
        self._closed = False

    @asynccontextmanager
    async def admit(self) -> AsyncIterator[Ticket]:
        """A place inside, or `Busy` at once; `NotReady` once the gate is closed."""
        self._refuse_when_full()
        ticket = Ticket(self)
        limit = asyncio.timeout(self._deadline_seconds)
        self._move(waiting=1)
        try:
            async with limit:
                yield ticket
        except TimeoutError:
            if not limit.expired():
                raise
            self._meter.expired()
            raise DeadlineExceeded(f"not answered within {self._deadline_seconds:g} s") from None
        finally:
            if not ticket.started:
                self._move(waiting=-1)

    async def drain(self, seconds: float) -> bool:
        """Close the gate and wait for the running calls; False when some still run after `seconds`."""
        self._closed = True
        try:
            await asyncio.wait_for(self._idle.wait(), seconds)
        except TimeoutError:
            return False
        finally:
            self._pool.shutdown(wait=False)
        return True

    def _refuse_when_full(self) -> None:
        if self._closed:
            raise NotReady("the service is shutting down")
        if self._running + self._waiting >= self._capacity:
            self._meter.rejected()
            raise Busy(self._retry_after())

    def _retry_after(self) -> int:
        """Seconds until what is inside should be done, from the mean duration of recent calls."""
        expected = self._mean_seconds * (self._running + self._waiting) / self._workers
        return max(1, min(MAX_RETRY_AFTER, math.ceil(expected)))

    async def _run(self, ticket: Ticket, call: Callable[[], T]) -> T:
        await self._slots.acquire()
        ticket.started = True
        self._move(running=1, waiting=-1)
        began = time.monotonic()
        work = asyncio.get_running_loop().run_in_executor(self._pool, copy_context().run, _contained, call)
        work.add_done_callback(lambda done: self._finished(done, began))
        await asyncio.wait({work})  # unlike `await work`, leaves the call alone when this task is cancelled
        return work.result()

    def _finished(self, work: asyncio.Future[Any], began: float) -> None:
        self._mean_seconds += _WEIGHT_OF_NEWEST * (time.monotonic() - began - self._mean_seconds)
        self._slots.release()
        self._move(running=-1)
        if not work.cancelled():
            work.exception()  # seen here, or asyncio would print an abandoned call's error, text and all

    def _move(self, running: int = 0, waiting: int = 0) -> None:
        self._running += running
        self._waiting += waiting
        if self._running:
            self._idle.clear()
        else:
            self._idle.set()
        self._meter.level(self._running, self._waiting)


def _contained(call: Callable[[], T]) -> T:
    try:
        return call()
    except Exception:
        raise
    except BaseException as error:  # noqa: BLE001 (a native panic is no Exception)
        raise WorkerCrashed(type(error).__name__) from None


async def unless_gone(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, cancelled with `ClientDisconnect` when the client leaves first.

    To be called only once the request's body has been read: what it receives is thrown away.
    """
    task = asyncio.ensure_future(work)
    watcher = asyncio.ensure_future(_departure(receive))
    try:
        await asyncio.wait({task, watcher}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        task.cancel()
        watcher.cancel()
        await asyncio.gather(task, watcher, return_exceptions=True)


async def _departure(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
