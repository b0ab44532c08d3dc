"""What the decoder should have written, word by word, and what it costs not to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from knowledge_base.findings import Polarity
from rag_service.models.decoder_network import Batch, DecoderNetwork
from rag_service.models.decoding import MAX_WORDS
from rag_service.models.vocabulary import BEGIN, END, PAD, Vocabulary
from rag_service.training.decoder_examples import Example
from rag_service.training.runs import autocast

UNLEARNED: Final = -100
"""Stands in the labels where nothing is to be learned."""


def sentence_ids(
    vocabulary: Vocabulary, example: Example, slots: Sequence[int], seen: bool
) -> tuple[list[int], list[int]]:
    """The ids of an example's sentence in the grammar, and the same as labels.

    Where its boxes are not known the mark after the words is not learned, as boxes might have followed; where only the boxes are
    to be learned, nothing else is. A film that is not `seen` has no boxes.
    """
    words = vocabulary.read(example.target.text, MAX_WORDS)
    boxes = [i for b in (example.boxes or ()) if seen for i in vocabulary.of_box(b)]
    rest = [*map(vocabulary.cite, slots), vocabulary.mark(END)]
    if not example.learned:
        blank = UNLEARNED
        return [*words, *boxes, *rest], [*[blank] * len(words), *boxes, *[blank] * len(rest)]
    labels = [*words, *boxes, *rest]
    if seen and not boxes and example.target.polarity is not Polarity.NEGATIVE:
        labels[len(words)] = UNLEARNED
    return [*words, *boxes, *rest], labels


def padded(vocabulary: Vocabulary, rows: Sequence[tuple[Sequence[int], Sequence[int]]]) -> tuple[Tensor, Tensor]:
    """What has been written before each word (B, T), and the labels (B, T)."""
    longest = max(len(ids) for ids, _ in rows)
    before = [[vocabulary.mark(BEGIN), *ids[:-1], *[vocabulary.mark(PAD)] * (longest - len(ids))] for ids, _ in rows]
    labels = [[*each, *[UNLEARNED] * (longest - len(each))] for _, each in rows]
    return torch.tensor(before), torch.tensor(labels)


def word_loss(network: DecoderNetwork, batch: Batch, before: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy by word that is to be learned; zero where there is none."""
    with autocast(before.device):
        logits = network(batch, before)
    known = (labels != UNLEARNED).sum().clamp(min=1)
    total = functional.cross_entropy(
        logits.float().flatten(0, 1), labels.flatten(), ignore_index=UNLEARNED, reduction="sum"
    )
    return total / known
