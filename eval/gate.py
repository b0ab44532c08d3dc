"""python -m eval gate DIR: what share of the pictures under a folder is turned away, and for which reasons."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from tqdm import tqdm

from knowledge_base.records import digest
from rag_service.datasets import openi
from rag_service.datasets.films import DatasetError
from rag_service.errors import FilmError
from rag_service.gate import OutOfDistribution
from rag_service.imaging.decode import decode
from rag_service.imaging.film import Film
from rag_service.reader import Reader

SUFFIXES: Final = frozenset({".png", ".jpg", ".jpeg", ".dcm"})


def pictures(folder: Path, projection: str | None) -> list[Path]:
    """Every picture under the folder; of an Open-i folder only those of a projection, when one is given."""
    if projection is not None:
        found = [r.path for r in openi.films(folder) if r.presentation == projection]
    else:
        found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)
    if not found:
        raise DatasetError(f"{folder.name}/ holds no such picture")
    return found


def judged(film: Callable[[], Film], reader: Reader) -> tuple[tuple[str, ...], OutOfDistribution | None]:
    """Why a picture is turned away, and its scores; of one that cannot be decoded the error's code, and no scores."""
    try:
        decoded = film()
    except FilmError as error:
        return (error.code,), None
    verdict = reader.gate.judge(decoded, reader.encoder.read(decoded))
    return verdict.reasons, verdict.out_of_distribution


def tally(reasons: Sequence[tuple[str, ...]]) -> dict[str, Any]:
    """Share turned away with its denominator, and how often each reason was given (a picture may have several)."""
    counts = Counter(reason for found in reasons for reason in found)
    away = sum(map(bool, reasons))
    return {"turned_away": away / len(reasons), "n": len(reasons), "reasons": dict(counts.most_common())}


def measure(paths: list[Path], reader: Reader) -> dict[str, Any]:
    """The tally of these pictures, signed."""
    reasons = [
        judged(lambda path=path: decode(path.read_bytes()), reader)[0]  # type: ignore[misc]
        for path in tqdm(paths, desc="reading pictures", unit="picture")
    ]
    return {
        **tally(reasons),
        "signature": {"pictures": digest(sorted(p.name for p in paths)), "model": reader.encoder.record.id},
    }


def table(result: dict[str, Any]) -> str:
    """The result for a reader."""
    reasons = ", ".join(f"{k} {v}" for k, v in result["reasons"].items()) or "no reason given"
    return f"turned away {result['turned_away']:.3f} of {result['n']} pictures ({reasons})"
