"""How the decoder may write: by the grammar, to an end, without going round in circles, whatever its weights are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import torch
from torch import Tensor

from rag_service.models.decoder_network import Batch, DecoderNetwork
from rag_service.models.vocabulary import BEGIN, BOX, BOX_END, END, PAD, SLOTS, Vocabulary
from rag_service.report.grammar import BINS

MAX_WORDS: Final = 40
"""Words (byte pairs) of a sentence."""
MAX_BOXES: Final = 3
LONGEST: Final = MAX_WORDS + 6 * MAX_BOXES + SLOTS + 1
_NEVER: Final = -1e9


@dataclass(frozen=True)
class Form:
    """What one sentence may hold besides words: slots 1 to `slots`, and boxes or none, which lie between two bins."""

    slots: int
    placed: bool
    left: int = 0
    right: int = BINS - 1


class SentenceForm:
    """A logits processor: only what continues a sentence of the grammar may follow.

    Words first, of which no two stand beside each other twice and none beside itself; then up to MAX_BOXES boxes, each larger than
    nothing; then slots in ascending order; then the end. There is always something that may follow. Of marks only the likeliest
    may: beams are ways to say it, not ways to place and cite the same words.
    """

    def __init__(self, vocabulary: Vocabulary, forms: Sequence[Form], beams: int) -> None:
        self._vocabulary, self._forms, self._beams = vocabulary, forms, beams
        self._box, self._box_end = vocabulary.mark(BOX), vocabulary.mark(BOX_END)
        self._end, self._pad = vocabulary.mark(END), vocabulary.mark(PAD)
        self._first = {"x": vocabulary.mark("<x0>"), "y": vocabulary.mark("<y0>")}
        self._cite = vocabulary.cite(1)
        self._opening, self._words = (self._mask(m) for m in (vocabulary.opening, vocabulary.sayable))

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores (rows, vocabulary) after `input_ids` (rows, t), minus infinity for what may not follow; rows by task."""
        rows = [self.following(ids[1:], self._forms[i // self._beams]) for i, ids in enumerate(input_ids.tolist())]
        found = torch.nan_to_num(scores, nan=_NEVER, neginf=_NEVER).masked_fill(~torch.stack(rows), -torch.inf)
        marks = found[:, self._vocabulary.words :]
        likeliest = torch.zeros_like(marks, dtype=torch.bool).scatter(1, marks.argmax(1, keepdim=True), value=True)
        marks.masked_fill_(~likeliest, -torch.inf)
        return found

    def following(self, written: Sequence[int], form: Form) -> Tensor:
        """(vocabulary,) bool: what may follow the words and marks written so far."""
        if not written:
            return self._opening
        last = written[-1]
        if last < self._vocabulary.words:
            return self._after_word(written, form)
        if last in {self._end, self._pad}:
            return self._only([self._pad])
        if self._cite <= last < self._cite + SLOTS:
            return self._only([*range(last + 1, self._cite + form.slots), self._end])
        if last == self._box_end:
            return self._only(self._closing(form, written.count(self._box)))
        return self._only(self._in_box(written, form))

    def _after_word(self, written: Sequence[int], form: Form) -> Tensor:
        allowed = self._words.clone() if len(written) < MAX_WORDS else torch.zeros_like(self._words)
        last = written[-1]
        allowed[[last, *(b for a, b in pairwise(written) if a == last)]] = False
        allowed[self._closing(form, 0)] = True
        return allowed

    def _closing(self, form: Form, boxes: int) -> list[int]:
        """The marks that may follow a sentence with so many boxes."""
        box = [self._box] if form.placed and boxes < MAX_BOXES else []
        return [*box, *range(self._cite, self._cite + form.slots), self._end]

    def _in_box(self, written: Sequence[int], form: Form) -> Sequence[int]:
        """The marks that may follow within a box: x_min, y_min, x_max, y_max, the end of the box."""
        corners = written[len(written) - 1 - written[::-1].index(self._box) + 1 :]
        if len(corners) == 4:
            return [self._box_end]
        axis = "xy"[len(corners) % 2]
        low, high = (form.left, form.right) if axis == "x" else (0, BINS - 1)
        first = self._first[axis]
        if len(corners) < 2:
            return range(first + low, first + high)
        return range(corners[-2] + 1, first + high + 1)

    def _mask(self, words: Sequence[bool]) -> Tensor:
        mask = torch.zeros(len(self._vocabulary), dtype=torch.bool)
        mask[: len(words)] = torch.tensor(words)
        return mask

    def _only(self, ids: Sequence[int]) -> Tensor:
        mask = torch.zeros(len(self._vocabulary), dtype=torch.bool)
        mask[list(ids)] = True
        return mask


@torch.inference_mode()
def generate(
    network: DecoderNetwork, vocabulary: Vocabulary, batch: Batch, forms: Sequence[Form], beams: int
) -> list[list[tuple[str, float]]]:
    """For each task the `beams` best sentences in the grammar, best first, with their log probability by word.

    One beam is greedy. All tasks are written at once; keys and values of earlier words are kept.
    """
    from transformers import GenerationConfig

    embedded, counts = network.inputs(batch)
    told = network.language.generate(
        encoder_outputs=network.language.get_encoder()(inputs_embeds=embedded, attention_mask=counts),
        attention_mask=counts,
        logits_processor=[SentenceForm(vocabulary, forms, beams)],
        generation_config=GenerationConfig(  # type: ignore[no-untyped-call]
            max_new_tokens=LONGEST,
            num_beams=beams,
            num_return_sequences=beams,
            do_sample=False,
            early_stopping=beams > 1,
            return_dict_in_generate=True,
            output_scores=True,
            pad_token_id=vocabulary.mark(PAD),
            eos_token_id=vocabulary.mark(END),
            decoder_start_token_id=vocabulary.mark(BEGIN),
        ),
    )
    scores = told.sequences_scores.tolist() if beams > 1 else [0.0] * len(forms)
    texts = [_sentence(vocabulary, ids) for ids in told.sequences.tolist()]
    return [list(zip(texts[i : i + beams], scores[i : i + beams], strict=True)) for i in range(0, len(texts), beams)]


def _sentence(vocabulary: Vocabulary, ids: Sequence[int]) -> str:
    end = vocabulary.mark(END)
    return vocabulary.written(ids[: ids.index(end) + 1])
