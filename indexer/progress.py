"""How far a run is: rate, time left, and what became of the studies."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress

from tqdm import tqdm

from indexer.summary import Summary
from rag_service.datasets.films import DatasetError


@contextmanager
def progress(summary: Summary, items: Iterable[object], *, quiet: bool) -> Iterator[Callable[[], None]]:
    """A bar that shows the summary whenever the function given is called.

    `items` are the run's own studies once more: they are counted meanwhile, and once they are, the time left is known.
    """
    if quiet:
        yield lambda: None
        return
    ended = threading.Event()
    with tqdm(unit=" studies", desc="indexing") as bar:

        def told() -> None:
            quarantined = summary.quarantined.total() + summary.still_quarantined
            counts = {"added": summary.added, "unchanged": summary.unchanged, "quarantined": quarantined}
            bar.set_postfix(counts, refresh=False)
            bar.update(summary.settled - bar.n)

        counter = threading.Thread(target=_count, args=(items, bar, ended), daemon=True)
        counter.start()
        try:
            yield told
        finally:
            ended.set()
            counter.join()
            told()
            bar.refresh()


def _count(items: Iterable[object], bar: tqdm[object], ended: threading.Event) -> None:
    """Set the bar's total, unless the run ends first with fewer. What is wrong with the source, the run itself says."""
    number = 0
    with suppress(DatasetError):
        for number, _ in enumerate(items, 1):
            if ended.is_set() and number > bar.n:
                return
        bar.total = number
