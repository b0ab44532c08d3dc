"""What a light probe trained on one source achieves on another's films, and how well a ranking of sources foretells it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from eval import scores
from eval.readings import Readings
from knowledge_base.findings import FINDINGS

MIN_TRAIN: Final = 8
"""Films with a finding, and without it, that a probe needs."""
MIN_TEST: Final = 2
"""Films with a finding, and without it, that an AUROC needs."""
PERMUTATIONS: Final = 2000
PROBE: Final = "logistic regression on standardised box centres, C 0.01, classes balanced"

Floats = NDArray[np.float64]
Ranking = Callable[[str, str], float]
"""(source, target) -> score; the higher, the better the source is expected to be."""


class Films(Protocol):
    """Readings of n films and their labels (n, 14), NaN for unknown."""

    @property
    def read(self) -> Readings:
        """Row by row with the labels."""
        ...

    @property
    def labels(self) -> Floats:
        """1, 0 or NaN."""
        ...


@dataclass(frozen=True)
class Achieved:
    """AUROC for one finding on `films` test films of the target, `positives` of them with it, by a probe of the source."""

    source: str
    target: str
    finding: str
    auroc: float
    positives: int
    films: int

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def achieved(sources: Sequence[tuple[str, Films, Films]]) -> list[Achieved]:
    """Every target by every source, itself included, for each finding that both label: (name, training, test films)."""
    found = []
    for source, train, _ in sources:
        for index, finding in enumerate(FINDINGS):
            known = ~np.isnan(train.labels[:, index])
            if not _enough(train.labels[known, index], MIN_TRAIN):
                continue
            score = probe(train.read.centre[known], train.labels[known, index])
            for target, _, test in sources:
                told = ~np.isnan(test.labels[:, index])
                truth = test.labels[told, index]
                area = scores.auroc(truth, score(test.read.centre[told])) if _enough(truth, MIN_TEST) else None
                if area is not None:
                    found.append(Achieved(source, target, finding, area, int(truth.sum()), len(truth)))
    return sorted(found, key=lambda a: (a.target, a.finding, a.source))


def probe(centres: Floats, labels: Floats) -> Callable[[Floats], Floats]:
    """A probe of box centres (n, d) and labels (n,): centres (m, d) -> log odds (m,)."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, class_weight="balanced", max_iter=2000))
    model.fit(centres, labels)
    return lambda asked: np.asarray(model.decision_function(asked), np.float64)


def foretold(found: Sequence[Achieved], ranking: Ranking, seed: int) -> dict[str, Any]:
    """How a ranking of foreign sources agrees with what they achieved.

    `correlation` is Spearman's, ranks taken within each target and finding that two or more sources can be compared on; `p` the
    share of permutations of the scores among a target's sources that agree as well (one-sided). `by_target` are Spearman's
    correlations with the AUROC above each finding's average, for targets with three or more sources. `first`, `average` and
    `best` are mean AUROCs of the source ranked first, of all and of the best.
    """
    groups = _groups(found)
    targets = sorted({g[0].target for g in groups})
    sources = {t: sorted({a.source for g in groups for a in g if g[0].target == t}) for t in targets}
    score = {(t, s): ranking(s, t) for t in targets for s in sources[t]}
    observed = _agreement(groups, score)
    rng = np.random.default_rng(seed)
    reached = 0
    for _ in range(PERMUTATIONS if observed is not None else 0):
        drawn = {
            (t, s): score[t, other]
            for t in targets
            for s, other in zip(sources[t], rng.permutation(sources[t]).tolist(), strict=True)
        }
        again = _agreement(groups, drawn)
        reached += again is not None and observed is not None and again >= observed - 1e-12
    picked = [max(g, key=lambda a: score[a.target, a.source]).auroc for g in groups]
    return {
        "correlation": observed,
        "p": None if observed is None else (reached + 1) / (PERMUTATIONS + 1),
        "groups": len(groups),
        "by_target": {t: _of_target(groups, t, sources[t], score) for t in targets if len(sources[t]) > 2},
        "first": scores.mean_known(picked),
        "average": scores.mean_known([float(np.mean([a.auroc for a in g])) for g in groups]),
        "best": scores.mean_known([max(a.auroc for a in g) for g in groups]),
    }


def _groups(found: Sequence[Achieved]) -> list[list[Achieved]]:
    """Foreign sources that can be compared: of one target and finding, two or more."""
    groups: dict[tuple[str, str], list[Achieved]] = {}
    for a in found:
        if a.source != a.target:
            groups.setdefault((a.target, a.finding), []).append(a)
    return [g for g in groups.values() if len(g) > 1]


def _agreement(groups: Sequence[Sequence[Achieved]], score: dict[tuple[str, str], float]) -> float | None:
    """Correlation of ranks, centred within each group; None when there is nothing to rank."""
    if not groups:
        return None
    one = np.concatenate([_centred([score[a.target, a.source] for a in g]) for g in groups])
    other = np.concatenate([_centred([a.auroc for a in g]) for g in groups])
    spread = float(np.sqrt((one @ one) * (other @ other)))
    return float(one @ other) / spread if spread else None


def _of_target(
    groups: Sequence[Sequence[Achieved]], target: str, sources: Sequence[str], score: dict[tuple[str, str], float]
) -> float | None:
    above: dict[str, list[float]] = {s: [] for s in sources}
    for g in groups:
        if g[0].target == target:
            average = float(np.mean([a.auroc for a in g]))
            for a in g:
                above[a.source].append(a.auroc - average)
    told = np.array([score[target, s] for s in sources])
    return scores.rank_correlation(told, np.array([np.mean(above[s]) for s in sources]))


def _centred(values: Sequence[float]) -> Floats:
    ranks = rankdata(values)
    return np.asarray(ranks - ranks.mean(), np.float64)


def _enough(labels: Floats, least: int) -> bool:
    positives = int(labels.sum())
    return min(positives, len(labels) - positives) >= least
