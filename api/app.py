"""The app: everything above put together, and the one lifetime they share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from fastapi import FastAPI

from api.documents import describe
from api.envelope import Envelope
from api.gate import Gate
from api.metrics import Metrics
from api.ports import ReportService
from api.problems import add_handlers
from api.routes import OPERATIONS_TAG, ApiState, operations, use_cases
from api.settings import ApiSettings
from api.startup import Startup

VERSION: Final = "1.0.0"
_DRAIN_SECONDS: Final = 5.0
"""The server has answered every request by then; this is for calls whose caller had left."""
_LOOKUPS_PER_WORKER: Final = 4
"""Reading a case asks only the store, so more may run and wait than drafts."""
_TAGS: Final = [
    {"name": "reports", "description": "Drafts, similar cases and the evidence they cite."},
    {"name": OPERATIONS_TAG, "description": "For those who run the service; no key needed."},
]


def create_app(service_factory: Callable[[], ReportService], settings: ApiSettings) -> FastAPI:
    """An app that builds its service with `service_factory` in the background once it is started.

    At shutdown the server first lets running requests finish; then calls nobody waits for any more get a few seconds,
    and the service is closed.
    """
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[ApiState]:
        deadline = settings.deadline_seconds
        models = Gate(settings.workers, settings.queue, deadline, metrics.gate("models"), "models")
        workers, queue = settings.workers * _LOOKUPS_PER_WORKER, max(1, settings.queue) * _LOOKUPS_PER_WORKER
        lookups = Gate(workers, queue, deadline, metrics.gate("lookups"), "lookups")
        startup = Startup(service_factory)
        startup.start()
        try:
            yield ApiState(startup=startup, models=models, lookups=lookups)
        finally:
            await asyncio.gather(models.drain(_DRAIN_SECONDS), lookups.drain(_DRAIN_SECONDS))
            startup.close()

    app = FastAPI(
        title="Chest radiograph report drafts",
        version=VERSION,
        description="Drafts in which every sentence shows where, on whose precedent, by what rule and how sure.",
        lifespan=lifespan,
        openapi_tags=_TAGS,
        docs_url=None,  # its page loads scripts from the internet, which a hospital's network does not offer
        redoc_url=None,
        redirect_slashes=False,
    )
    app.include_router(use_cases(settings, metrics))
    app.include_router(operations(metrics))
    add_handlers(app)
    app.add_middleware(Envelope, metrics=metrics, allowed_hosts=settings.allowed_hosts)
    describe(app)
    return app
