"""Region queries from films to what ships: what they learn from, their calibration, and how their boxes join the place maps'."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from knowledge_base.findings import FINDINGS
from rag_service.datasets.films import Split
from rag_service.explain.boxes import boxes as place_boxes
from rag_service.explain.places import place_maps
from rag_service.imaging.film import Box
from rag_service.models.box_fusion import BoxChoice, fused
from rag_service.models.encoder import FilmEncoder
from rag_service.models.region_network import RegionNetwork
from rag_service.models.region_queries import TextVectors, save_region_queries, shown
from rag_service.training.corpus import SOURCES, UNKNOWN, Corpus
from rag_service.training.region_bank import CONCEPTS, USUAL, Bank, Words, lungs_of, outlined
from rag_service.training.region_bank import shown as answers
from rag_service.training.region_features import FilmFeatures, features
from rag_service.training.region_prompts import Concept, is_structure
from rag_service.training.region_queries import QueryPlan, QueryTrainer
from rag_service.training.region_targets import FilmTargets, drawn_boxes, placed

LEARNT_FROM: Final = ("openi", "nih", "cohen", "jsrt", "paediatric")
SHARES: Final = (0.0, 0.3, 0.5, 0.7, 1.0)
SCALES: Final = (0.9, 1.0, 1.1)
BATCH: Final = 64

Drawn = Mapping[int, Mapping[Concept, NDArray[np.float32]]]


@dataclass(frozen=True, eq=False)
class Material:
    """Features of films and of moved copies, what each is to answer, and which of them count for what.

    `films` are the first rows: as they are, of every split; `pools` rows of the training split by kind.
    """

    bank: Bank
    corpus: Corpus
    drawn: Drawn
    film: NDArray[np.int64]
    films: int
    pools: Mapping[str, NDArray[np.int64]]

    def rows(self, split: Split, sources: tuple[str, ...]) -> NDArray[np.int64]:
        """Films as they are of a split and of some sources."""
        film = self.film[: self.films]
        kept = np.isin(self.corpus.source[film], [SOURCES.index(s) for s in sources])
        return np.flatnonzero(kept & (self.corpus.split[film] == split.value))


def gather(data: Path, corpus: Corpus, encoder: FilmEncoder, cache: Path) -> Material:
    """Read every frontal film once, and find what is known of it. ValueError for an encoder that is not our own network."""
    rows = np.flatnonzero((corpus.presentation <= 0) & np.isin(corpus.source, [SOURCES.index(s) for s in LEARNT_FROM]))
    drawn = drawn_boxes(data, corpus)
    moving = np.array([r for r in sorted(drawn) if corpus.split[r] == Split.TRAIN.value and r in set(rows)], np.int64)
    found = features(encoder, corpus.films, rows, moving, cache)
    return material(data, corpus, drawn, found)


def material(data: Path, corpus: Corpus, drawn: Drawn, found: FilmFeatures) -> Material:
    """What the films of `found` are to answer."""
    still = np.isnan(found.theta[:, 0, 0])
    lungs = {int(found.film[i]): lungs_of(outlined(found.places[i].astype(np.float32))) for i in np.flatnonzero(still)}
    full = [lungs.get(row, USUAL) for row in range(len(corpus.studies))]
    where = placed(data, corpus, drawn, full)
    wanted = [
        answers(
            FilmTargets(corpus.labels[row], where[row], drawn.get(int(row), {}), full[row]),
            found.places[i].astype(np.float32),
            None if still[i] else found.theta[i],
        )
        for i, row in enumerate(found.film)
    ]
    learnt = corpus.split[found.film] == Split.TRAIN.value
    kinds = [{is_structure(c) for c in drawn.get(int(row), ())} for row in found.film]
    pools = {
        "drawn": np.flatnonzero(learnt & [False in k for k in kinds]),
        "structures": np.flatnonzero(learnt & [True in k for k in kinds]),
        "others": np.flatnonzero(learnt & still & (corpus.source[found.film] != SOURCES.index("paediatric"))),
    }
    bank = Bank(found.early, found.late, found.places, found.pooled, wanted)
    return Material(bank, corpus, drawn, found.film, int(still.sum()), {k: v for k, v in pools.items() if len(v)})


def words(text: TextVectors) -> Words:
    """The vectors of every wording of every concept, and of every denial."""
    texts: list[str] = []
    asking: list[Sequence[int]] = []
    denying: list[Sequence[int]] = []
    for concept in CONCEPTS:
        for kept, wordings in ((asking, list(concept.wordings())), (denying, list(concept.denials()))):
            kept.append(range(len(texts), len(texts) + len(wordings)))
            texts += wordings
    return Words(torch.from_numpy(text.encode(texts)), asking, denying)


@dataclass(frozen=True, eq=False)
class Outcome:
    """QUERIES asked of n films: `presence` (n, 20) logits, `boxes` (n, 20, R, 4) and `weights` (n, 20, R)."""

    presence: NDArray[np.float32]
    boxes: NDArray[np.float32]
    weights: NDArray[np.float32]


@torch.inference_mode()
def outcome(network: RegionNetwork, bank: Bank, rows: NDArray[np.int64]) -> Outcome:
    """What the network answers for some films."""
    parts = []
    for start in range(0, len(rows), BATCH):
        seen = network.look(bank.maps(rows[start : start + BATCH]))
        located = network.locate(seen, network.known)
        presence = network.present(seen, network.gated(seen, located.features), located.features, network.known)
        parts.append((presence, located.boxes, torch.sigmoid(located.weights)))
    return Outcome(*(torch.cat(part).numpy() for part in zip(*parts, strict=True)))


def temperature(logits: NDArray[np.float32], labels: NDArray[np.int8]) -> float:
    """What divides logits (n, 14) so that the known labels are likeliest (Guo et al., ICML 2017); 1 without a known label."""
    known = labels != UNKNOWN
    if not known.any():
        return 1.0
    raw, truth = logits[known].astype(np.float64), labels[known].astype(np.float64)

    def loss(log_temperature: float) -> float:
        scaled = raw / np.exp(log_temperature)
        return float(np.mean(np.logaddexp(0.0, scaled) - truth * scaled))

    return float(np.exp(minimize_scalar(loss, bounds=(-2.0, 2.0), method="bounded").x))


def choose(made: Material, found: Outcome, rows: NDArray[np.int64]) -> tuple[BoxChoice, float]:
    """The way to join boxes whose heaviest overlaps what readers drew on films `rows` most, and its mean IoU there."""
    cases = []
    for i, row in enumerate(rows):
        for concept, drawn in made.drawn.get(int(made.film[row]), {}).items():
            if concept.name in FINDINGS:
                finding = FINDINGS.index(concept.name)
                chances = 1 / (1 + np.exp(-made.bank.places[row].astype(np.float32)))
                places = place_boxes(place_maps(chances, [concept.name])[0], concept.name) or ()
                asked = shown(found.boxes[i, finding], found.weights[i, finding])
                cases.append((places, asked, [_box(b) for b in drawn]))
    if not cases:
        return BoxChoice(), 0.0
    choices = [BoxChoice(q, s) for q, s in product(SHARES, SCALES)]
    overlaps = [float(np.mean([_overlap(fused(p, q, choice), drawn) for p, q, drawn in cases])) for choice in choices]
    best = int(np.argmax(overlaps))
    return choices[best], overlaps[best]


def _overlap(found: tuple[Box, ...], drawn: list[Box]) -> float:
    return max((found[0].iou(d) for d in drawn), default=0.0) if found else 0.0


def _box(place: NDArray[np.float32]) -> Box:
    low = np.clip(place[:2] - place[2:] / 2, 0, 1).tolist()
    high = np.clip(place[:2] + place[2:] / 2, 0, 1).tolist()
    return Box(low[0], low[1], high[0], high[1])


def make_region_queries(
    made: Material, encoder: FilmEncoder, text: TextVectors, out: Path, plan: QueryPlan
) -> list[str]:
    """Train, calibrate and write; returns what there is to say of it."""
    network = QueryTrainer(made.bank, words(text), made.pools, plan).run()
    return finish(made, encoder, network, out)


def finish(made: Material, encoder: FilmEncoder, network: RegionNetwork, out: Path) -> list[str]:
    """Calibrate a trained network on calibration films and write it."""
    rows = made.rows(Split.CALIBRATION, ("openi", "nih"))
    found = outcome(network, made.bank, rows)
    labels = made.corpus.labels[made.film[rows]]
    warmth = temperature(found.presence[:, : len(FINDINGS)], labels)
    choice, overlap = choose(made, found, rows)
    counts = ", ".join(f"{len(v)} {k}" for k, v in made.pools.items())
    save_region_queries(out, encoder.record.id, network, warmth, choice, counts)
    return [
        f"trained on {counts}; calibrated on {len(rows)} films: temperature {warmth:.2f}",
        f"boxes: queries weigh {choice.queries}, drawn {choice.scale} times as large, IoU of the heaviest {overlap:.3f}",
    ]
