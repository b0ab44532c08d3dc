"""What the decoder reads and writes: words of reports as byte-pair codes, and marks that no text can spell.

Words have the ids 0 to W - 1 and come from a byte-level BPE, which knows any text. Marks (findings, polarities, sides, slots, boxes
and their bins) follow from W on and are unknown to the BPE: a retrieved sentence that spells "<cite_1>" is letters and brackets.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Final

from tokenizers import Tokenizer

from knowledge_base.findings import FINDINGS, Laterality, Polarity
from rag_service.report.grammar import BINS, BinBox

PAD: Final = "<pad>"
BEGIN: Final = "<obj>"
END: Final = "</obj>"
BOX: Final = "<box>"
BOX_END: Final = "</box>"
UNSIDED: Final = "<unsided>"
ASKED: Final = "<asked>"
PRIOR: Final = "<prior>"
SLOTS: Final = 4
"""Retrieved sentences that are read for one finding."""
_CHARACTERS: Final = 12
"""Characters looked at for each word wanted: a text without end costs no more than a long one."""


def _marks() -> tuple[str, ...]:
    bins = [f"<{axis}{i}>" for axis in "xy" for i in range(BINS)]
    decided = [f"<{value}>" for value in (*FINDINGS, *Polarity, *Laterality)]
    cites = [f"<cite_{i}>" for i in range(1, SLOTS + 1)]
    return (PAD, BEGIN, END, BOX, BOX_END, UNSIDED, ASKED, PRIOR, *cites, *decided, *bins)


MARKS: Final = _marks()
"""Every mark, in the order of their ids."""


class Vocabulary:
    """Ids of words and marks. ValueError when `bpe`, a tokenizer's JSON, is none."""

    def __init__(self, bpe: str) -> None:
        self.bpe = bpe
        try:
            self._tokenizer = Tokenizer.from_str(bpe)
        except Exception as error:  # the library raises nothing more special
            raise ValueError("not a tokenizer") from error
        self.words = int(self._tokenizer.get_vocab_size(with_added_tokens=False))
        if self._tokenizer.get_vocab_size() != self.words:
            raise ValueError("the tokenizer of a vocabulary has words alone")
        self._marks = {mark: self.words + i for i, mark in enumerate(MARKS)}

    def __len__(self) -> int:
        return self.words + len(MARKS)

    def mark(self, name: str) -> int:
        """The id of one of MARKS."""
        return self._marks[name]

    def cite(self, slot: int) -> int:
        """The id of a slot's mark, slots counted from 1."""
        return self._marks[f"<cite_{slot}>"]

    def of_value(self, value: str) -> int:
        """The id that stands for a finding, a polarity or a side."""
        return self._marks[f"<{value}>"]

    def of_box(self, box: BinBox) -> list[int]:
        """The ids of a box in the grammar."""
        corners = (f"<x{box.x_min}>", f"<y{box.y_min}>", f"<x{box.x_max}>", f"<y{box.y_max}>")
        return [self._marks[m] for m in (BOX, *corners, BOX_END)]

    def read(self, text: str, limit: int) -> list[int]:
        """The first `limit` word ids of a text, line breaks as spaces; none of them is a mark, whatever the text spells."""
        line = " ".join(text[: limit * _CHARACTERS].split())
        return list(self._tokenizer.encode(f" {line}", add_special_tokens=False).ids[:limit]) if line else []

    def text(self, ids: Iterable[int]) -> str:
        """The words of ids, marks left out, stripped."""
        words = [i for i in ids if i < self.words]
        return str(self._tokenizer.decode(words)).strip()

    def written(self, ids: Sequence[int]) -> str:
        """What the decoder wrote, in the grammar of `report.grammar`: words as text, marks by name."""
        parts: list[str] = []
        words: list[int] = []
        for i in (*ids, self.mark(PAD)):
            if i < self.words:
                words.append(i)
                continue
            parts += [self.text(words), MARKS[i - self.words]]
            words = []
        return "".join(parts[:-1])

    @cached_property
    def sayable(self) -> tuple[bool, ...]:
        """Whether each word may be written: printable ASCII without angle brackets."""
        return tuple(t.isascii() and t.isprintable() and bool(t) and not set("<>") & set(t) for t in self._pieces)

    @cached_property
    def opening(self) -> tuple[bool, ...]:
        """Whether a sentence may begin with each word: it begins with a letter."""
        return tuple(ok and t.strip()[:1].isalpha() for ok, t in zip(self.sayable, self._pieces, strict=True))

    @cached_property
    def _pieces(self) -> tuple[str, ...]:
        return tuple(str(self._tokenizer.decode([i])) for i in range(self.words))


def train_bpe(texts: Iterable[str], size: int) -> str:
    """JSON of a byte-level BPE of at most `size` words made of `texts`."""
    from tokenizers import decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
    )
    return str(tokenizer.to_str())
