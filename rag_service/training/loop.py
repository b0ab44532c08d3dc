"""The training loop: resumable from its last checkpoint, seeded, progressive in resolution, with a moving average of weights."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from knowledge_base.findings import FINDINGS
from rag_service.datasets.films import Split
from rag_service.models.encoder import to_input
from rag_service.models.network import ANATOMY, PRESENTATIONS, Architecture, FilmNetwork
from rag_service.training import augment, losses, outliers
from rag_service.training.corpus import DOMAINS, PLACE_SIDE, SOURCES, UNKNOWN, Corpus, PlaceTargets
from rag_service.training.runs import Progress, autocast, average, load_checkpoint

_FRONTAL, _LATERAL, _ROTATED, _INVERTED, _NOT_CHEST = (
    PRESENTATIONS.index(p) for p in ("frontal", "lateral", "rotated", "inverted", "not_chest")
)
_SHARES: Final = (
    ("openi", "frontal", 0.46),
    ("nih", "frontal", 0.20),
    ("openi", "lateral", 0.12),
    ("rocov2", None, 0.10),
    ("cohen", None, 0.03),
    ("jsrt", None, 0.03),
    ("not_chest", None, 0.04),
    ("paediatric", None, 0.02),
)
"""What a batch is made of: (source, presentation, share). Children are shown as strangers: nothing is learned of their findings."""
_WEIGHTS: Final = {
    "findings": 1.0,
    "tags": 0.5,
    "presentation": 0.2,
    "projection": 0.05,
    "places": 0.5,
    "anatomy": 0.3,
    "peaks": 0.3,
    "containment": 1.0,
    "volume": 0.05,
    "exposure": 0.1,
    "neighbours": 0.05,
    "captions": 0.1,
}
"""What each loss counts for."""
_RARITY: Final = (0.15, 0.8, 1.6)
"""Prevalence at which a finding counts once, and the least and most that one counts."""


@dataclass(frozen=True)
class Plan:
    """How long and how hard to train. `stages` are (share of steps, pixels a side)."""

    steps: int = 1400
    batch: int = 64
    shifted: int = 8
    strangers: int = 4
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.08
    warmup: float = 0.04
    average: float = 0.995
    seed: int = 7
    trunk: str = "resnet18"
    sources: tuple[str, ...] = SOURCES
    stages: tuple[tuple[float, int], ...] = ((0.36, 96), (0.36, 128), (0.28, 160))
    strength: augment.Strength = field(default_factory=augment.Strength)
    turned_share: float = 0.06
    inverted_share: float = 0.03
    weights: dict[str, float] = field(default_factory=lambda: dict(_WEIGHTS))

    def architecture(self, tags: tuple[str, ...]) -> Architecture:
        """The network this plan trains."""
        return Architecture(trunk=self.trunk, side=self.stages[-1][1], tags=tags, domains=DOMAINS)

    def side(self, step: int) -> int:
        """Pixels a side at a step."""
        done = 0.0
        for share, side in self.stages:
            done += share
            if step < done * self.steps:
                return side
        return self.stages[-1][1]

    def rate(self, step: int) -> float:
        """Learning rate at a step: linear warm-up, then a cosine to 1 % of the peak."""
        warm = self.warmup * self.steps
        if step < warm:
            return self.learning_rate * (step + 1) / warm
        return self.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - warm) / (self.steps - warm))))


PLANS: Final = {
    "scratch": Plan(),
    "continue": Plan(steps=600, learning_rate=5e-4, seed=8, stages=((1.0, 160),)),
    "short": Plan(steps=320, stages=((1.0, 96),)),
}
"""From pretrained or random weights; a further leg from a checkpoint of the first; and a short run, to compare choices by."""
CHECKPOINT: Final = "checkpoint.pt"


@dataclass(frozen=True, eq=False)
class Batch:
    """Films (B, 1, S, S) in [0, 1] and what is known of them, -1 for unknown; `places` (k, F + 3, 64, 64) of the films `placed`."""

    films: Tensor
    labels: Tensor
    tags: Tensor
    presentation: Tensor
    projection: Tensor
    domain: Tensor
    texts: Tensor
    placed: Tensor
    places: Tensor

    def to(self, device: torch.device) -> Batch:
        """The same on another device."""
        return Batch(*(getattr(self, f.name).to(device) for f in fields(self)))


class Trainer:
    """Runs a plan over a corpus. `text_vectors` (N, t) are unit vectors of the reports, zero where there is none."""

    def __init__(self, corpus: Corpus, text_vectors: NDArray[np.float32], plan: Plan, folder: Path) -> None:
        self.corpus, self.plan, self.folder = corpus, plan, folder
        self.text_vectors = torch.from_numpy(text_vectors)
        torch.manual_seed(plan.seed)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        architecture = plan.architecture(corpus.tag_names)
        self.network = FilmNetwork(architecture).to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.averaged = FilmNetwork(architecture).to(self.device)
        self.averaged.load_state_dict(self.network.state_dict())
        self.optimiser = torch.optim.AdamW(_groups(self.network, plan.weight_decay), lr=plan.learning_rate)
        self.step = 0
        pools = [(corpus.rows(Split.TRAIN, s, p), share) for s, p, share in _SHARES if s in plan.sources]
        whole = sum(share for pool, share in pools if len(pool))
        self._rarity = _rarity(corpus)
        self._pools = [
            (pool, _weights(corpus, pool, self._rarity), share / whole) for pool, share in pools if len(pool)
        ]

    def start_from(self, checkpoint: Path) -> None:
        """Begin with a pretrained trunk, or with the averaged weights of an earlier run; a checkpoint of this run goes before."""
        state = load_checkpoint(checkpoint)
        if state is None:
            raise FileNotFoundError(checkpoint)
        for network in (self.network, self.averaged):
            if "trunk" in state:
                network.trunk.load_state_dict(state["trunk"])
            else:
                network.load_state_dict(state["averaged"])

    def run(self) -> None:
        """Train to the end of the plan, going on from the checkpoint in the folder when it is of the same plan."""
        self._resume()
        started = time.monotonic()
        with tqdm(total=self.plan.steps, initial=self.step, desc="training", unit="step", mininterval=5) as bar:
            while self.step < self.plan.steps:
                terms = self._advance(self._batch().to(self.device))
                bar.update()
                if self.step % 20 == 0:
                    self._log(terms, time.monotonic() - started)
                if self.step % 400 == 0 or self.step == self.plan.steps:
                    self._log(self._validation(), time.monotonic() - started)
                if self.step % 100 == 0 or self.step == self.plan.steps:
                    self._save()

    def _batch(self) -> Batch:
        corpus, plan = self.corpus, self.plan
        rng = np.random.default_rng((plan.seed, self.step))
        rows = np.sort(np.concatenate([self._draw(rng, *pool) for pool in self._pools]))
        generator = torch.Generator().manual_seed(plan.seed * 1_000_003 + self.step)
        films = torch.from_numpy(corpus.films[rows]).float().div_(255.0)[:, None]
        presentation, projection = (
            torch.from_numpy(corpus.presentation[rows]),
            torch.from_numpy(corpus.projection[rows]),
        )
        labels, tags = torch.from_numpy(corpus.labels[rows]), torch.from_numpy(corpus.tags[rows])
        texts = self.text_vectors[torch.from_numpy(rows)]
        films, spoilt = _spoil(films, presentation, rng, plan)
        strange = spoilt | (torch.from_numpy(corpus.source[rows]) == SOURCES.index("paediatric"))
        labels[strange], tags[strange], texts[strange], projection[strange] = UNKNOWN, UNKNOWN, 0.0, UNKNOWN
        theta = augment.geometry(len(films), plan.strength, generator)
        placed = torch.tensor(
            [i for i, r in enumerate(rows) if r in corpus.places and not strange[i]], dtype=torch.long
        )
        places = _place_targets([corpus.places[rows[i]] for i in placed.tolist()], theta[placed])
        films = augment.resample(films, theta, plan.side(self.step))
        films = augment.occlusion(augment.acquisition(films, plan.strength, generator), plan.strength, generator)
        domain = torch.from_numpy(corpus.domain[rows]).long()
        return Batch(films, labels, tags, presentation.long(), projection, domain, texts, placed, places)

    def _draw(
        self, rng: np.random.Generator, pool: NDArray[np.int64], weights: NDArray[np.float64], share: float
    ) -> NDArray[np.int64]:
        return rng.choice(pool, size=max(round(share * self.plan.batch), 1), replace=True, p=weights)

    def _advance(self, batch: Batch) -> dict[str, float]:
        for group in self.optimiser.param_groups:
            group["lr"] = self.plan.rate(self.step)
        terms = self._terms(batch)
        total = torch.stack([self.plan.weights[k] * v for k, v in terms.items()]).sum()
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
        self.optimiser.step()
        self.step += 1
        average(self.averaged, self.network, self.plan.average, self.step)
        return {k: float(v.detach()) for k, v in terms.items()} | {"total": float(total.detach())}

    def _terms(self, batch: Batch) -> dict[str, Tensor]:
        shifted, which = self._shifted(batch)
        made = self._strangers(batch)
        films = torch.cat([batch.films, shifted, made]).sub(0.5).div(0.25).contiguous(memory_format=torch.channels_last)
        with autocast(self.device):
            early, late = self.network.stages(films)
        reading = self.network.read_maps(early.float(), late.float())
        count, copies = len(batch.films), len(shifted)
        centre, radius = reading.centre[:count], reading.radius[:count]
        points = centre + radius * (2 * torch.rand_like(centre) - 1)
        logits = self.network.logits(points) + self.network.domain_offset(batch.domain)
        told = batch.texts.abs().sum(1) > 0
        known = batch.presentation == _FRONTAL
        familiar = known | (batch.presentation == _LATERAL)
        familiar &= batch.domain != DOMAINS.index("paediatric")
        unknown = (batch.presentation >= _ROTATED) | (batch.domain == DOMAINS.index("paediatric"))
        strangers = torch.cat([radius[unknown], reading.radius[count + copies :]])
        peaks = self.network.peaks(reading.places[:count])
        sight = batch.labels.where((known & familiar)[:, None], torch.full_like(batch.labels, UNKNOWN))
        return {
            "findings": losses.masked_bce(logits, batch.labels, self._rarity.to(self.device)),
            "tags": losses.masked_bce(self.network.tags(points), batch.tags),
            "presentation": functional.cross_entropy(
                reading.presentation[:count], batch.presentation, ignore_index=UNKNOWN
            ),
            "projection": losses.masked_bce(reading.projection[:count, None], batch.projection[:, None]),
            **self._place_terms(reading.places[batch.placed], batch.places),
            "peaks": losses.masked_bce(peaks[:, 1:], sight[:, 1:], self._rarity[1:].to(self.device)),
            "containment": losses.containment(centre[which], radius[which], reading.centre[count : count + copies]),
            "volume": radius[~unknown].mean(),
            "exposure": losses.exposure(radius[familiar], strangers),
            "neighbours": losses.neighbours(centre, batch.labels),
            "captions": losses.captions(
                self.network.film_joint(points[told]), self.network.text_joint(batch.texts[told]), batch.texts[told]
            ),
        }

    @staticmethod
    def _place_terms(places: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Findings' boxes and anatomy's outlines at the places' own resolution; a cell is as true as the share of it that is."""
        unknown = targets < 0
        cells = (places.shape[-2], places.shape[-1])
        small = functional.adaptive_avg_pool2d(targets.clamp(min=0), cells)
        small = small.masked_fill(functional.adaptive_max_pool2d(unknown.float(), cells) > 0, UNKNOWN)
        findings = len(FINDINGS)
        return {
            "places": losses.masked_bce(places[:, :findings], small[:, :findings]),
            "anatomy": losses.masked_bce(places[:, findings:], small[:, findings:]),
        }

    def _shifted(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Device-shifted copies of some films that are chest films, and which films they are copies of."""
        chest = torch.nonzero((batch.presentation == _FRONTAL) | (batch.presentation == _LATERAL)).flatten().cpu()
        which = chest[torch.randperm(len(chest))[: self.plan.shifted]]
        generator = torch.Generator().manual_seed(self.plan.seed * 7_000_003 + self.step)
        copies = augment.acquisition(batch.films[which.to(self.device)].cpu(), self.plan.strength, generator)
        return copies.to(self.device), which.to(self.device)

    def _strangers(self, batch: Batch) -> Tensor:
        """Pictures that no scanner of chests makes, from the first films of the batch."""
        generator = torch.Generator().manual_seed(self.plan.seed * 11_000_003 + self.step)
        return outliers.make(batch.films[: self.plan.strangers].cpu(), generator).to(self.device)

    @torch.no_grad()
    def _validation(self) -> Mapping[str, float | None]:
        """Macro-AUROC of the averaged network, at the centre of the box, on Open-i's calibration frontals."""
        rows = self.corpus.rows(Split.CALIBRATION, "openi", "frontal")
        side, network = self.plan.side(self.step - 1), self.averaged.eval()
        found = []
        for some in np.array_split(rows, max(len(rows) // 32, 1)):
            films = to_input(self.corpus.films[some], side).to(self.device)
            with autocast(self.device):
                early, late = network.stages(films)
            found.append(network.logits(network.read_maps(early.float(), late.float()).centre).cpu())
        return {"macro_auroc": macro_auroc(torch.cat(found).numpy(), self.corpus.labels[rows])}

    def _log(self, terms: Mapping[str, float | None], seconds: float) -> None:
        line = {"step": self.step, "side": self.plan.side(self.step - 1), "seconds": round(seconds, 1), **terms}
        with (self.folder / "log.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")

    def _save(self) -> None:
        self._progress().save(self.folder / CHECKPOINT, self.step, self._signature())

    def _resume(self) -> None:
        step = self._progress().resume(self.folder / CHECKPOINT, self._signature())
        if step is not None:
            self.step = step
            torch.manual_seed(self.plan.seed + self.step)

    def _progress(self) -> Progress:
        return Progress(self.network, self.averaged, self.optimiser)

    def _signature(self) -> str:
        return json.dumps(
            {"plan": asdict(self.plan), "films": len(self.corpus.films), "tags": self.corpus.tag_names}, sort_keys=True
        )


def macro_auroc(scores: NDArray[np.floating], labels: NDArray[np.int8]) -> float | None:
    """Mean AUROC over the findings with both classes; scores and labels (n, 14), labels -1 for unknown. None without any."""
    found = []
    for score, label in zip(scores.T, labels.T, strict=True):
        known = label >= 0
        if len(np.unique(label[known])) == 2:
            found.append(float(roc_auc_score(label[known], score[known])))
    return float(np.mean(found)) if found else None


def _rarity(corpus: Corpus) -> Tensor:
    """(14,): what each finding counts for, by the root of how rare it is in Open-i's training frontals."""
    labels = corpus.labels[corpus.rows(Split.TRAIN, "openi", "frontal")]
    usual, least, most = _RARITY
    share = (labels == 1).sum(0) / np.maximum((labels >= 0).sum(0), 1)
    return torch.from_numpy(np.clip(np.sqrt(usual / np.maximum(share, 1e-4)), least, most)).float()


def _weights(corpus: Corpus, pool: NDArray[np.int64], rarity: Tensor) -> NDArray[np.float64]:
    """Chances of being drawn: a film with a finding more often than one without, the more so the rarer its rarest is."""
    positive = corpus.labels[pool, 1:] == 1
    weight = 1.0 + (positive * rarity.numpy()[1:]).max(1)
    return np.asarray(weight / weight.sum())


def _place_targets(known: Sequence[PlaceTargets], theta: Tensor) -> Tensor:
    """(k, F + 3, 64, 64): what lies where after the films have been moved by `theta` (k, 2, 3); -1 in unknown channels."""
    targets = torch.full((len(known), len(FINDINGS) + len(ANATOMY), PLACE_SIDE, PLACE_SIDE), float(UNKNOWN))
    for row, (film, move) in enumerate(zip(known, theta, strict=True)):
        channels = list(film.maps)
        maps = torch.from_numpy(np.stack([film.maps[c] for c in channels])).float()
        targets[row, channels] = augment.resample(maps[None], move[None], PLACE_SIDE)[0]
    return targets


def _groups(network: nn.Module, decay: float) -> list[dict[str, object]]:
    """Weight decay for matrices and kernels only."""
    parameters = list(network.parameters())
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


def _spoil(films: Tensor, presentation: Tensor, rng: np.random.Generator, plan: Plan) -> tuple[Tensor, Tensor]:
    """Turn or invert a few upright frontal films in place of themselves; their findings then no longer count."""
    spoilt = torch.zeros(len(films), dtype=torch.bool)
    for index, draw in enumerate(rng.random(len(films))):
        if presentation[index] != _FRONTAL or draw > plan.turned_share + plan.inverted_share:
            continue
        spoilt[index] = True
        if draw < plan.turned_share:
            films[index] = torch.rot90(films[index], int(rng.integers(1, 4)), (1, 2))
            presentation[index] = _ROTATED
        else:
            films[index] = 1.0 - films[index]
            presentation[index] = _INVERTED
    return films, spoilt


def text_vectors(
    texts: Sequence[str], encode: Callable[[Sequence[str]], NDArray[np.float32]], cache: Path
) -> NDArray[np.float32]:
    """Unit vectors (N, t) of the texts, zero rows for empty ones; kept in `cache` beside the pack."""
    path = cache / "texts.npy"
    if path.is_file() and len(known := np.load(path)) == len(texts):
        return known  # type: ignore[no-any-return]
    told = [i for i, t in enumerate(texts) if t]
    found = encode([texts[i] for i in told])
    vectors = np.zeros((len(texts), found.shape[1]), np.float32)
    vectors[told] = found
    np.save(path, vectors)
    return vectors
