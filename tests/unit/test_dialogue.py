"""Phrases and regions asked of a film, with answers worked out by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from eval import dialogue
from eval.dialogue import Asked
from eval.overlap import meteor
from rag_service.datasets.films import DatasetError, FilmRow
from rag_service.errors import BadWeights
from rag_service.imaging.film import Box

RIGHT, LEFT = Box(0.0, 0.0, 0.25, 0.5), Box(0.75, 0.0, 1.0, 0.5)
HALF = Box(0.75, 0.0, 1.0, 0.25)


def asked(name: str, finding: str, drawn: Box, found: Box, **likeness: float) -> Asked:
    like = {"Edema": 0.0, "Pneumothorax": 0.0, **likeness}
    said = {"a": "Mild edema.", "b": "No edema.", "c": None}[name]
    row = FilmRow("nih", Path(f"{name}.png"), name, name)
    return Asked(row, finding, (drawn,), (found,), (like,), (said,), "mild edema" if name == "a" else "")


def test_a_phrase_names_the_side_of_the_readers_boxes() -> None:
    assert dialogue.phrase("Pneumothorax", [RIGHT]) == "right pneumothorax"
    assert dialogue.phrase("Pneumothorax", [LEFT, HALF]) == "left pneumothorax"
    assert dialogue.phrase("Pneumothorax", [LEFT, RIGHT]) == "pneumothorax"
    assert dialogue.phrase("Cardiomegaly", [LEFT]) == "cardiomegaly"


def test_masks_overlap() -> None:
    assert dialogue.mask_iou([RIGHT], [RIGHT]) == 1.0 and dialogue.mask_iou([LEFT, RIGHT], [LEFT]) == 0.5
    assert dialogue.mask_iou([], []) == 0.0


def test_dialogue_by_hand() -> None:
    answered = [
        asked("a", "Edema", LEFT, LEFT, Edema=0.9),
        asked("b", "Edema", LEFT, HALF, Edema=0.2, Pneumothorax=0.4),
        asked("c", "Pneumothorax", RIGHT, LEFT, Edema=0.1, Pneumothorax=0.3),
    ]
    result = dialogue.measure(answered, "film@1", 3)
    assert set(json.loads(json.dumps(result, allow_nan=False))) == set(result)
    ground = result["sentence_grounding"]
    assert ground["miou"] == pytest.approx(0.5) and ground["phrases"] == 3
    assert ground["grounded"] == {"0.1": 2 / 3, "0.2": 2 / 3, "0.3": 2 / 3, "0.4": 2 / 3, "0.5": 2 / 3}
    # Edema is found to IoU 0.5 twice (0.1 to 0.5) and once beyond (0.6, 0.7); the pneumothorax never.
    assert ground["map_01_07"] == pytest.approx((5 + 2 * 51 / 101) / 7 / 2)
    # Likeness to Edema: 0.9 and 0.2 of its own, 0.1 of the other; to Pneumothorax 0.3 of its own, 0.0 and 0.4 of the others.
    assert result["region_classification"]["auroc"] == {"Edema": 1.0, "Pneumothorax": 0.5}
    assert result["region_classification"]["auroc_macro"] == 0.75
    told = result["region_explanation"]
    assert (told["right"], told["boxes"], told["commonest"]) == (2, 3, pytest.approx(2 / 3))
    told = result["region_sentences"]
    assert (told["asked"], told["sentences"], told["naming"]) == (3, 2, 1)
    assert told["meteor"] == pytest.approx(meteor(["mild", "edema"], ["mild", "edema"]))
    table = dialogue.table(result)
    assert "2 of 3 boxes have one, 1 name the finding drawn" in table
    assert "SG, 3 phrases: mIoU 0.500" in table and "2 of 3 boxes" in table and result["films"] == 3


class Queries:
    """Answers every phrase with one box, and is like an effusion everywhere."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def answer(self, reading: Any, words: str, text: Any) -> Any:
        self.asked.append(words)
        return SimpleNamespace(boxes=(LEFT,))

    def point(self, reading: Any, box: Box) -> Any:
        return SimpleNamespace(likeness={"Pleural Effusion": 1.0})


def say(row: FilmRow, box: Box) -> str:
    return f"{row.patient} {box.x_min}"


def a_folder(path: Path, drawn: Sequence[str]) -> Path:
    Image.fromarray(np.arange(6400, dtype=np.uint32).reshape(80, 80).astype(np.uint8)).save(path / "a.png")
    header = "file,image,patient_id,view,age,sex,labels"
    (path / "images.csv").write_text(f"{header}\na.png,a.png,1,PA,50,M,Effusion\n")
    (path / "boxes_1024.csv").write_text("\n".join(["image,finding,x,y,w,h", *drawn]) + "\n")
    return path


def test_films_with_readers_boxes_are_asked(tmp_path: Path) -> None:
    queries = Queries()
    encoder = SimpleNamespace(read=lambda film: None)
    reader: Any = SimpleNamespace(queries=queries, encoder=encoder)
    folder = a_folder(tmp_path, ["a.png,Effusion,768,0,256,512"])
    (found,) = dialogue.ask(folder, None, None, reader, None, say)  # type: ignore[arg-type]
    assert (found.finding, found.drawn, found.found, queries.asked) == (
        "Pleural Effusion", (LEFT,), (LEFT,), ["left pleural effusion"],
    )  # fmt: skip
    assert found.said == ("1 0.75",)
    with pytest.raises(DatasetError, match="holds no box"):
        dialogue.ask(a_folder(tmp_path, []), None, None, reader, None, say)  # type: ignore[arg-type]
    with pytest.raises(BadWeights, match=r"no region-queries\.json"):
        dialogue.ask(folder, None, None, SimpleNamespace(queries=None), None, say)  # type: ignore[arg-type]
