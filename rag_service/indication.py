"""What the indication tells beyond the film: known words of it move the raw scores of the findings.

"Pacemaker placement" makes a device likelier on the same film. The words are few and fixed, what they add is bounded, and a text of
which none is known moves nothing: an indication is weighed, never obeyed.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from knowledge_base.findings import FINDINGS
from knowledge_base.records import digest
from rag_service import sealed
from rag_service.errors import BadWeights
from rag_service.models.encoder import FilmReading
from rag_service.views import logit

FILE: Final = "indication.json"
LIMIT: Final = 2.0
"""Logits by which an indication moves a finding at most."""
_WORD: Final = re.compile(r"[a-z]{2,}")

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class IndicationShift:
    """What each of the known `words` (V,) adds to the logit of each finding: `weights` (14, V) over unit vectors of the words,
    each weighed by `rarity` (V,), less `usual` (V,), the mean vector of indications. `model` is the film model it was fitted with.
    """

    model: str
    words: tuple[str, ...]
    rarity: Floats
    usual: Floats
    weights: Floats
    sample: str

    def __post_init__(self) -> None:
        count = len(self.words)
        if (
            self.rarity.shape != (count,)
            or self.usual.shape != (count,)
            or self.weights.shape != (len(FINDINGS), count)
        ):
            raise ValueError("an indication shift has one rarity, one mean and 14 weights for each word")
        if not all(np.isfinite(part).all() for part in (self.rarity, self.usual, self.weights)):
            raise ValueError("the weights of an indication shift are finite")

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the record: the `indication` of a draft's provenance."""
        return digest(self._plain())

    @cached_property
    def _places(self) -> dict[str, int]:
        return {word: i for i, word in enumerate(self.words)}

    def vector(self, indication: str) -> Floats | None:
        """The unit vector (V,) of an indication's known words; None when it has none."""
        counts = Counter(w for w in words_of(indication) if w in self._places)
        if not counts:
            return None
        found = np.zeros(len(self.words))
        for word, count in counts.items():
            found[self._places[word]] = (1.0 + np.log(count)) * self.rarity[self._places[word]]
        return np.asarray(found / np.linalg.norm(found))

    def shift(self, indication: str) -> Floats:
        """Logits (14,) that an indication adds, within LIMIT; zeros where none of its words is known."""
        vector = self.vector(indication)
        if vector is None:
            return np.zeros(len(FINDINGS))
        return np.asarray(np.clip(self.weights @ (vector - self.usual), -LIMIT, LIMIT))

    def told(self, reading: FilmReading, indication: str) -> FilmReading:
        """The reading with its raw scores moved by an indication, and their spread as it is at the new scores."""
        shift = self.shift(indication)
        if not shift.any():
            return reading
        before = np.asarray(reading.probabilities, np.float64)
        after = 1.0 / (1.0 + np.exp(-(logit(before) + shift)))
        slope = after * (1 - after) / np.maximum(before * (1 - before), np.finfo(np.float64).tiny)
        return replace(reading, probabilities=after, spread=reading.spread * slope)

    def save(self, folder: Path) -> None:
        """Write `indication.json`."""
        sealed.write(folder / FILE, self._plain())

    def _plain(self) -> dict[str, Any]:
        parts = {name: np.round(getattr(self, name), 4).tolist() for name in ("rarity", "usual", "weights")}
        return {"model": self.model, "words": list(self.words), **parts, "sample": self.sample}


def words_of(text: str) -> list[str]:
    """The words of an indication, lower case, without the publisher's blanks."""
    return [w for w in _WORD.findall(text.lower()) if set(w) != {"x"}]


def load_indication(folder: Path, model: str) -> IndicationShift | None:
    """The shift of `model` in `folder`; None when the folder has none. BadWeights when it is altered or of another model."""
    if not (folder / FILE).is_file():
        return None
    raw = sealed.read(folder / FILE)
    try:
        rarity, usual, weights = (np.asarray(raw[name], np.float64) for name in ("rarity", "usual", "weights"))
        found = IndicationShift(raw["model"], tuple(raw["words"]), rarity, usual, weights, str(raw["sample"]))
    except (ValueError, TypeError, KeyError) as error:
        raise BadWeights(f"{FILE} is malformed in the model folder") from error
    if found.model != model:
        raise BadWeights(f"{FILE} belongs to {found.model}, the model is {model}")
    return found
