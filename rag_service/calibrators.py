"""Monotone maps from a raw score to a probability: temperature, Platt, beta and isotonic, and the choice among them.

Every one holds to the same contract (`Calibrator`). All are fitted to Platt's own targets, (k + 1) / (k + 2) for the k films
with the finding and 1 / (k + 2) for the k without, so that no sample, however small, promises 0 or 1.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, ClassVar, Final, Protocol, Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SCORE_LIMIT: Final = 1e-6
"""A score nearer to 0 or 1 counts as this far from it: its logit stays finite."""
_P_LIMIT: Final = 1e-9
SLOPE_PRIOR: Final = 4.0
"""Weight of the pull of the slopes towards 1, in films: a handful of positives cannot overturn the network."""
_BOUND: Final = (-3.0, 3.0)
"""Of the logarithm of a slope: none is under a twentieth or over twenty."""
_OFFSET_BOUND: Final = (-20.0, 20.0)
FOLDS: Final = 5
ISOTONIC_FILMS: Final = 30
"""Films with the finding, and without it, from which isotonic regression is tried: with fewer its steps are accidents."""
REPEATS: Final = 3
NEAR_TIE: Final = 0.5
"""Standard errors of the difference in log loss within which the simpler of two calibrators is taken."""


class Calibrator(Protocol):
    """A fitted map from raw scores to probabilities.

    Contract:
    - `p` takes scores of any shape, finite and in [0, 1] (ValueError when not finite), and answers in that shape;
    - it never decreases with the score, is never NaN, and lies in the open interval (0, 1).
    """

    kind: ClassVar[str]

    @property
    def parameters(self) -> int:
        """How many numbers were fitted."""
        ...

    def p(self, scores: Floats) -> Floats:
        """Raw scores -> calibrated probabilities."""
        ...


@dataclass(frozen=True)
class Temperature:
    """p = sigmoid(logit(score) / temperature) (Guo et al., ICML 2017). A temperature of 1 leaves scores as they are."""

    temperature: float
    kind: ClassVar[str] = "temperature"
    parameters: ClassVar[int] = 1

    def __post_init__(self) -> None:
        _positive(self.temperature)

    def p(self, scores: Floats) -> Floats:
        """See `Calibrator`."""
        present, absent = _logs(scores)
        return _sigmoid((present - absent) / self.temperature)

    @classmethod
    def fit(cls, scores: Floats, outcomes: Floats) -> Self:
        """From scores (n,) and outcomes (n,) of 0 and 1."""
        present, absent = _logs(scores)
        (slope,), _ = _least_log_loss((present - absent,), outcomes, offset=False)
        return cls(1.0 / slope)


@dataclass(frozen=True)
class Platt:
    """p = sigmoid(slope * logit(score) + offset) (Platt, 1999)."""

    slope: float
    offset: float
    kind: ClassVar[str] = "platt"
    parameters: ClassVar[int] = 2

    def __post_init__(self) -> None:
        _positive(self.slope)
        _finite(self.offset)

    def p(self, scores: Floats) -> Floats:
        """See `Calibrator`."""
        present, absent = _logs(scores)
        return _sigmoid(self.slope * (present - absent) + self.offset)

    @classmethod
    def fit(cls, scores: Floats, outcomes: Floats) -> Self:
        """From scores (n,) and outcomes (n,) of 0 and 1."""
        present, absent = _logs(scores)
        (slope,), offset = _least_log_loss((present - absent,), outcomes, offset=True)
        return cls(slope, offset)


@dataclass(frozen=True)
class Beta:
    """p = sigmoid(a * ln(score) - b * ln(1 - score) + c) (Kull, Silva Filho & Flach, AISTATS 2017). a = b is Platt's."""

    a: float
    b: float
    c: float
    kind: ClassVar[str] = "beta"
    parameters: ClassVar[int] = 3

    def __post_init__(self) -> None:
        _positive(self.a)
        _positive(self.b)
        _finite(self.c)

    def p(self, scores: Floats) -> Floats:
        """See `Calibrator`."""
        present, absent = _logs(scores)
        return _sigmoid(self.a * present - self.b * absent + self.c)

    @classmethod
    def fit(cls, scores: Floats, outcomes: Floats) -> Self:
        """From scores (n,) and outcomes (n,) of 0 and 1."""
        present, absent = _logs(scores)
        (a, b), c = _least_log_loss((present, -absent), outcomes, offset=True)
        return cls(a, b, c)


@dataclass(frozen=True)
class Isotonic:
    """The non-decreasing step function of least squares (pool adjacent violators), its steps joined at their centres.

    `knots` are the mean scores of the pooled blocks and `values` what each answers (Oron & Flournoy, 2017: centred
    isotonic regression); beyond the first and the last it is flat. Joined, not stepped: two films in one block keep their order.
    """

    knots: tuple[float, ...]
    values: tuple[float, ...]
    kind: ClassVar[str] = "isotonic"

    def __post_init__(self) -> None:
        if not self.knots or len(self.knots) != len(self.values):
            raise ValueError("an isotonic calibrator has one value a knot, and at least one")
        if any(a > b for row in (self.knots, self.values) for a, b in pairwise(row)):
            raise ValueError("neither the knots nor the values of an isotonic calibrator ever fall")
        if not all(0.0 < v < 1.0 for v in self.values):
            raise ValueError("the values of an isotonic calibrator lie between 0 and 1")

    @property
    def parameters(self) -> int:
        """See `Calibrator`."""
        return len(self.knots)

    def p(self, scores: Floats) -> Floats:
        """See `Calibrator`."""
        asked = _checked(scores)
        return np.asarray(np.clip(np.interp(asked, self.knots, self.values), self.values[0], self.values[-1]))

    @classmethod
    def fit(cls, scores: Floats, outcomes: Floats) -> Self:
        """From scores (n,) and outcomes (n,) of 0 and 1."""
        from scipy.optimize import isotonic_regression

        asked, where = np.unique(np.asarray(_checked(scores)), return_inverse=True)
        films = np.bincount(where).astype(np.float64)
        means = np.bincount(where, weights=_targets(outcomes)) / films
        pooled = isotonic_regression(means, weights=films)
        starts = pooled.blocks[:-1]
        weight = np.add.reduceat(films, starts)
        knots = np.maximum.accumulate(np.add.reduceat(films * asked, starts) / weight)
        return cls(tuple(knots.tolist()), tuple(pooled.x[starts].tolist()))


FAMILIES: Final = (Temperature, Platt, Beta, Isotonic)
"""In the order in which a near-tie is settled: fewer parameters first."""
_KINDS: Final[Mapping[str, Callable[..., Calibrator]]] = {f.kind: f for f in FAMILIES}


def to_json(calibrator: Calibrator) -> dict[str, Any]:
    """Plain values: the kind and its parameters."""
    return {"kind": calibrator.kind, **asdict(calibrator)}  # type: ignore[call-overload]


def from_json(raw: Mapping[str, Any]) -> Calibrator:
    """The calibrator of `to_json`. ValueError, TypeError or KeyError when it is none."""
    values = {k: tuple(map(float, v)) if isinstance(v, list) else float(v) for k, v in raw.items() if k != "kind"}
    return _KINDS[raw["kind"]](**values)


def log_loss(p: Floats, outcomes: Floats) -> Floats:
    """Logarithmic loss (n,) of probabilities (n,) against outcomes (n,), in nats a film."""
    return np.asarray(-np.log(np.where(outcomes == 1, p, 1.0 - p)))


def folds(groups: Sequence[str], outcomes: Floats, salt: int = 0, count: int = FOLDS) -> NDArray[np.int64]:
    """The fold (n,) of each film: a patient's films share one, and patients with the finding are dealt out evenly.

    `groups` are the patients (n,). The same every time: the order of dealing is a hash of the patient and `salt`.
    """
    names, where = np.unique(np.asarray(groups), return_inverse=True)
    shown = np.bincount(where, weights=outcomes) > 0
    order = sorted(
        range(len(names)), key=lambda i: (not shown[i], hashlib.sha256(f"{salt}/{names[i]}".encode()).digest())
    )
    dealt = np.empty(len(names), np.int64)
    dealt[order] = np.arange(len(names)) % count
    return np.asarray(dealt[where])


def choose(scores: Floats, outcomes: Floats, groups: Sequence[str], shipped: Calibrator | None = None) -> Calibrator:
    """The calibrator with the least log loss on patients it was not fitted to.

    Scores, outcomes and patients (n,), of two patients at least. Within NEAR_TIE standard errors of the best the first in
    order wins: `shipped`, when given (it has nothing to fit), then those with fewer parameters.
    """
    enough = min(outcomes.sum(), len(outcomes) - outcomes.sum()) >= ISOTONIC_FILMS
    tried = [f for f in FAMILIES if f is not Isotonic or enough]
    losses = [_held_out_loss(f, scores, outcomes, groups) for f in tried]
    best = min(losses, key=lambda loss: float(loss.mean()))
    if shipped is not None:
        unfitted = log_loss(shipped.p(scores), outcomes)
        if _near(unfitted - best):
            return shipped
    taken = next(f for f, loss in zip(tried, losses, strict=True) if _near(loss - best))
    return taken.fit(scores, outcomes)


def _near(excess: Floats) -> bool:
    error = excess.std(ddof=1) / np.sqrt(len(excess)) if len(excess) > 1 else 0.0
    return bool(excess.mean() <= NEAR_TIE * error)


def _held_out_loss(family: Any, scores: Floats, outcomes: Floats, groups: Sequence[str]) -> Floats:
    """Log loss (n,) of each film under calibrators fitted without its patient, the mean of REPEATS divisions."""
    total = np.zeros(len(scores))
    for salt in range(REPEATS):
        total += log_loss(cross_fitted(family.fit, scores, outcomes, folds(groups, outcomes, salt)), outcomes)
    return total / REPEATS


def cross_fitted(
    fit: Callable[[Floats, Floats], Calibrator], scores: Floats, outcomes: Floats, fold: NDArray[np.int64]
) -> Floats:
    """Probability (n,) of each film under the calibrator fitted to the other folds."""
    p = np.empty(len(scores))
    for part in np.unique(fold):
        inside = fold == part
        p[inside] = fit(scores[~inside], outcomes[~inside]).p(scores[inside])
    return p


def _least_log_loss(columns: Sequence[Floats], outcomes: Floats, offset: bool) -> tuple[list[float], float]:
    """Slopes, all positive and drawn to 1, and offset of the columns (n,) that minimise the log loss of their sum."""
    from scipy.optimize import minimize

    x = np.stack(columns)
    targets = _targets(outcomes)
    count = len(x)

    def loss(theta: Floats) -> tuple[float, Floats]:
        slopes = np.exp(theta[:count])
        z = slopes @ x + (theta[count] if offset else 0.0)
        miss = _raw_sigmoid(z) - targets
        value = np.sum(np.logaddexp(0.0, z) - targets * z) + SLOPE_PRIOR * np.mean(theta[:count] ** 2)
        gradient = slopes * (x @ miss) + 2 * SLOPE_PRIOR / count * theta[:count]
        return float(value), np.append(gradient, miss.sum()) if offset else gradient

    bounds = [_BOUND] * count + [_OFFSET_BOUND] * offset
    found = minimize(loss, np.zeros(len(bounds)), jac=True, method="L-BFGS-B", bounds=bounds).x
    return np.exp(found[:count]).tolist(), float(found[count]) if offset else 0.0


def _targets(outcomes: Floats) -> Floats:
    positives = float(outcomes.sum())
    negatives = len(outcomes) - positives
    return np.where(outcomes == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))


def _logs(scores: Floats) -> tuple[Floats, Floats]:
    """ln(score) and ln(1 - score)."""
    clipped = np.clip(_checked(scores), SCORE_LIMIT, 1 - SCORE_LIMIT)
    return np.log(clipped), np.log1p(-clipped)


def _checked(scores: Floats) -> Floats:
    if not np.isfinite(scores).all():
        raise ValueError("a score is not finite")
    return np.asarray(scores, np.float64)


def _sigmoid(z: Floats) -> Floats:
    return np.clip(_raw_sigmoid(z), _P_LIMIT, 1 - _P_LIMIT)


def _raw_sigmoid(z: Floats) -> Floats:
    return np.exp(-np.logaddexp(0.0, -z))


def _positive(value: float) -> None:
    _finite(value)
    if value <= 0:
        raise ValueError("a slope or temperature is positive: a higher score never has a lower probability")


def _finite(value: float) -> None:
    if not np.isfinite(value):
        raise ValueError("a parameter is not finite")
