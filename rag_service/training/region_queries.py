"""Trains region queries on the frozen film network's maps: `python -m rag_service.training region-queries --data DIR`.

Half of a batch are films on which someone drew, shown as they are or moved; the others teach presence by their labels, and sides
and heights by where their reports place a finding. Each film is asked QUERIES and a few concepts more, in other words each time,
some of them denied. Never mirrored.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import trange

from rag_service.datasets.relevance import LEVELS
from rag_service.models.region_network import QUERIES, Located, QueryShape, RegionNetwork, Seen
from rag_service.training import losses, region_losses
from rag_service.training.region_bank import CONCEPTS, Bank, Placed, Shown, Words
from rag_service.training.region_matching import Aims, matched
from rag_service.training.region_prompts import Concept
from rag_service.training.region_targets import Hull
from rag_service.training.runs import autocast

SIDE_MARGIN: Final = 0.04
"""How far past the middle the boxes of a side are to lie."""
SIDED_STRUCTURES: Final = ("left lung", "right lung")
_WEIGHTS: Final = {
    "boxes": 1.0,
    "weights": 2.0,
    "presence": 1.0,
    "extra": 0.5,
    "local": 0.5,
    "sides": 4.0,
    "named": 0.2,
}
"""What each loss counts for."""


@dataclass(frozen=True)
class QueryPlan:
    """How region queries are trained: `drawn`, `structures` and `others` films in a batch, `extra` concepts asked of each."""

    seed: int = 7
    steps: int = 1800
    drawn: int = 14
    structures: int = 4
    others: int = 18
    extra: int = 6
    denied: float = 0.2
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    kept: float = 0.995
    width: int = 128


@dataclass(frozen=True, eq=False)
class Asked:
    """What a batch is asked beside QUERIES: `concepts` (B, K) and `denied` (B, K), with the words drawn for them (B, K, T)."""

    concepts: NDArray[np.int64]
    denied: NDArray[np.bool_]
    vectors: Tensor

    def of(self, film: int) -> list[int]:
        """The concept of each query of a film, QUERIES first."""
        return [*range(len(QUERIES)), *self.concepts[film].tolist()]


class QueryTrainer:
    """Draws batches and steps; the weights that are kept are a running mean of the trained ones."""

    def __init__(self, bank: Bank, words: Words, pools: Mapping[str, NDArray[np.int64]], plan: QueryPlan) -> None:
        self.bank, self.words, self.pools, self.plan = bank, words, pools, plan
        self.rng = np.random.default_rng(plan.seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(plan.seed)
            shape = QueryShape(plan.width, words.vectors.shape[1], early=bank.early.shape[1], late=bank.late.shape[1],
                               side=bank.early.shape[-1], pooled=bank.pooled.shape[1])  # fmt: skip
            self.network = RegionNetwork(shape)
        with torch.no_grad():
            means = [words.vectors[list(words.asking[i])].mean(0) for i in range(len(QUERIES))]
            self.network.known.copy_(torch.stack(means))
        self.mean = deepcopy(self.network).eval()
        matrices = [p for p in self.network.parameters() if p.ndim > 1]
        rest = [p for p in self.network.parameters() if p.ndim <= 1]
        groups = [{"params": matrices, "weight_decay": plan.weight_decay}, {"params": rest, "weight_decay": 0.0}]
        self.optimiser = torch.optim.AdamW(groups, lr=plan.learning_rate)

    def run(self) -> RegionNetwork:
        """The trained network, on averaged weights."""
        for step in trange(self.plan.steps, desc="region queries", unit="step"):
            progress = step / self.plan.steps
            rate = min(1.0, (step + 1) / 100) * 0.5 * (1 + math.cos(math.pi * progress))
            for group in self.optimiser.param_groups:
                group["lr"] = self.plan.learning_rate * rate
            self.step(min(self.plan.kept, step / (step + 10)))
        return self.mean

    def step(self, kept: float) -> dict[str, float]:
        """One batch; `kept` is how much of the mean weights stays. Returns the losses."""
        rows = np.concatenate([self.rng.choice(self.pools[k], getattr(self.plan, k)) for k in self.pools])
        asked = self.ask(rows)
        terms = self.terms(rows, asked)
        total = torch.stack([_WEIGHTS[k] * v for k, v in terms.items()]).sum()
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 2.0)
        self.optimiser.step()
        with torch.no_grad():
            for old, new in zip(self.mean.parameters(), self.network.parameters(), strict=True):
                old.lerp_(new, 1 - kept)
        return {k: float(v.detach()) for k, v in terms.items()}

    def ask(self, rows: NDArray[np.int64]) -> Asked:
        """Half of the concepts are what the film shows or where someone drew, the others anything; some are denied."""
        chosen = np.stack([self._concepts(self.bank.shown[r]) for r in rows])
        deniable = np.array([bool(d) for d in self.words.denying])
        denied = (self.rng.random(chosen.shape) < self.plan.denied) & deniable[chosen]
        texts = [
            [self.rng.choice(self.words.denying[c] if d else self.words.asking[c]) for c, d in zip(*pair, strict=True)]
            for pair in zip(chosen, denied, strict=True)
        ]
        return Asked(chosen, denied, self.words.vectors[torch.tensor(np.array(texts))])

    def _concepts(self, shown: Shown) -> NDArray[np.int64]:
        true = np.flatnonzero(shown.presence == 1)
        placed = [p.concept for p in shown.placed]
        half = self.plan.extra // 2
        kept = self.rng.choice(
            np.concatenate([true, placed]) if placed or len(true) else np.arange(len(CONCEPTS)), half
        )
        return np.concatenate([kept, self.rng.integers(0, len(CONCEPTS), self.plan.extra - half)]).astype(np.int64)

    def terms(self, rows: NDArray[np.int64], asked: Asked) -> dict[str, Tensor]:
        """The losses of a batch."""
        network = self.network.train()
        known = network.known.expand(len(rows), -1, -1)
        queries = torch.cat([known, asked.vectors], 1)
        with autocast(torch.device("cpu")):
            seen = network.look(self.bank.maps(rows))
            located = network.locate(seen, queries)
            gate = network.gated(seen, located.features[:, : len(QUERIES)])
            logits = network.present(seen, gate, located.features, queries).float()
            local = network.local(located.features).float()
        wanted, cut = self._wanted(rows, asked), len(QUERIES)
        return {
            "presence": losses.masked_bce(logits[:, :cut], wanted[:, :cut]),
            "extra": losses.masked_bce(logits[:, cut:], wanted[:, cut:]),
            "local": losses.masked_bce(local, wanted),
            **self._placed(rows, asked, seen, located),
        }

    def _wanted(self, rows: NDArray[np.int64], asked: Asked) -> Tensor:
        """(B, 20 + K) 1, 0 or -1; the opposite where the words deny. Structures, which are always there, teach nothing."""
        presence = np.stack([self.bank.shown[r].presence for r in rows])
        extra = np.take_along_axis(presence, asked.concepts, 1)
        extra = np.where(asked.denied & (extra >= 0), 1 - extra, extra)
        return torch.from_numpy(np.concatenate([presence[:, : len(QUERIES)], extra], 1))

    def _placed(self, rows: NDArray[np.int64], asked: Asked, seen: Seen, located: Located) -> dict[str, Tensor]:
        """Losses of boxes, of their weights, of sides and heights, and of regions against their names."""
        aims = self._aims(rows, asked)
        found = located.boxes.float()
        pairs = matched(found.detach(), aims)
        place = (pairs.film, pairs.query, pairs.region)
        wanted = torch.zeros(located.weights.shape)
        wanted[place] = pairs.own.float()
        counts = torch.zeros(located.weights.shape, dtype=torch.bool)
        counts[place] = True
        counts[aims.empty] = True
        apart = region_losses.distance(found[place], pairs.boxes) * pairs.weight
        return {
            "boxes": apart.sum() / pairs.weight.sum().clamp(min=1),
            "weights": region_losses.focal(located.weights.float()[counts], wanted[counts]).mean(),
            "sides": self._sides(rows, asked, found),
            "named": self._named(aims, seen, located),
        }

    def _aims(self, rows: NDArray[np.int64], asked: Asked) -> Aims:
        """Which queries of a batch have boxes; those of absent findings are known to have none."""
        placed: list[tuple[int, int, Placed]] = []
        empty: list[tuple[int, int]] = []
        for film, row in enumerate(rows):
            shown = self.bank.shown[row]
            held = {p.concept: p for p in shown.placed}
            for query, concept in enumerate(asked.of(film)):
                if concept in held:
                    placed.append((film, query, held[concept]))
                elif shown.presence[concept] == 0:
                    empty.append((film, query))
        films, queries = torch.tensor(empty, dtype=torch.long).view(-1, 2).unbind(1)
        return Aims(placed, (films, queries))

    def _sides(self, rows: NDArray[np.int64], asked: Asked, found: Tensor) -> Tensor:
        """Boxes of concepts with a side or a height are to lie there, whatever the film shows."""
        spans = [
            [_span(CONCEPTS[c], self.bank.shown[row].lungs) for c in concepts]
            for row, concepts in zip(rows, asked.concepts, strict=True)
        ]
        low, high = torch.tensor(spans).unbind(2)
        return region_losses.outside(found[:, len(QUERIES) :, :, :2], low[:, :, None], high[:, :, None]).mean()

    def _named(self, aims: Aims, seen: Seen, located: Located) -> Tensor:
        """Regions that somebody drew, pooled alone and as located, against the words of QUERIES."""
        drawn = [(f, q, box, p.concept) for f, q, p in aims.placed if p.weight == 1.0 for box in p.boxes]
        if not drawn:
            return located.weights.sum() * 0.0
        film, query = (torch.tensor(part) for part in zip(*((f, q) for f, q, _, _ in drawn), strict=True))
        boxes = torch.from_numpy(np.stack([box for _, _, box, _ in drawn]))
        positives = torch.tensor([_names(CONCEPTS[concept]) for *_, concept in drawn])
        chosen = Seen(seen.places.float()[film], seen.whole[film])
        pooled = self.network.point(chosen, boxes[:, None])[:, 0]
        kinds = (pooled, located.features.float()[film, query])
        likeness = [self.network.likeness(kind, self.network.known) for kind in kinds]
        return torch.stack([region_losses.named(one, positives) for one in likeness]).mean()


def _names(concept: Concept) -> list[float]:
    """Which of QUERIES a concept is: itself, and for a third of a lung that lung."""
    return [float(q in {concept.name, f"{concept.side} {concept.name}"}) for q in QUERIES]


def _span(concept: Concept, lungs: Hull) -> tuple[tuple[float, float], tuple[float, float]]:
    """Lowest and highest x and y of the middle of a concept's boxes."""
    low, high = [0.0, 0.0], [1.0, 1.0]
    if concept.side or concept.name in SIDED_STRUCTURES:
        left = "left" in (concept.side or concept.name)
        (low if left else high)[0] = 0.5 + (SIDE_MARGIN if left else -SIDE_MARGIN)
    if concept.level:
        third = (lungs[3] - lungs[1]) / 3
        low[1] = lungs[1] + LEVELS.index(concept.level) * third
        high[1] = low[1] + third
    return (low[0], low[1]), (high[0], high[1])
