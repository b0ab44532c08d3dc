"""How much of a patient's sex and age can be read from what the network keeps of a film: linear probes, patient by patient.

A probe of the findings' scores alone stands beside them: what they tell of age is the disease itself, the rest is leakage.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eval import scores
from eval.groups import patients
from eval.readings import Readings
from rag_service.datasets.films import FilmRow

FOLDS: Final = 5
MIN_PATIENTS: Final = 40
"""Patients below which nothing is probed."""
OLD: Final = 60
RIDGE: Final = 100.0
COST: Final = 0.01
"""Inverse penalty of the logistic probes, fixed beforehand; features are standardised in each fold."""

Floats = NDArray[np.float64]


def measure(rows: Sequence[FilmRow], read: Readings, seed: int) -> dict[str, Any]:
    """Target -> features -> score of the held-out predictions, with the films probed; None where too few are known."""
    clipped = np.clip(read.scores, 1e-6, 1 - 1e-6)
    features = {"box_centre": read.centre, "pooled": read.pooled, "finding_scores": np.log(clipped / (1 - clipped))}
    names = patients(rows)
    sex = np.array([{"M": 1.0, "F": 0.0}.get(r.sex or "", np.nan) for r in rows])
    age = np.array([np.nan if r.age_years is None else float(r.age_years) for r in rows])
    old = np.where(np.isnan(age), np.nan, (age >= OLD).astype(np.float64))
    return {
        "sex": _probed(features, sex, names, seed, _classes),
        "age_over_60": _probed(features, old, names, seed, _classes),
        "age_years": _probed(features, age, names, seed, _years),
    }


def table(result: Mapping[str, Any]) -> list[str]:
    """The probes, for a reader."""
    lines = ["what the latent tells of the patient (linear probes, held-out patients)"]
    for target, found in result.items():
        if found is None:
            lines.append(f"  {target:12s} not measured: too few films whose source says")
            continue
        told = "; ".join(f"{name} " + _scores(v) for name, v in found["features"].items())
        lines.append(f"  {target:12s} n {found['films']}  {told}; chance {_scores(found['chance'])}")
    return lines


def _probed(
    features: Mapping[str, Floats], target: Floats, names: Sequence[str], seed: int, probe: Any
) -> dict[str, Any] | None:
    known = np.flatnonzero(~np.isnan(target))
    of = [names[i] for i in known.tolist()]
    if len(set(of)) < MIN_PATIENTS or len(set(target[known])) < 2:
        return None
    found = {name: probe(values[known], target[known], of, seed) for name, values in features.items()}
    chance = next(iter(found.values()))["chance"]
    return {
        "films": len(known),
        "patients": len(set(of)),
        "features": {name: {k: v for k, v in scored.items() if k != "chance"} for name, scored in found.items()},
        "chance": chance,
    }


def _classes(values: Floats, target: Floats, names: Sequence[str], seed: int) -> dict[str, Any]:
    from sklearn.linear_model import LogisticRegression

    p = _held_out(LogisticRegression(C=COST, max_iter=1000), values, target, names, "predict_proba")[:, 1]
    return {
        "auroc": scores.auroc(target, p),
        "auroc_ci": scores.interval(names, lambda rows: scores.auroc(target[rows], p[rows]), seed),
        "chance": {"auroc": 0.5},
    }


def _years(values: Floats, target: Floats, names: Sequence[str], seed: int) -> dict[str, Any]:
    from sklearn.dummy import DummyRegressor
    from sklearn.linear_model import Ridge

    guessed = _held_out(Ridge(RIDGE), values, target, names, "predict")
    blind = _held_out(DummyRegressor(), values, target, names, "predict")
    return {
        "r2": _r2(target, guessed),
        "r2_ci": scores.interval(names, lambda rows: _r2(target[rows], guessed[rows]), seed),
        "mae_years": float(np.abs(target - guessed).mean()),
        "chance": {"r2": _r2(target, blind), "mae_years": float(np.abs(target - blind).mean())},
    }


def _held_out(estimator: Any, values: Floats, target: Floats, names: Sequence[str], method: str) -> Floats:
    """Predictions for each film by a probe fitted on other patients alone."""
    from sklearn.model_selection import GroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probe = make_pipeline(StandardScaler(), estimator)
    return np.asarray(cross_val_predict(probe, values, target, groups=names, cv=GroupKFold(FOLDS), method=method))


def _r2(target: Floats, guessed: Floats) -> float | None:
    spread = float(((target - target.mean()) ** 2).sum())
    return 1 - float(((target - guessed) ** 2).sum()) / spread if spread else None


def _scores(found: Mapping[str, Any]) -> str:
    return " ".join(f"{k} {v:.3f}" for k, v in found.items() if isinstance(v, float))
