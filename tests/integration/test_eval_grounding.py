"""`python -m eval grounding` and `prompts`: made-up maps and drawn boxes, then a small whole model by command."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from eval import __main__ as cli
from eval import dialogue, grounding, prompted
from eval.box_sources import CENTRE
from knowledge_base.findings import FINDINGS
from knowledge_base.memory import MemoryStore
from rag_service import wiring
from rag_service.datasets.films import DatasetError
from rag_service.errors import BadRequest, BadWeights
from rag_service.imaging.film import Box
from rag_service.models import text
from rag_service.models.box_fusion import BoxChoice
from rag_service.models.region_network import QUERIES
from rag_service.models.region_queries import RegionAnswer
from rag_service.reader import Reader
from rag_service.requests import QueryRequest
from rag_service.service import RadiographService

if TYPE_CHECKING:
    from tests.integration.conftest import Maker

HEADER = "file,image,patient_id,view,age,sex,labels,source"


def a_map(rows: tuple[int, int] = (0, 0), columns: tuple[int, int] = (0, 0)) -> NDArray[np.float32]:
    """(64, 64): one where told, zero elsewhere."""
    made = np.zeros((64, 64), np.float32)
    made[slice(*rows), slice(*columns)] = 1.0
    return made


RIGHT_LUNG = a_map((20, 36), (12, 24))
MAPS = {
    "Lung Opacity": RIGHT_LUNG,
    "Pneumothorax": RIGHT_LUNG,
    "Atelectasis": RIGHT_LUNG,
    "Pleural Effusion": a_map(),
    "Cardiomegaly": a_map((32, 44), (28, 44)),
}
READING = SimpleNamespace(
    maps=None,
    places=np.stack([MAPS.get(f, a_map()) for f in FINDINGS]),
    probabilities=np.full(14, 0.5),
)


def a_reader(queries: Any = None, reading: Any = READING) -> Reader:
    encoder = SimpleNamespace(record=SimpleNamespace(id="film@1"), network=None, read=lambda film: reading)
    return Reader(encoder, None, None, queries=queries)  # type: ignore[arg-type]


def an_answer(*boxes: Box, presence: float | None = 0.75) -> RegionAnswer:
    likeness = {q: float(q == "cardiac") for q in QUERIES}
    return RegionAnswer(boxes, presence, np.zeros(4, np.float32), np.full((2, 2), 0.25, np.float32), likeness)


class Queries:
    """Finds a box on the side that the text's first number names, and one in the middle for what it knows."""

    def found(self, reading: Any) -> dict[str, RegionAnswer]:
        return {q: an_answer(CENTRE) for q in QUERIES}

    def ask(self, reading: Any, vectors: NDArray[np.float32]) -> list[RegionAnswer]:
        return [an_answer(Box(0.6, 0.2, 0.9, 0.6) if v[0] else Box(0.1, 0.2, 0.4, 0.6)) for v in vectors]

    def point(self, reading: Any, box: Box) -> RegionAnswer:
        return an_answer(box, presence=None)

    def joined(self, places: Any, answer: RegionAnswer) -> tuple[Box, ...]:
        from rag_service.models.box_fusion import fused

        return fused(places, answer.boxes, BoxChoice(queries=1.0))


def nih_folder(maker: Maker, *drawn: str) -> Path:
    """Three films of three patients, one with its markers painted over, and the boxes drawn on them, in cells of 16 pixels."""
    for number, name in enumerate("abc"):
        maker.film(f"{name}.png", number)
    kinds = ("original", "original", "markers_blacked_out")
    rows = [f"{n}.png,{n}.png,{i},PA,50,M,Infiltration|Effusion,{kinds[i]}" for i, n in enumerate("abc")]
    maker.table("images.csv", HEADER, *rows)
    boxes = []
    for line in drawn:
        image, finding, *cells = line.split(",")
        boxes.append(",".join([image, finding, *(str(16 * int(c)) for c in cells)]))
    maker.table("boxes_1024.csv", "image,finding,x,y,w,h", *boxes)
    return maker.folder


DRAWN = (
    "a.png,Infiltrate,12,20,12,16",
    "a.png,Effusion,40,44,10,10",
    "b.png,Cardiomegaly,38,32,16,12",
    "b.png,Pneumothorax,40,20,12,16",
    "c.png,Atelectasis,12,20,12,8",
    "c.png,Atelectasis,40,20,12,16",
    "unmeasured.png,Infiltrate,12,20,12,16",
)


def test_boxes_against_radiologists_boxes(maker: Maker) -> None:
    result = grounding.measure(nih_folder(maker, *DRAWN), a_reader(), None, 7)
    found = result["per_finding"]
    assert list(found) == ["Lung Opacity", "Pleural Effusion", "Cardiomegaly", "Pneumothorax", "Atelectasis"]
    right = found["Lung Opacity"]
    # the box of film a is right; those of b and c, as sure, are false alarms ranked behind it
    assert (right["drawn"], right["mean_iou"], right["hit_rate"], right["map_01_07"]) == (1, 1.0, 1.0, 1.0)
    assert (right["given_map_01_07"], right["side"], right["sided"]) == (1.0, 1.0, 1)
    nothing = found["Pleural Effusion"]
    assert (nothing["map_01_07"], nothing["hit_rate"], nothing["side"], nothing["sided"]) == (0.0, 0.0, None, 0)
    heart = found["Cardiomegaly"]
    assert (heart["mean_iou"], heart["hit_rate"], heart["side"]) == (pytest.approx(6 / 26), 0.0, None)
    assert heart["given_map_01_07"] == pytest.approx(2 / 7)  # IoU 0.23 counts at 0.1 and 0.2
    assert heart["map_01_07"] == pytest.approx(1 / 7)  # behind the false alarm on film a, which is as sure
    both = found["Atelectasis"]
    assert (both["drawn"], both["boxes"], both["mean_iou"], both["hit_rate"]) == (1, 2, 0.5, 1.0)
    assert (result["drawn"], result["boxes"], result["films"]) == (5, 6, 3)
    assert (result["hit_rate"], result["side"], result["sided"]) == (0.4, 0.5, 2)
    assert result["mean_iou"] == pytest.approx((1 + 6 / 26 + 0.5) / 5)
    assert result["map_01_07"] == pytest.approx(np.mean([v["map_01_07"] for v in found.values()]))
    assert 0.0 <= result["ap_05"] <= result["ap_03"] <= 1.0
    low, high = result["intervals"]["mean_iou"]
    assert 0.0 <= low <= result["mean_iou"] <= high <= 1.0
    assert list(result["controls"]) == ["place maps", "class prior", "centre", "random"]
    assert result["controls"]["place maps"]["mean_iou"] == result["mean_iou"]
    assert result["controls"]["centre"]["hit_rate"] == 0.0
    assert result["by_markers"]["original"]["drawn"] == 4 and result["by_markers"]["markers_blacked_out"]["drawn"] == 1
    assert (result["seed"], result["signature"]["model"]) == (7, "film@1")
    lines = grounding.table(result).splitlines()
    assert lines[0].startswith("3 films with reader boxes, seed 7")
    assert [line.split()[0] for line in lines[1:4]] == ["map_01_07", "hit_rate", "mean_iou"]
    assert lines[5].startswith("boxes of a draft") and lines[-1].startswith("films markers_blacked_out")


def test_the_queries_join_and_stand_beside(maker: Maker) -> None:
    folder = nih_folder(maker, "a.png,Infiltrate,16,16,32,32", "b.png,Infiltrate,12,20,12,16")
    result = grounding.measure(folder, a_reader(Queries()), None, 7)
    assert result["hit_rate"] == 0.5 and result["controls"]["queries"]["mean_iou"] == result["mean_iou"]
    assert result["by_markers"]["markers_blacked_out"] is None
    assert "films markers_blacked_out" not in grounding.table(result)


def test_only_some_films(maker: Maker) -> None:
    folder = nih_folder(maker, *DRAWN)
    assert grounding.measure(folder, a_reader(), None, 7, limit=2)["films"] == 2
    assert grounding.measure(folder, a_reader(), None, 7, limit=9)["films"] == 3


def test_what_cannot_be_measured(maker: Maker) -> None:
    bare = a_reader(reading=SimpleNamespace(maps=None, places=None, probabilities=np.full(14, 0.5)))
    folder = nih_folder(maker, *DRAWN)
    with pytest.raises(BadRequest, match="draws no maps"):
        grounding.measure(folder, bare, None, 7)
    with pytest.raises(DatasetError, match="holds no reader box"):
        grounding.measure(nih_folder(maker, "elsewhere.png,Infiltrate,12,20,12,16"), a_reader(), None, 7)


class Text:
    """The left is one."""

    def encode(self, texts: list[str]) -> NDArray[np.float32]:
        return np.array([[float("left" in t)] for t in texts], np.float32)


def test_prompts_for_either_side(maker: Maker) -> None:
    reader = a_reader(Queries())
    result = prompted.measure(nih_folder(maker, *DRAWN), None, 2, reader, Text(), 7)  # type: ignore[arg-type]
    assert result["sides"]["films"] == 2 and result["sides"]["moved"] == 1.0
    assert result["sides"]["prompts"]["{} lung"] == {"side": 1.0, "both": 1.0}
    assert result["words"] == {"affirmed": None, "denied": None}  # both films bear the same labels
    lines = prompted.table(result).splitlines()
    assert lines[0].startswith("prompts for either side on 2 films: both on their side 1.000")
    assert lines[-1] == "macro-AUROC by a finding's name -, by 'no' and its name -"
    with pytest.raises(BadWeights, match=r"no region-queries\.json"):
        prompted.measure(maker.folder, None, None, a_reader(), Text(), 7)  # type: ignore[arg-type]


def test_structures_on_outlined_films(tmp_path: Path) -> None:
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for name in ("JPCLN001", "JPCNN002"):
        Image.fromarray(np.arange(64 * 64, dtype=np.uint16).astype(np.uint8).reshape(64, 64)).save(
            tmp_path / "images" / f"{name}.png"
        )
    bits = np.zeros((200, 200), np.uint8)
    bits[50:150, 50:150] = 7  # all three in the middle
    Image.fromarray(bits).save(tmp_path / "masks" / "JPCLN001.png")
    result = prompted.measure(tmp_path, None, None, a_reader(Queries()), Text(), 7)  # type: ignore[arg-type]
    assert result["structures"]["iou"] == {"right lung": 1.0, "left lung": 1.0, "heart": 1.0}
    assert result["structures"]["named"] == {"right lung": 0.0, "left lung": 0.0, "heart": 1.0}
    assert prompted.table(result).splitlines()[0] == "structures on 2 outlined films"


def test_by_command(
    whole_model: Path, maker: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAG_MODEL_FOLDER", str(whole_model))
    folder = nih_folder(maker, "a.png,Infiltrate,12,20,12,16", "b.png,Cardiomegaly,30,32,16,12")
    assert cli.main(["grounding", str(folder), "--limit", "1", "--json", str(tmp_path / "r.json")]) == 0
    assert capsys.readouterr().out.startswith("1 films with reader boxes")
    written = json.loads((tmp_path / "r.json").read_text())
    assert {"map_01_07", "ap_03", "ap_05", "hit_rate", "per_finding", "controls"} <= set(written)
    assert "Grad-CAM" in written["controls"]
    assert cli.main(["prompts", str(folder)]) == 3  # this model has no region queries


def test_dialogue_by_command(
    whole_model: Path, maker: Maker, words: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores: list[str] = []
    monkeypatch.setenv("RAG_MODEL_FOLDER", str(whole_model))
    monkeypatch.setattr(wiring, "build_store", lambda settings: stores.append(settings.store) or MemoryStore())
    monkeypatch.setattr(text, "load_text_encoder", lambda: words)
    monkeypatch.setattr(dialogue, "queries_of", lambda reader: Pointed())
    asked: list[QueryRequest] = []
    answer = SimpleNamespace(answer=SimpleNamespace(sentence="Patchy opacity."))
    monkeypatch.setattr(RadiographService, "query", lambda self, request: asked.append(request) or answer)
    folder, out = nih_folder(maker, "a.png,Infiltrate,12,20,12,16"), tmp_path / "r.json"
    assert cli.main(["dialogue", str(folder), "--store", "somewhere", "--json", str(out)]) == 0
    result = json.loads(out.read_text())
    assert stores == ["somewhere"] and result["region_classification"]["boxes"] == 1
    assert result["region_sentences"] == {"asked": 1, "meteor": None, "naming": 1, "sentences": 1}
    (request,) = asked
    assert request.patient is not None and request.patient[0] == "nih" and request.box is not None


class Pointed:
    """Region queries that find the same box for every phrase."""

    def answer(self, reading: Any, asked: str, encode: Any) -> Any:
        return SimpleNamespace(boxes=(CENTRE,))

    def point(self, reading: Any, box: Box) -> Any:
        return SimpleNamespace(likeness=dict.fromkeys(FINDINGS, 0.5))
