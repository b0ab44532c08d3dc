"""`python -m eval evidence` over a small model and a store in memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from eval import __main__ as cli
from knowledge_base.memory import MemoryStore
from rag_service import wiring
from rag_service.datasets.films import Split, split_of
from rag_service.models import text

if TYPE_CHECKING:
    from tests.integration.conftest import Maker


def test_evidence_by_command(
    whole_model: Path,
    maker: Maker,
    words: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    stores: list[str] = []
    monkeypatch.setenv("RAG_MODEL_FOLDER", str(whole_model))
    monkeypatch.setattr(wiring, "build_store", lambda settings: stores.append(settings.store) or MemoryStore())
    monkeypatch.setattr(text, "load_text_encoder", lambda: words)
    of_split = [s for s in (f"CXR{i}" for i in range(60)) if split_of("openi", s) is Split.CALIBRATION][:2]
    folder = maker.openi(dict.fromkeys(of_split, ("The heart is enlarged.", "", ("Cardiomegaly",))))
    out = tmp_path / "out.json"
    assert cli.main(["evidence", str(folder), "--store", "somewhere", "--json", str(out)]) == 0
    result = json.loads(out.read_text())
    assert (result["films"], result["drafted"], stores) == (2, 2, ["somewhere"])
    assert {p: v["findings"]["n"] for p, v in result["polarities"].items()} == dict.fromkeys(
        ("positive", "negative", "uncertain"), 0
    )  # an empty memory holds nothing to say
    assert capsys.readouterr().out.startswith("2 of 2 films drafted, with the relevance gate and without\npositive ")
