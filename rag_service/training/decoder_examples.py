"""One thing for the decoder to word, with all that it could be told. Each time it comes up in training, parts of that are told."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from knowledge_base.findings import FINDINGS, Laterality, Polarity
from rag_service.datasets import nih, openi
from rag_service.datasets.films import Split
from rag_service.explain import anatomy
from rag_service.explain.boxes import MAX_BOXES, apparent_side, boxes
from rag_service.explain.places import place_maps
from rag_service.imaging.film import Box
from rag_service.models.decoder import Asked
from rag_service.report.grammar import BinBox
from rag_service.report.labeler import DEIDENTIFIED
from rag_service.training.corpus import SOURCES, Corpus
from rag_service.training.decoder_evidence import Shelf, Stated, drawn_slots
from rag_service.training.decoder_films import FilmBank
from rag_service.training.decoder_targets import Target, targets
from rag_service.training.starter import starter_rows

BOXES_TOLD: Final = 0.6
INDICATED: Final = 0.4
PROMPTED: Final = 0.15
PRIOR_TOLD: Final = 0.12
"""How often a task is told the boxes that are known, the indication, a prompt for the finding, an earlier report."""
FILM_HIDDEN: Final = 0.1
KIND_HIDDEN: Final = 0.1
"""How often the film is not seen at all, and how often one kind of its tokens is not."""
_MARKED_WORD: Final = re.compile(rf"\S*(?:{DEIDENTIFIED.pattern})\S*")


@dataclass(frozen=True, eq=False)
class Example:
    """A target on the film of corpus row `row` of `study`, sentences `near` that may be evidence, and what else is known.

    `boxes` None where nobody knows them. `learned` False: the words are made up, only the boxes are to be learned.
    """

    row: int
    study: str
    target: Target
    near: tuple[Stated, ...]
    boxes: tuple[BinBox, ...] | None = None
    learned: bool = True
    indication: str = ""
    earlier: str = ""

    @property
    def key(self) -> tuple[str, Polarity, bool]:
        """What is counted when rare tasks are drawn more often."""
        return self.target.finding, self.target.polarity, self.learned


def written_rows(corpus: Corpus, split: Split) -> NDArray[np.int64]:
    """Films of a split with words: the first frontal of each Open-i study, and, to learn from, published figures."""
    reported = [r for r in starter_rows(corpus).tolist() if corpus.split[r] == split.value]
    figures = corpus.rows(split, source="rocov2").tolist() if split is Split.TRAIN else []
    return np.array(sorted([*reported, *figures]))


def boxed_rows(corpus: Corpus, drawn: Mapping[str, Sequence[nih.ReaderBox]], split: Split) -> NDArray[np.int64]:
    """NIH films of a split on which a radiologist drew."""
    return np.array([r for r in corpus.rows(split, source=nih.SOURCE).tolist() if corpus.studies[r] in drawn], np.int64)


def drawn_boxes(folder: Path) -> dict[str, list[nih.ReaderBox]]:
    """Radiologists' boxes by NIH study; nothing where there are no NIH films."""
    found: dict[str, list[nih.ReaderBox]] = {}
    for box in nih.boxes(folder) if folder.is_dir() else ():
        found.setdefault(Path(box.image).stem, []).append(box)
    return found


def worded(
    corpus: Corpus, rows: Sequence[int], films: FilmBank, shelf: Shelf, reports: Mapping[str, openi.Report]
) -> Iterator[Example]:
    """What the reports and captions of these films say. Boxes are the film network's own, if they lie on the side that is said."""
    for row in rows:
        study = corpus.studies[row]
        of_report = reports.get(study) if corpus.source[row] == SOURCES.index(openi.SOURCE) else None
        box = films.box(row)
        for target in targets(corpus.texts[row]):
            yield Example(
                row,
                study,
                target,
                shelf.near(box, target, study),
                boxes=_seen_boxes(films, row, target),
                indication=_plain(of_report.indication) if of_report else "",
                earlier=_plain(corpus.texts[row].replace(target.text, "")) if of_report else "",
            )


def placed(
    corpus: Corpus,
    rows: Sequence[int],
    films: FilmBank,
    shelf: Shelf,
    drawn: Mapping[str, Sequence[nih.ReaderBox]],
    words: Sequence[Target],
    rng: np.random.Generator,
) -> Iterator[Example]:
    """Where radiologists drew: their boxes of a finding after a sentence from `words` that says it on the side they drew on."""
    for row in rows:
        of_film = drawn[corpus.studies[row]]
        for finding in dict.fromkeys(b.finding for b in of_film):
            found = tuple(Box(b.x_min, b.y_min, b.x_max, b.y_max) for b in of_film if b.finding == finding)[:MAX_BOXES]
            side = apparent_side(found, finding)
            fitting = [
                t for t in words if (t.finding, t.polarity) == (finding, Polarity.POSITIVE) and t.side in {None, side}
            ]
            if fitting:
                target = fitting[rng.integers(len(fitting))]
                near = shelf.near(films.box(row), target, corpus.studies[row])
                bins = tuple(BinBox.of(b) for b in found)
                yield Example(row, corpus.studies[row], target, near, bins, learned=False)


def told(
    example: Example, shelf: Shelf, others: Sequence[Example], rng: np.random.Generator
) -> tuple[Asked, tuple[int, ...]]:
    """A task made of an example, and the slots that entail its sentence. Boxes and words are told now and then."""
    evidence, slots = drawn_slots(shelf, example.target, example.near, example.study, rng)
    boxes = example.boxes if example.boxes and rng.random() < BOXES_TOLD else ()
    prompt = example.target.finding if rng.random() < PROMPTED else ""
    indication = example.indication if rng.random() < INDICATED else ""
    earlier = ""
    if rng.random() < PRIOR_TOLD:
        earlier = (example if rng.random() < 0.5 else others[int(rng.integers(len(others)))]).earlier
    target, words = example.target, f"{prompt} {indication}".strip()
    asked = Asked(target.finding, target.polarity, target.side, boxes, words, earlier, evidence)
    return asked, slots


def hidden(kinds: Sequence[str], rng: np.random.Generator) -> frozenset[str]:
    """The kinds of film token that a task does not see."""
    if rng.random() < FILM_HIDDEN:
        return frozenset(kinds)
    return frozenset(k for k, drawn in zip(kinds, rng.random(len(kinds)), strict=True) if drawn < KIND_HIDDEN)


def _seen_boxes(films: FilmBank, row: int, target: Target) -> tuple[BinBox, ...] | None:
    """The boxes of the film network's place map of a finding; None where they lie on another side than the words, or are denied."""
    if target.polarity is Polarity.NEGATIVE or target.finding not in anatomy.REGIONS:
        return None
    flat = films.film(row).places
    side = round(float(np.sqrt(flat.shape[1])))
    found = boxes(place_maps(flat.reshape(len(FINDINGS), side, side), [target.finding])[0], target.finding)
    seen: Laterality | None = apparent_side(found, target.finding)
    if found is None or (target.finding in anatomy.SIDED and seen is not target.side):
        return None
    return tuple(BinBox.of(b) for b in found)


def _plain(text: str) -> str:
    """The text without words that its publisher blanked out."""
    return " ".join(_MARKED_WORD.sub(" ", text).split())
