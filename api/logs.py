"""Structured logs: one JSON object a line, built from codes, templates and numbers; never text of a request."""

from __future__ import annotations

import json
import logging
import sys
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Final

ACCESS: Final = logging.getLogger("rag.access")
ERRORS: Final = logging.getLogger("rag.errors")
_OWN: Final = ("rag", "uvicorn")
"""Loggers whose messages are known to carry nothing of a request; of any other only the place is written."""


@dataclass(frozen=True)
class Access:
    """One answered request. `route` is the template, `bytes` the length of the answer, `code` a problem's code."""

    request_id: str
    method: str
    route: str
    status: int
    milliseconds: float
    bytes: int
    code: str | None


def log_access(access: Access) -> None:
    """One line for one request."""
    ACCESS.info("access", extra={"fields": asdict(access)})


def log_failure(error: BaseException, request_id: str | None = None) -> None:
    """What kind of error it was and where it was raised; not its message, which may quote a film or a report."""
    ERRORS.error("failure", extra={"fields": {"request_id": request_id, **_kind_and_place(error)}})


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON; tracebacks become the error's type and place."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its newline."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, object] = {"time": time, "level": record.levelname, "logger": record.name}
        if record.name.partition(".")[0] in _OWN:
            line["event"] = record.getMessage()
        else:
            line["event"] = f"{record.module}:{record.lineno}"
        if record.exc_info and record.exc_info[1] is not None:
            line.update(_kind_and_place(record.exc_info[1]))
        line.update(getattr(record, "fields", {}))
        return json.dumps(line, ensure_ascii=True)


def configure() -> None:
    """Send every logger's records to standard output as JSON; called once, by the server's entry point."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.INFO)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).handlers = []
        logging.getLogger(name).propagate = name != "uvicorn.access"


def _kind_and_place(error: BaseException) -> dict[str, str | None]:
    return {"error": type(error).__name__, "place": _place(error.__traceback__)}


def _place(traceback: TracebackType | None) -> str | None:
    if traceback is None:
        return None
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    module = traceback.tb_frame.f_globals.get("__name__", "?")
    return f"{module}:{traceback.tb_lineno}"
