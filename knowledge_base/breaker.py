"""A circuit breaker: a store that keeps failing is left alone for a while, so that nobody waits for it in vain."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from knowledge_base.errors import StoreUnavailable


class Breaker:
    """Opens after `failures` calls in a row have raised `StoreUnavailable`.

    While it is open, calls raise `StoreUnavailable` at once. After `rest_seconds` one call is let through: when the store
    answers it, be it with another error, the breaker closes; when it does not, the rest begins anew. Any thread may call.
    """

    def __init__(
        self, failures: int = 5, rest_seconds: float = 2.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._failures = failures
        self._rest_seconds = rest_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._failed = 0
        self._rests_until = 0.0
        self._probing = False

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Around one call to the store."""
        probe = self._admit()
        unanswered = False
        try:
            yield
        except StoreUnavailable:
            unanswered = True
            raise
        finally:
            self._settle(probe, unanswered)

    def _admit(self) -> bool:
        """Whether this call is the probe; raises when it may not be made."""
        with self._lock:
            if self._failed < self._failures:
                return False
            left = self._rests_until - self._clock()
            if left > 0 or self._probing:
                raise StoreUnavailable("the store has not answered lately", max(1, math.ceil(left)))
            self._probing = True
            return True

    def _settle(self, probe: bool, unanswered: bool) -> None:
        with self._lock:
            if probe:
                self._probing = False
            self._failed = self._failed + 1 if unanswered else 0
            if unanswered:
                self._rests_until = self._clock() + self._rest_seconds
