"""Any number of made-up cases that lie where real ones do, kept as arrays on disk so that a million fit a small memory.

Vectors: a starter case of the training split moved part of the way to one of its 8 nearest neighbours, plus noise of 0.15 of
each axis' spread; box, text and regions move with their own neighbours. Reports: 3 to 8 sentences drawn from the two studies'
own reports and, for half of them, from any; each sentence keeps the mentions that the labeler reads in it. Queries are the
starter cases of the test split as they are, with the last sentence of their report that states a finding: nothing was made
from those.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from knowledge_base.records import BoxLatent, Case, CaseSentence
from knowledge_base.zones import ZONES
from rag_service.datasets import openi
from rag_service.datasets.films import Split, split_of
from rag_service.models.starter import StarterCases
from rag_service.report.labeler import Labeler
from rag_service.report.sentences import read_case_sentences

SOURCE: Final = "synthetic"
TENANT: Final = "hospital"
NEIGHBOURS: Final = 8
NOISE: Final = 0.15
CHUNK: Final = 8192
MOST_SENTENCES: Final = 8
_FEWEST_SENTENCES: Final = 3
_LEAST_RADIUS: Final = 1e-3
_HEADER: Final = "FINDINGS: "

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Query:
    """What is asked: a box (2d,), a text vector (384,), words, probabilities of findings, and one zone with its vector (R,).

    The probabilities are 0.9 for what the study's tags name and 0.1 for what they do not; the zones take turns.
    """

    study: str
    box: Floats
    text: Floats
    words: str
    probabilities: Mapping[str, float]
    region: tuple[str, Floats] | None


@dataclass(frozen=True, eq=False)
class Originals:
    """m real cases with their vectors, rows of `sentences` by case, and the sentences with spans that start at 0."""

    cases: StarterCases
    sentences: tuple[CaseSentence, ...]
    own: tuple[tuple[int, ...], ...]


def originals(cases: StarterCases, reports: Mapping[str, openi.Report]) -> Originals:
    """The training cases of the starter set that have a report, and what its sentences say."""
    labeler = Labeler()
    kept, own, sentences = [], [], list[CaseSentence]()
    for row, study in enumerate(cases.studies):
        if study in reports and split_of(openi.SOURCE, study) is Split.TRAIN:
            said = [_at(s, -s.span[0]) for s in read_case_sentences(reports[study].text, labeler)]
            if said:
                kept.append(row)
                own.append(tuple(range(len(sentences), len(sentences) + len(said))))
                sentences += said
    return Originals(_rows(cases, kept), tuple(sentences), tuple(own))


def queries(cases: StarterCases, reports: Mapping[str, openi.Report], split: Split, limit: int) -> list[Query]:
    """Up to `limit` starter cases of a split whose report states a finding, with that sentence as words."""
    labeler, found = Labeler(), list[Query]()
    for row, study in enumerate(cases.studies):
        if study not in reports or split_of(openi.SOURCE, study) is not split or len(found) == limit:
            continue
        said = [s.text for s in read_case_sentences(reports[study].text, labeler) if s.mentions]
        if words := said[-1] if said else "":
            zone = len(found) % len(ZONES)
            region = None if cases.regions is None else (ZONES[zone], cases.regions[row, zone])
            chances = {f: 0.9 if present else 0.1 for f, present in reports[study].labels.items()}
            found.append(Query(study, cases.boxes[row], cases.texts[row], words, chances, region))
    return found


class Arrays:
    """`n` made-up cases in `folder`: float16 `boxes` (n, 2d), `texts` (n, 384), `regions` (n, 7, R) or None, and `said`
    (n, 8), rows of the originals' sentences, -1 where there is none. The first rows are the same for every n.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.boxes = _load(folder / "boxes.npy")
        self.texts = _load(folder / "texts.npy")
        self.regions = _load(folder / "regions.npy") if (folder / "regions.npy").is_file() else None
        self.said = _load(folder / "said.npy")

    def __len__(self) -> int:
        return len(self.boxes)

    def zones(self, row: int) -> Mapping[str, Floats] | None:
        """The region vectors of a case, by zone."""
        return None if self.regions is None else dict(zip(ZONES, self.regions[row].astype(np.float32), strict=True))

    def box(self, row: int) -> BoxLatent:
        """The box of a case."""
        return BoxLatent.from_vector(self.boxes[row].astype(np.float32))


def make(folder: Path, real: Originals, n: int, seed: int) -> Arrays:
    """Draw `n` cases into `folder`, chunk by chunk."""
    parts = {"boxes": real.cases.boxes, "texts": real.cases.texts}
    if real.cases.regions is not None:
        parts["regions"] = real.cases.regions
    near = {name: _neighbours(values) for name, values in parts.items()}
    files = {name: _create(folder / f"{name}.npy", (n, *v.shape[1:]), np.float16) for name, v in parts.items()}
    said = _create(folder / "said.npy", (n, MOST_SENTENCES), np.int32)
    for start in range(0, n, CHUNK):
        rng = np.random.default_rng([seed, start])
        base = rng.integers(len(real.own), size=CHUNK)
        stop = min(n, start + CHUNK)
        for name, values in parts.items():
            drawn = _between(values, near[name], base, rng)
            files[name][start:stop] = _legal(name, drawn)[: stop - start]
        said[start:stop] = _reports(real, base, near["boxes"], rng)[: stop - start]
    for file in (*files.values(), said):
        file.flush()
    return Arrays(folder)


def case(arrays: Arrays, sentences: Sequence[CaseSentence], row: int) -> Case:
    """A row as a case: its sentences in one text, each with its mentions where they now stand."""
    text, placed = _HEADER, []
    for index in arrays.said[row].tolist():
        if index >= 0:
            moved = _at(sentences[index], len(text))
            placed.append(moved)
            text += moved.text + " "
    study = f"S{row:08d}"
    return Case(SOURCE, study, study, text.rstrip(), tuple(placed), TENANT, view="frontal")


def size(folder: Path) -> int:
    """Bytes that a folder's files take up on disk."""
    return sum(p.stat().st_blocks * 512 for p in folder.rglob("*") if p.is_file())


def _rows(cases: StarterCases, rows: Sequence[int]) -> StarterCases:
    regions = None if cases.regions is None else cases.regions[rows]
    studies = tuple(cases.studies[i] for i in rows)
    return StarterCases(cases.box_model, cases.text_model, studies, cases.boxes[rows], cases.texts[rows], regions)


def _at(sentence: CaseSentence, shift: int) -> CaseSentence:
    """The sentence and its mentions, moved by so many characters."""
    mentions = tuple(replace(m, span=(m.span[0] + shift, m.span[1] + shift)) for m in sentence.mentions)
    return replace(sentence, span=(sentence.span[0] + shift, sentence.span[1] + shift), mentions=mentions)


def _neighbours(values: Floats) -> NDArray[np.int64]:
    """(m, 8): the nearest other rows of each row of (m, ...)."""
    flat = values.reshape(len(values), -1)
    squares = (flat**2).sum(1)
    apart = squares[:, None] + squares[None] - 2 * flat @ flat.T
    np.fill_diagonal(apart, np.inf)
    return np.argsort(apart, axis=1, kind="stable")[:, :NEIGHBOURS]


def _between(values: Floats, near: NDArray[np.int64], base: NDArray[np.int64], rng: np.random.Generator) -> Floats:
    """Each base row part of the way to one of its neighbours, with noise."""
    other = near[base, rng.integers(near.shape[1], size=len(base))]
    share = rng.random(len(base), dtype=np.float32).reshape(-1, *[1] * (values.ndim - 1))
    noise = rng.standard_normal((len(base), *values.shape[1:]), dtype=np.float32) * (NOISE * values.std(0))
    return np.asarray(values[base] * (1 - share) + values[other] * share + noise, np.float32)


def _legal(name: str, drawn: Floats) -> Floats:
    """Boxes with positive radii; unit vectors where the store compares by cosine."""
    if name == "boxes":
        half = drawn.shape[1] // 2
        drawn[:, half:] = np.maximum(drawn[:, half:], _LEAST_RADIUS)
        return drawn
    return np.asarray(drawn / np.linalg.norm(drawn, axis=-1, keepdims=True), np.float32)


def _reports(
    real: Originals, base: NDArray[np.int64], near: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.int32]:
    """(len(base), 8): which sentences each report is made of."""
    lengths = rng.integers(_FEWEST_SENTENCES, MOST_SENTENCES + 1, size=len(base))
    anywhere = rng.integers(len(real.sentences), size=(len(base), MOST_SENTENCES))
    from_afar = rng.random((len(base), MOST_SENTENCES)) < 0.5
    pick = rng.random((len(base), MOST_SENTENCES))
    said = np.full((len(base), MOST_SENTENCES), -1, np.int32)
    for i, original in enumerate(base.tolist()):
        own = real.own[original] + real.own[int(near[original, 0])]
        drawn = [own[int(p * len(own))] for p in pick[i, : lengths[i]]]
        chosen = np.where(from_afar[i, : lengths[i]], anywhere[i, : lengths[i]], drawn)
        distinct = list(dict.fromkeys(chosen.tolist()))
        said[i, : len(distinct)] = distinct
    return said


def _create(
    path: Path, shape: tuple[int, ...], kind: type[np.generic]
) -> np.memmap[tuple[int, ...], np.dtype[np.generic]]:
    return np.lib.format.open_memmap(path, mode="w+", dtype=kind, shape=shape)


def _load(path: Path) -> NDArray[np.float16]:
    loaded: NDArray[np.float16] = np.load(path, mmap_mode="r", allow_pickle=False)
    return loaded
