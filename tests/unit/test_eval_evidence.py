"""What the relevance gate costs and gives, counted on drafts that a test sets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from eval import evidence
from knowledge_base.findings import Polarity
from rag_service.datasets.films import FilmRow
from rag_service.report.draft import Citation, CounterEvidence, Status
from rag_service.requests import DraftRequest

POSITIVE, NEGATIVE, UNCERTAIN = Polarity.POSITIVE, Polarity.NEGATIVE, Polarity.UNCERTAIN
PROVENANCE = SimpleNamespace(model="tiny@1", knowledge_base="k")
AGAINST = CounterEvidence("c", 0.5, "No.", (0, 3))


def said(label: str, polarity: Polarity, cases: int, counter: int = 0) -> Any:
    case = Citation("case", "c", "x", (0, 1), 0.5, entails=True)
    guideline = Citation("guideline", "g", "x", (0, 1), 0.5, entails=True)
    return SimpleNamespace(
        label=label, polarity=polarity, citations=(case,) * cases + (guideline,), counter_evidence=(AGAINST,) * counter
    )


class Drafting:
    """A service that drafts what it is told, by the bytes of the film."""

    def __init__(self, findings: Mapping[bytes, tuple[Any, ...]]) -> None:
        self.findings = findings
        self.asked: list[DraftRequest] = []

    def draft(self, request: DraftRequest) -> Any:
        self.asked.append(request)
        found = self.findings.get(request.film)
        status = Status.ABSTAINED if found is None else Status.DRAFT
        return SimpleNamespace(status=status, findings=found or (), provenance=PROVENANCE)


def row(folder: Path, name: str, **labels: bool) -> FilmRow:
    path = folder / name
    path.write_bytes(name.encode())
    return FilmRow("openi", path, name, f"p-{name}", labels)


def test_what_the_gate_takes_away_is_counted_and_judged(tmp_path: Path) -> None:
    rows = [row(tmp_path, "a", Edema=True, Fracture=True), row(tmp_path, "b", Edema=False), row(tmp_path, "away")]
    free: Any = Drafting(
        {
            b"a": (said("Edema", POSITIVE, 3, 2), said("Fracture", NEGATIVE, 2, 1)),
            b"b": (said("Edema", POSITIVE, 3, 1), said("Pneumonia", UNCERTAIN, 1)),
        }
    )
    gated: Any = Drafting({b"a": (said("Edema", POSITIVE, 2, 1),), b"b": (said("Pneumonia", UNCERTAIN, 1),)})
    result = evidence.measure(rows, gated, free)
    assert (result["films"], result["drafted"]) == (3, 2)
    assert result["polarities"] == {
        "positive": {
            "findings": {"n": 2, "labelled": 2, "right": 1},
            "lost": {"n": 1, "labelled": 1, "right": 0},
            "citations": {"free": 6, "gated": 2},
            "counter": {"free": 3, "gated": 1},
        },
        "negative": {
            "findings": {"n": 1, "labelled": 1, "right": 0},
            "lost": {"n": 1, "labelled": 1, "right": 0},
            "citations": {"free": 2, "gated": 0},
            "counter": {"free": 1, "gated": 0},
        },
        "uncertain": {
            "findings": {"n": 1, "labelled": 0, "right": 0},
            "lost": {"n": 0, "labelled": 0, "right": 0},
            "citations": {"free": 1, "gated": 1},
            "counter": {"free": 0, "gated": 0},
        },
    }
    assert (result["signature"]["model"], result["signature"]["knowledge_base"]) == ("tiny@1", "k")
    assert [r.patient for r in gated.asked] == [("openi", "p-a"), ("openi", "p-b"), ("openi", "p-away")]
    assert evidence.table(result).splitlines() == [
        "2 of 3 films drafted, with the relevance gate and without",
        "positive   2 findings (0.500 right), 1 lost (0.000 right); citations 6 -> 2; counter-evidence 3 -> 1",
        "negative   1 findings (0.000 right), 1 lost (0.000 right); citations 2 -> 0; counter-evidence 1 -> 0",
        "uncertain  1 findings (none right), 0 lost (none right); citations 1 -> 1; counter-evidence 0 -> 0",
    ]


def test_a_folder_of_which_nothing_is_drafted(tmp_path: Path) -> None:
    nothing: Any = Drafting({})
    result = evidence.measure([row(tmp_path, "away")], nothing, nothing)
    assert (result["drafted"], result["signature"]["model"]) == (0, None)
