"""The cardiothoracic ratio against what reports say of the heart's size, and what its limits would contradict."""

from __future__ import annotations

from typing import Any

import numpy as np

from eval import paired, scores
from eval.anatomy.looks import Labelled
from knowledge_base.findings import FINDINGS, Polarity
from rag_service.report.cardiothoracic import FINDING, NAME, RatioLimits, contradicts
from rag_service.report.measurements import Measurement

_COLUMN = FINDINGS.index(FINDING)


def measure(films: Labelled, limits: RatioLimits | None, seed: int) -> dict[str, Any]:
    """AUROC of the ratio for Cardiomegaly beside the network's own, on the films where it was measured; how often it was refused;
    and how often the limits contradict a right and a wrong statement.
    """
    ratio, label = films.looks.ratio, films.labels[:, _COLUMN]
    kept = np.flatnonzero(~np.isnan(ratio) & ~np.isnan(label))
    known, value, network = label[kept], ratio[kept], films.looks.scores[kept, _COLUMN]
    names = [films.patients[i] for i in kept.tolist()]
    return {
        "films": len(ratio),
        "refused": int(np.isnan(ratio).sum()),
        "labelled": len(kept),
        "positives": int(known.sum()),
        "auroc": scores.auroc(known, value),
        "auroc_ci": scores.interval(names, lambda rows: scores.auroc(known[rows], value[rows]), seed),
        "network_auroc": scores.auroc(known, network),
        "ratio_less_network": paired.difference(
            names,
            lambda rows: scores.auroc(known[rows], value[rows]),
            lambda rows: scores.auroc(known[rows], network[rows]),
            seed,
        ),
        "limits": None if limits is None else _contradicted(films, kept.tolist(), limits),
    }


def _contradicted(films: Labelled, kept: list[int], limits: RatioLimits) -> dict[str, Any]:
    """Of films with and without an enlarged heart: the share for which saying so, and for which denying it, is contradicted."""
    found: dict[str, Any] = {"normal_below": limits.normal_below, "enlarged_from": limits.enlarged_from}
    for present, name in ((1.0, "enlarged"), (0.0, "not_enlarged")):
        rows = [i for i in kept if films.labels[i, _COLUMN] == present]
        for polarity in (Polarity.POSITIVE, Polarity.NEGATIVE):
            said = [contradicts(_measured(films, i), polarity, limits, float(films.looks.ap[i])) for i in rows]
            found[f"{polarity}_on_{name}"] = {"contradicted": sum(said), "films": len(rows)}
    return found


def _measured(films: Labelled, row: int) -> Measurement:
    return Measurement(NAME, float(films.looks.ratio[row]), "ratio")
