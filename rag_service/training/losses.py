"""What the network is asked for: labels on points of the box, a box that holds device-shifted copies, neighbours that agree."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional


def masked_bce(logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean binary cross-entropy over known targets; logits and targets (B, K, ...), targets in [0, 1] or -1 for unknown.

    `weights` (K,), one for each column, are 1 when absent.
    """
    known = (targets >= 0).float()
    if weights is not None:
        known = known * weights
    loss = functional.binary_cross_entropy_with_logits(logits, targets.clamp(min=0).float(), reduction="none")
    return (loss * known).sum() / (targets >= 0).sum().clamp(min=1)


def exposure(radius: Tensor, strangers: Tensor, margin: float = 3.0) -> Tensor:
    """Hinge on the log of the mean radius: strangers (M, d), which the model should not know, want `margin` times that of films
    (B, d)."""
    if not len(strangers) or not len(radius):
        return radius.sum() * 0.0
    usual = radius.mean(1).log().mean().detach()
    return functional.relu(usual + math.log(margin) - strangers.mean(1).log()).mean()


def containment(centre: Tensor, radius: Tensor, shifted: Tensor) -> Tensor:
    """Hinge on how far the centre of a shifted copy (B, d) leaves the box (centre, radius)."""
    return functional.relu((shifted - centre).abs() - radius).sum() / max(
        shifted.numel(), 1
    )  # 0 without copies, not NaN


def neighbours(centre: Tensor, labels: Tensor, temperature: float = 16.0) -> Tensor:
    """Cross-entropy between who is near in latent space and who shares findings (Jaccard of positives), over a batch.

    centre (B, d); labels (B, F) with unknown as -1. Films without a positive finding are nobody's neighbour.
    """
    positive = (labels == 1).float()
    known = positive.sum(1) > 0
    if int(known.sum()) < 4:
        return centre.sum() * 0.0
    centre, positive = centre[known], positive[known]
    shared = positive @ positive.T
    union = positive.sum(1)[:, None] + positive.sum(1)[None] - shared
    target = shared / union
    off = ~torch.eye(len(centre), dtype=torch.bool, device=centre.device)
    target = (target * off) / (target * off).sum(1, keepdim=True).clamp(min=1e-6)
    logits = (-torch.cdist(centre, centre).pow(2) / temperature).masked_fill(~off, -1e9)
    return -(target * functional.log_softmax(logits, 1)).sum(1).mean()


def captions(film: Tensor, text: Tensor, raw: Tensor, temperature: float = 0.1) -> Tensor:
    """Symmetric contrast of films and their texts, both (B, j), with soft targets from the texts' own likeness `raw` (B, t).

    Many reports say the same in other words: such pairs are not pushed apart.
    """
    if not len(film):
        return film.sum() * 0.0
    film, text = functional.normalize(film, dim=1), functional.normalize(text, dim=1)
    target = functional.softmax(raw @ raw.T / 0.05, dim=1)
    logits = film @ text.T / temperature
    rows = -(target * functional.log_softmax(logits, 1)).sum(1).mean()
    return 0.5 * (rows - (target * functional.log_softmax(logits.T, 1)).sum(1).mean())
