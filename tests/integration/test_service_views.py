"""A draft from a frontal and a lateral: what joins in, and what is refused."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from indexer import starter
from knowledge_base.findings import FINDINGS
from rag_service import errors, wiring
from rag_service.gate import Gate
from rag_service.imaging.film import Film
from rag_service.models.encoder import FilmEncoder, FilmReading
from rag_service.models.network import PRESENTATIONS
from rag_service.views import FindingFusion, ViewFusion
from tests.integration.house import (
    PASSAGES,
    House,
    as_bytes,
    film,
)


@pytest.fixture
def house(
    encoder: FilmEncoder,
    words: Any,
    stored: NDArray[np.uint8],
    open_gate: Callable[[str, int], Gate],
    monkeypatch: pytest.MonkeyPatch,
) -> House:
    monkeypatch.setattr(wiring, "load_passages", PASSAGES)
    monkeypatch.setattr(starter, "load_passages", PASSAGES)
    return House(encoder, words, stored, open_gate("tiny", 302))


FUSION = ViewFusion("tiny", {f: FindingFusion(0.0, 1.0, 0.0, 9, 3) for f in FINDINGS}, "made by hand")
"""Every score is the lateral's."""


@pytest.fixture
def views(house: House, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What each film of `house.stored` presents itself as, by its index; a frontal unless a test says otherwise."""
    shown: dict[str, str] = {}
    read = house.encoder.read

    def steered(picture: Film) -> FilmReading:
        index = next(i for i in range(len(house.stored)) if digest_of(film(house.stored, i)) == picture.digest)
        kind = np.array([float(p == shown.get(str(index), "frontal")) for p in PRESENTATIONS])
        return replace(read(picture), presentation=kind)

    monkeypatch.setattr(house.encoder, "read", steered)
    house.views = FUSION
    return shown


def digest_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_a_lateral_joins_in_and_is_named(house: House, views: dict[str, str]) -> None:
    views["1"] = "lateral"
    side = film(house.stored, 1)
    alone, both = house.draft(), house.draft(lateral=side)
    assert (alone.checks["views"], both.checks["views"]) == (["frontal"], ["frontal", "lateral"])
    assert (alone.provenance.lateral, alone.provenance.view_fusion) == (None, None)
    assert both.provenance == replace(alone.provenance, lateral=digest_of(side), view_fusion=FUSION.digest)
    entry = house.calibration.findings["Cardiomegaly"]
    score = float(house.encoder.read(house.service.decode(side)).probabilities[FINDINGS.index("Cardiomegaly")])
    heart = next(f for f in both.findings if f.label == "Cardiomegaly")
    assert heart.confidence.p == pytest.approx(entry.p(score), abs=1e-9)
    assert heart.confidence.p != next(f for f in alone.findings if f.label == "Cardiomegaly").confidence.p
    assert [c.box_overlap for c in both.similar_cases] == [c.box_overlap for c in alone.similar_cases]
    assert both.out_of_distribution == alone.out_of_distribution
    assert as_bytes(both) == as_bytes(house.draft(lateral=side))


def test_a_frontal_alone_is_answered_as_by_a_model_without_fusion(house: House, views: dict[str, str]) -> None:
    with_fusion = as_bytes(house.draft())
    house.views = None
    del house.service
    assert as_bytes(house.draft()) == with_fusion


@pytest.mark.parametrize(
    ("frontal", "lateral", "told"),
    [
        ("frontal", "frontal", "the film given as lateral is a frontal film"),
        ("lateral", "frontal", "the films are swapped"),
        ("frontal", "inverted", r"is not a lateral chest film \(inverted\)"),
    ],
)
def test_a_lateral_that_is_none_is_never_left_out_in_silence(
    house: House, views: dict[str, str], frontal: str, lateral: str, told: str
) -> None:
    views.update({"0": frontal, "1": lateral})
    with pytest.raises(errors.LateralNotUsable, match=told):
        house.draft(lateral=film(house.stored, 1))


def test_a_lateral_that_cannot_be_read_or_is_the_frontal_again(house: House, views: dict[str, str]) -> None:
    with pytest.raises(errors.LateralNotUsable, match=r"cannot be read \(not_an_image\)"):
        house.draft(lateral=b"no film")
    with pytest.raises(errors.LateralNotUsable, match="is the frontal film again"):
        house.draft(lateral=film(house.stored))


def test_a_model_without_fusion_reads_no_laterals(house: House, views: dict[str, str]) -> None:
    views["1"], house.views = "lateral", None
    with pytest.raises(errors.BadWeights, match=r"has no views\.json"):
        house.draft(lateral=film(house.stored, 1))


def test_an_abstention_names_the_lateral_too(house: House, views: dict[str, str]) -> None:
    views["1"], house.limits = "lateral", replace(house.limits, limit=0.0)
    draft = house.draft(lateral=film(house.stored, 1))
    assert (draft.status, draft.abstain_reasons) == ("abstained", ("out_of_distribution",))
    assert draft.provenance.lateral == digest_of(film(house.stored, 1))
