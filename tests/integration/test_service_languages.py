"""A draft over a small index in three languages: the same findings, places and evidence, sentence by sentence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from indexer import starter
from rag_service import wiring
from rag_service.gate import Gate
from rag_service.models.encoder import FilmEncoder
from rag_service.requests import Language
from tests.integration.house import PASSAGES, House


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


def test_a_draft_in_three_languages(house: House) -> None:
    english, spanish, japanese = (house.draft(language=language) for language in Language)
    heart = {"en": "The heart is enlarged.", "es": "Cardiomegalia.", "ja": "心拡大を認める。"}
    for draft in (english, spanish, japanese):
        assert draft.findings[0].sentence == heart[draft.language]
        assert heart[draft.language] in (draft.impression or "")
        assert draft.impression_en == english.impression
        assert [replace(f, sentence="") for f in draft.findings] == [replace(f, sentence="") for f in english.findings]
        assert (draft.checks, draft.not_assessed) == (english.checks, english.not_assessed)
    assert english.findings[0].citations
    assert "derrame pleural" in str(spanish.impression).lower()
    assert "胸水" in str(japanese.impression)
