"""A run that is told to stop ends between two batches."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass
class Stop:
    """Which signal asked the run to end; None while none did."""

    signal: signal.Signals | None = None

    @property
    def exit_code(self) -> int:
        """128 and the signal's number, as a shell has it; 0 while none came."""
        return 128 + self.signal if self.signal else 0

    def asked(self) -> bool:
        """Whether a signal came."""
        return self.signal is not None


@contextmanager
def stoppable() -> Iterator[Stop]:
    """Note the first SIGINT or SIGTERM; a second one does what it always did. For the main thread."""
    stop = Stop()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(number: int, _: FrameType | None) -> None:
        stop.signal = signal.Signals(number)
        restore()

    for number in before:
        signal.signal(number, note)
    try:
        yield stop
    finally:
        restore()
