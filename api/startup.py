"""The service is built beside the running server: alive at once, ready when built."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from api.errors import NotReady
from api.logs import log_failure
from api.metrics import code_or
from api.ports import ReportService
from rag_service.errors import ServiceError, StoreProtocol, StoreUnavailable

OK: Final = "ok"
_PROBE_SECONDS: Final = 2.0


class Startup:
    """Builds the service once, in a thread, and hands it out.

    Contract: `factory` is called again only while it raises `StoreUnavailable` or `StoreProtocol`, so that a store that
    comes back needs no restart; any other error is final and is what `service` raises from then on.
    """

    def __init__(self, factory: Callable[[], ReportService], retry_seconds: float = 2.0) -> None:
        self._factory = factory
        self._retry_seconds = retry_seconds
        self._stop = threading.Event()
        self._handover = threading.Lock()
        self._service: ReportService | None = None
        self._fault: ServiceError = NotReady("the models and the knowledge base are still being loaded")
        self._probes = ThreadPoolExecutor(1, thread_name_prefix="readiness")
        self._probe: asyncio.Future[dict[str, str]] | None = None

    def start(self) -> None:
        """Begin building; returns at once."""
        threading.Thread(target=self._build, name="build-service", daemon=True).start()

    def service(self) -> ReportService:
        """The built service, or the `ServiceError` that says why there is none."""
        if self._service is None:
            raise self._fault.with_traceback(None)
        return self._service

    async def components(self) -> dict[str, str]:
        """Each component's "ok" or reason code; asks the service, which gets two seconds to answer."""
        if self._service is None:
            return {"service": self._fault.code}
        if self._probe is None or self._probe.done():
            self._probe = asyncio.get_running_loop().run_in_executor(self._probes, self._service.readiness)
        done, _ = await asyncio.wait({self._probe}, timeout=_PROBE_SECONDS)
        if not done:
            return {"service": "timeout"}
        try:
            return {code_or("component", name): code_or("unknown", why) for name, why in self._probe.result().items()}
        except ServiceError as error:
            return {"service": error.code}
        except Exception as error:  # noqa: BLE001 (a probe must answer)
            log_failure(error)
            return {"service": "internal"}

    def close(self) -> None:
        """Close the service if there is one; one still being built is closed as soon as it is."""
        self._stop.set()
        self._probes.shutdown(wait=False, cancel_futures=True)
        with self._handover:
            service, self._service = self._service, None
            self._fault = NotReady("the service is shutting down")
        if service is not None:
            service.close()

    def _build(self) -> None:
        while not self._stop.is_set():
            try:
                self._hand_over(self._factory())
                return
            except (StoreUnavailable, StoreProtocol) as error:
                self._fault = error
                self._stop.wait(self._retry_seconds)
            except BaseException as error:  # noqa: BLE001 (a native panic must leave a reason, too)
                log_failure(error)
                self._fault = error if isinstance(error, ServiceError) else NotReady("the service could not be built")
                return

    def _hand_over(self, service: ReportService) -> None:
        with self._handover:
            if not self._stop.is_set():
                self._service = service
                return
        service.close()
