"""Numbers for Prometheus, one registry per app. Labels are codes and route templates, never text of a request."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4
_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_CODE: Final = re.compile(r"[a-z0-9_.\-]{1,64}")


def code_or(other: str, text: str) -> str:
    """`text` where it is spelt like a code, `other` where it might be anything."""
    return text if _CODE.fullmatch(text) else other


class GateGauges:
    """The meter of one gate (see `api.gate.GateMeter`)."""

    def __init__(self, running: Gauge, waiting: Gauge, rejected: Counter, expired: Counter) -> None:
        self._running, self._waiting, self._rejected, self._expired = running, waiting, rejected, expired

    def level(self, running: int, waiting: int) -> None:
        """Calls in threads now, and requests inside that are uploading or waiting."""
        self._running.set(running)
        self._waiting.set(waiting)

    def rejected(self) -> None:
        """One request was refused because the gate was full."""
        self._rejected.inc()

    def expired(self) -> None:
        """One request passed its deadline."""
        self._expired.inc()


class Metrics:
    """Requests by route and status, latencies, the gates, drafts by status and reasons for abstaining."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        add: dict[str, Any] = {"registry": self.registry}
        self._requests = Counter("rag_http_requests", "Requests answered", ["method", "route", "status"], **add)
        self._seconds = Histogram("rag_http_seconds", "Seconds to answer", ["route"], buckets=_SECONDS, **add)
        self._running = Gauge("rag_gate_running", "Calls in worker threads", ["gate"], **add)
        self._waiting = Gauge("rag_gate_waiting", "Requests uploading or waiting for a worker", ["gate"], **add)
        self._rejected = Counter("rag_gate_rejected", "Requests refused by a full gate", ["gate"], **add)
        self._expired = Counter("rag_gate_expired", "Requests past their deadline", ["gate"], **add)
        self._drafts = Counter("rag_drafts", "Drafts by status", ["status"], **add)
        self._abstained = Counter("rag_abstained", "Reasons for drafting nothing", ["reason"], **add)

    def gate(self, name: str) -> GateGauges:
        """The meter of the gate called `name`."""
        running, waiting = self._running.labels(name), self._waiting.labels(name)
        return GateGauges(running, waiting, self._rejected.labels(name), self._expired.labels(name))

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """One request was answered; `route` is a template."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def drafted(self, draft: Mapping[str, Any]) -> None:
        """One draft (as JSON) was made or withheld."""
        self._drafts.labels(code_or("other", draft["status"])).inc()
        for reason in draft["abstain_reasons"]:
            self._abstained.labels(code_or("other", reason)).inc()

    def exposition(self) -> bytes:
        """All of it in Prometheus' text format 0.0.4."""
        return generate_latest(self.registry)
