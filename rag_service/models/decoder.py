"""The grounded decoder as it serves: what it is asked, how a task becomes its input, its files in a model folder."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file

from knowledge_base.findings import Laterality, Polarity
from knowledge_base.records import digest
from rag_service import sealed
from rag_service.errors import BadWeights
from rag_service.models.decoder_network import Batch, DecoderNetwork, DecoderShape
from rag_service.models.decoder_sight import FilmTokens, Sight, load_sight
from rag_service.models.decoding import MAX_BOXES, Form, generate
from rag_service.models.vocabulary import ASKED, PAD, PRIOR, SLOTS, UNSIDED, Vocabulary
from rag_service.report.grammar import BINS, BinBox, Phrase, read

NAME: Final = "grounded-decoder"
WEIGHTS_FILE: Final = "decoder.safetensors"
LISTING_FILE: Final = "decoder.json"
REMEDY: Final = "run `python -m rag_service.training decoder --data DIR`"
BEAMS: Final = 4
MAX_ASKED: Final = 24
MAX_PRIOR: Final = 48
MAX_EVIDENCE: Final = 24
"""Words (byte pairs) that are read of what was asked, of the earlier report, and of each slot's sentence."""
OVERLAP: Final = 0.4
"""IoU with an earlier box of the sentence from which a box says nothing new."""
_ACROSS: Final[Mapping[Laterality | None, tuple[int, int]]] = {
    Laterality.RIGHT: (0, 54),
    Laterality.LEFT: (45, BINS - 1),
}
"""The patient's side -> the bins across in which its boxes lie, as `explain.anatomy.side` has it."""
_TIED: Final = frozenset(f"language.{n}.weight" for n in ("lm_head", "encoder.embed_tokens", "decoder.embed_tokens"))
"""The same tensor as the shared embedding; stored once."""


@dataclass(frozen=True)
class Asked:
    """One finding to word: what was decided of it, what was asked and known before, and the sentences of slots 1, 2, ...

    Slots beyond SLOTS are not read. `side` None: no side may be said. `boxes`: where it was found, heaviest first.
    """

    finding: str
    polarity: Polarity
    side: Laterality | None = None
    boxes: tuple[BinBox, ...] = ()
    words: str = ""
    prior: str = ""
    evidence: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sentence:
    """What the decoder wrote, and its mean log probability by word."""

    phrase: Phrase
    score: float


def word_ids(vocabulary: Vocabulary, asked: Asked) -> tuple[list[int], list[int]]:
    """What is read of a task, and the segment of each word. Whatever the texts spell, only the marks put here are marks."""
    side = vocabulary.mark(UNSIDED) if asked.side is None else vocabulary.of_value(asked.side)
    boxes = [i for box in asked.boxes[:MAX_BOXES] for i in vocabulary.of_box(box)]
    parts = [[vocabulary.of_value(asked.finding), vocabulary.of_value(asked.polarity), side, *boxes]]
    for mark, text, limit in ((ASKED, asked.words, MAX_ASKED), (PRIOR, asked.prior, MAX_PRIOR)):
        words = vocabulary.read(text, limit)
        parts.append([vocabulary.mark(mark), *words] if words else [])
    for slot, text in enumerate(asked.evidence[:SLOTS], 1):
        parts.append([vocabulary.cite(slot), *vocabulary.read(text, MAX_EVIDENCE)])
    return list(chain(*parts)), [segment for segment, part in enumerate(parts) for _ in part]


def batch_of(
    vocabulary: Vocabulary,
    films: Sequence[FilmTokens],
    asked: Sequence[Asked],
    unseen: Sequence[frozenset[str]],
) -> Batch:
    """Tasks, each with its film and the kinds of film token that are not looked at, padded to the longest."""
    read_of = [word_ids(vocabulary, a) for a in asked]
    length = max(len(words) for words, _ in read_of)
    looked = [film.of(a.finding) for film, a in zip(films, asked, strict=True)]
    return Batch(
        films={k: torch.from_numpy(np.stack([t[k] for t in looked]).astype(np.float32)) for k in looked[0]},
        seen={k: torch.tensor([k not in kinds for kinds in unseen]) for k in looked[0]},
        words=_padded([words for words, _ in read_of], length, vocabulary.mark(PAD)),
        segments=_padded([segments for _, segments in read_of], length, 0),
    )


def _padded(rows: Sequence[Sequence[int]], length: int, filler: int) -> torch.Tensor:
    return torch.tensor([[*row, *[filler] * (length - len(row))] for row in rows])


@dataclass(frozen=True, eq=False)
class Decoder:
    """A loaded decoder, made for the film model `model` and a sight. `digest` is the listing's."""

    model: str
    vocabulary: Vocabulary
    network: DecoderNetwork
    sight: Sight
    version: str
    digest: str

    @property
    def id(self) -> str:
        """name@version-digest."""
        return f"{NAME}@{self.version}-{self.digest[:8]}"

    def write(
        self, film: FilmTokens, asked: Sequence[Asked], beams: int = BEAMS, unseen: frozenset[str] = frozenset()
    ) -> list[tuple[Sentence, ...]]:
        """The sentences for each task, best first, none twice. Of a film of which nothing is looked at nothing is placed."""
        if not asked:
            return []
        batch = batch_of(self.vocabulary, [film] * len(asked), asked, [unseen] * len(asked))
        looks = bool(self.network.shape.sees.keys() - unseen)
        forms = [form_of(a, looks) for a in asked]
        return [_sentences(each) for each in generate(self.network, self.vocabulary, batch, forms, beams)]


def form_of(asked: Asked, looks: bool) -> Form:
    """What the sentence for a task may hold: boxes where the finding is not denied and the film looked at, on the side decided."""
    placed = looks and asked.polarity is not Polarity.NEGATIVE
    left, right = _ACROSS.get(asked.side, (0, BINS - 1))
    return Form(min(len(asked.evidence), SLOTS), placed, left, right)


def _sentences(written: Sequence[tuple[str, float]]) -> tuple[Sentence, ...]:
    """Each text once, the best of its kind."""
    best: dict[str, Sentence] = {}
    for text, score in written:
        phrase = read(text)[0]
        boxes = None if phrase.boxes is None else _apart(phrase.boxes)
        best.setdefault(phrase.text, Sentence(replace(phrase, boxes=boxes), score))
    return tuple(best.values())


def _apart(boxes: Sequence[BinBox]) -> tuple[BinBox, ...]:
    """The boxes without those that mostly lie on one before them."""
    kept: list[BinBox] = []
    for box in boxes:
        if all(box.box.iou(k.box) < OVERLAP for k in kept):
            kept.append(box)
    return tuple(kept)


def save_decoder(
    folder: Path, model: str, vocabulary: Vocabulary, network: DecoderNetwork, sight: Sight, about: dict[str, Any]
) -> None:
    """Write the weights (float16) and the sealed listing that carries their digest. `about`: version and what it was trained on."""
    path = folder / WEIGHTS_FILE
    save_file({k: v.half().contiguous() for k, v in network.state_dict().items() if k not in _TIED}, path)
    listing = {
        "model": model,
        "sight": sight.digests,
        "weights": hashlib.sha256(path.read_bytes()).hexdigest(),
        "shape": asdict(network.shape),
        "words": vocabulary.bpe,
        **about,
    }
    sealed.write(folder / LISTING_FILE, listing)


def load_decoder(folder: Path, model: str) -> Decoder | None:
    """The decoder of film model `model` in `folder`; None when the folder has none.

    BadWeights, with the remedy, when a file is altered, or it was made for another film model, region queries or segmenter.
    """
    if not (folder / LISTING_FILE).is_file():
        return None
    listing = sealed.read_made_for(folder / LISTING_FILE, model, "decoder was made", REMEDY)
    try:
        looked_with = dict(listing["sight"])
    except (KeyError, TypeError, ValueError) as error:
        raise BadWeights(f"{LISTING_FILE} is altered or malformed; {REMEDY}") from error
    sight = load_sight(folder, model, tuple(looked_with))
    if sight.digests != looked_with:
        raise BadWeights(f"the decoder was made for other {' and '.join(looked_with)}; {REMEDY}")
    return _built(listing, sealed.weights(folder / WEIGHTS_FILE, listing.get("weights"), REMEDY), sight)


def _built(listing: dict[str, Any], content: bytes, sight: Sight) -> Decoder:
    try:
        shape = DecoderShape(**{**listing["shape"], "sees": {k: tuple(v) for k, v in listing["shape"]["sees"].items()}})
        vocabulary = Vocabulary(listing["words"])
        network = DecoderNetwork(shape, vocabulary)
        missing, unknown = network.load_state_dict({k: v.float() for k, v in load(content).items()}, strict=False)
        version = str(listing["version"])
        if unknown or set(missing) - _TIED:
            raise ValueError("other tensors than the network has")
    except (SafetensorError, RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadWeights(f"{LISTING_FILE} and {WEIGHTS_FILE} do not fit each other; {REMEDY}") from error
    if not all(bool(torch.isfinite(t).all()) for t in network.state_dict().values()):
        raise BadWeights(f"{WEIGHTS_FILE} holds numbers that are not finite; {REMEDY}")
    return Decoder(listing["model"], vocabulary, network.eval(), sight, version, digest(listing))
