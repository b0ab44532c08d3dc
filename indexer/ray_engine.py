"""The engine of a Ray cluster (Ray Data): actors hold the models and map; this process alone writes to the store.

`ray` is an extra. Without a cluster to join (RAY_ADDRESS), one is started on this machine and ends with the run. The model
folder has to be at the same path on every node, and the films too. Nothing about the use made of it is sent to anybody.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from indexer.builder import Mapped, StudyMap
from indexer.studies import Study
from rag_service.errors import BadRequest

WINDOW: Final = 256
"""Batches that are given to the cluster at once; the actors load their models anew for the next."""
TURNED_OFF: Final = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
}
"""Read by Ray as it is imported: no report of its use, no bars beside ours, no advice on accelerators or to its own authors."""


class RayMissing(BadRequest):
    """`--engine ray` was asked for and Ray is not installed."""

    title = "Ray is not installed"


@dataclass(frozen=True)
class RayEngine:
    """See `Engine`: each row of the data set is a batch, mapped by one of `workers` actors. Ray must have been started."""

    folder: Path
    workers: int
    tenant: str

    def run(self, batches: Iterable[Sequence[Study]]) -> Iterator[Mapped]:
        """See `Engine.run`."""
        source = iter(batches)
        while window := list(islice(source, WINDOW)):
            yield from self._mapped(window)

    def _mapped(self, window: Sequence[Sequence[Study]]) -> Iterator[Mapped]:
        from ray import data

        rows = data.from_items([{"studies": Parcel(tuple(batch))} for batch in window], override_num_blocks=len(window))
        actors = min(self.workers, len(window))
        mapped = rows.map_batches(
            _Actor,
            batch_size=1,
            concurrency=actors,
            fn_constructor_args=(str(self.folder), self.tenant),
            zero_copy_batch=True,
        )
        for row in mapped.iter_rows():
            yield row["mapped"].content


@dataclass(frozen=True, repr=False)
class Parcel:
    """A value that Ray Data carries as one object, whatever it holds.

    Ray writes the repr of what it carries to its logs: no word of a report goes there.
    """

    content: Any


class _Actor:
    """Holds the models of one actor: the encoders on one thread each, and a decode child."""

    def __init__(self, folder: str, tenant: str) -> None:
        import torch

        from indexer.engines import actor_map

        torch.set_num_threads(1)
        self._map: StudyMap = actor_map(Path(folder), tenant)

    def __call__(self, rows: Mapping[str, Sequence[Parcel]]) -> dict[str, list[Parcel]]:
        return {"mapped": [Parcel(self._map(parcel.content)) for parcel in rows["studies"]]}


@contextmanager
def ray_engine(folder: Path, workers: int, tenant: str) -> Iterator[RayEngine]:
    """An engine with `workers` actors (0: one for each processor of the cluster), Ray started and shut down. RayMissing."""
    ray = _ray()
    with redirect_stdout(sys.stderr):  # where Ray tells what befalls its actors; stdout is the command's own
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR, configure_logging=True)
        try:
            processors = int(ray.cluster_resources().get("CPU", 1))
            yield RayEngine(folder.absolute(), min(workers or processors, processors), tenant)
        finally:
            ray.shutdown()


def _ray() -> ModuleType:
    os.environ.update(TURNED_OFF)
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise RayMissing("--engine ray needs Ray: pip install .[ray]") from error
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False
    return ray
