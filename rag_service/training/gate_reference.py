"""Fits what the gate compares a film with: training frontals as the reference, thresholds on calibration frontals."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from rag_service.datasets.films import Split
from rag_service.gate import REFERENCE_FILE, GateThresholds, distances
from rag_service.models.network import PRESENTATIONS
from rag_service.training.calibrate import CorpusReader

FALSE_ALARM_SHARE: Final = 0.005
SHRINKAGE: Final = 0.10


def fit_gate(reader: CorpusReader, folder: Path) -> GateThresholds:
    """Reference from training frontals of the frontal sources, written to `folder`; thresholds from calibration frontals."""
    corpus = reader.corpus
    train = np.concatenate([corpus.rows(Split.TRAIN, s, "frontal") for s in ("openi", "nih", "cohen")])
    mean, whitening = reference(np.stack([r.pooled for r in reader.read(train)]))
    path = folder / REFERENCE_FILE
    save_file({"mean": mean.astype(np.float32), "whitening": whitening.astype(np.float16)}, path)
    held = np.concatenate([corpus.rows(Split.CALIBRATION, s, "frontal") for s in ("openi", "nih")])
    readings = reader.read(held)
    away = np.stack([r.presentation for r in readings])
    far = distances(
        np.stack([r.pooled for r in readings]), mean.astype(np.float32), whitening.astype(np.float16).astype(np.float32)
    )
    limits = {n: _limit(away[:, i]) for i, n in enumerate(PRESENTATIONS) if n != "frontal"}
    return GateThresholds(
        model=reader.encoder.record.id,
        presentation=limits,
        distance=float(np.quantile(far, 1 - FALSE_ALARM_SHARE)),
        reference=hashlib.sha256(path.read_bytes()).hexdigest(),
        false_alarm_share=FALSE_ALARM_SHARE,
    )


def reference(pooled: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean (D,) and whitening (D, D) of features (n, D), the covariance shrunk towards its mean variance."""
    values = pooled.astype(np.float64)
    mean = values.mean(0)
    covariance = np.cov(values - mean, rowvar=False)
    covariance = (1 - SHRINKAGE) * covariance + SHRINKAGE * np.trace(covariance) / len(covariance) * np.eye(
        len(covariance)
    )
    eigenvalues, vectors = np.linalg.eigh(covariance)
    return mean, (vectors / np.sqrt(eigenvalues)) @ vectors.T


def _limit(shares: NDArray[np.float64]) -> float:
    """A probability that at most the allowed share of calibration frontals reaches, and never under one half."""
    return max(float(np.quantile(shares, 1 - FALSE_ALARM_SHARE)), 0.5)
