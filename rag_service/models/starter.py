"""The starter cases: vectors of Open-i studies that ship with the weights. Vectors only; the reports come from a package."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save_file

from knowledge_base.records import BoxLatent
from knowledge_base.zones import ZONES
from rag_service.errors import BadWeights

VECTORS_FILE: Final = "starter.safetensors"
LISTING_FILE: Final = "starter.json"


@dataclass(frozen=True, eq=False)
class StarterCases:
    """n studies: ids, box vectors [c ; r/sqrt(3)] (n, 2d) and text vectors (n, 384), and the models that made them.

    `regions` (n, 7, R): the films' region vectors, zones in the order of ZONES; None where the box model makes none.
    """

    box_model: str
    text_model: str
    studies: tuple[str, ...]
    boxes: NDArray[np.float32]
    texts: NDArray[np.float32]
    regions: NDArray[np.float32] | None = None

    def box(self, index: int) -> BoxLatent:
        """The box of a study."""
        return BoxLatent.from_vector(self.boxes[index])

    def zones(self, index: int) -> Mapping[str, NDArray[np.float32]] | None:
        """The region vectors of a study by zone."""
        return None if self.regions is None else dict(zip(ZONES, self.regions[index], strict=True))


def save_starter(folder: Path, cases: StarterCases) -> None:
    """Write vectors (float16) and the listing that carries their digest."""
    path = folder / VECTORS_FILE
    arrays = {"boxes": cases.boxes, "texts": cases.texts, "regions": cases.regions}
    save_file({n: a.astype(np.float16) for n, a in arrays.items() if a is not None}, path)
    listing = {
        "box_model": cases.box_model,
        "text_model": cases.text_model,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "studies": list(cases.studies),
    }
    (folder / LISTING_FILE).write_text(json.dumps(listing, separators=(",", ":")) + "\n", "utf-8")


def load_starter(folder: Path, box_model: str, text_model: str) -> StarterCases:
    """The starter cases in `folder`. BadWeights when absent, altered, or made by other models."""
    try:
        listing = json.loads((folder / LISTING_FILE).read_text("utf-8"))
        content = (folder / VECTORS_FILE).read_bytes()
        expected, made_by = listing["sha256"], (listing["box_model"], listing["text_model"])
        studies = tuple(listing["studies"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadWeights(f"{LISTING_FILE} or {VECTORS_FILE} is absent or malformed in the model folder") from error
    if (found := hashlib.sha256(content).hexdigest()) != expected:
        raise BadWeights(f"{VECTORS_FILE}: expected sha256 {expected}, found {found}")
    _same_models(made_by, (box_model, text_model))
    try:
        arrays = {n: a.astype(np.float32) for n, a in load(content).items()}
        boxes, texts, regions = arrays["boxes"], arrays["texts"], arrays.get("regions")
    except (SafetensorError, KeyError) as error:
        raise BadWeights(f"{VECTORS_FILE} is malformed") from error
    if {len(studies)} != {len(a) for a in arrays.values()} or (regions is not None and regions.shape[1] != len(ZONES)):
        raise BadWeights(f"{LISTING_FILE} lists {len(studies)} studies, {VECTORS_FILE} holds {len(boxes)}")
    return StarterCases(box_model, text_model, studies, boxes, texts, regions)


def _same_models(made_by: Sequence[str], running: Sequence[str]) -> None:
    if tuple(made_by) != tuple(running):
        raise BadWeights(f"the starter cases were made by {made_by}, the models are {running}")
