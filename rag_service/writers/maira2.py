"""MAIRA-2 as a writer: asked for a grounded report in its own words, answering in its own grammar (arXiv 2406.04449)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from rag_service import torchvision_ops
from rag_service.errors import BadWeights
from rag_service.imaging.film import Frame
from rag_service.report.formats.grounded import GroundedSentence
from rag_service.report.formats.maira2 import read_text
from rag_service.report.grammar import GrammarError
from rag_service.report.writing import Candidate, Study, Task, WriterFailed
from rag_service.writers.inputs import picture, plain
from rag_service.writers.local_model import LOCAL, LocalModel, Messages, from_folder, loaded
from rag_service.writers.record import WriterRecord
from rag_service.writers.reports import by_task

MOST_TOKENS: Final = 450
"""Of a grounded report, as its model card has it."""
_END: Final = "</obj>"
_QUESTION: Final = (
    " Provide a description of the findings in the radiology study in comparison to the prior frontal image. Each finding should be"
    " described as a self-contained plain-text sentence. If the finding is groundable, locate the finding in the current frontal"
    " chest X-ray image, with bounding boxes indicating all locations where it can be seen in the current frontal image. Otherwise,"
    " generate just the ungrounded finding without bounding boxes."
)
"""The instruction it was trained with; it stands there with and without a prior."""
_LATERAL: Final = re.compile(r"\blateral\b", re.IGNORECASE)


class Maira2Writer:
    """A `Writer` of whole reports over a model that speaks MAIRA-2's grammar. The evidence is not shown to it."""

    def __init__(self, record: WriterRecord, model: LocalModel) -> None:
        self._record, self._model = record, model

    @property
    def id(self) -> str:
        """Name, version and digest."""
        return self._record.id

    def write(self, study: Study, tasks: Sequence[Task]) -> Sequence[Sequence[Candidate]]:
        """See `Writer`. WriterFailed for an answer outside the grammar."""
        return by_task(grounded(self._model.answer(question(study)), study.film.frame), tasks)


def question(study: Study) -> Messages:
    """The study as MAIRA-2 was trained to be asked: frontal, lateral and prior film, the prior report, and the request's words."""
    pieces = [
        _text(f"Given the current frontal image{' only' if study.lateral is study.prior is None else ''}"),
        _film(study.film),
    ]
    if study.lateral is not None:
        pieces += [_text(f"{'' if study.prior else ' and'} the current lateral image"), _film(study.lateral)]
    if study.prior is not None:
        pieces += [_text(" and the prior frontal image"), _film(study.prior)]
        pieces.append(_text(f" PRIOR_REPORT: {_said(study.prior_report)}"))
    words = (
        f"INDICATION: {_said(study.indication)} TECHNIQUE: {_technique(study)} COMPARISON: {_said(study.comparison)}"
    )
    pieces.append(_text(f"{_QUESTION} {words}"))
    return [{"role": "user", "content": pieces}]


def grounded(answer: str, frame: Frame) -> tuple[GroundedSentence, ...]:
    """The sentences of an answer with their boxes in fractions of the film; a last one that was cut short is left out.

    WriterFailed where the rest does not follow the grammar.
    """
    whole = answer[: answer.rfind(_END) + len(_END)] if _END in answer else answer
    try:
        return read_text(whole, frame)
    except GrammarError as error:
        raise WriterFailed("malformed_answer") from error


def load_maira2(record: WriterRecord, folder: Path) -> Maira2Writer:
    """The writer whose checked files lie in `folder`. BadWeights where they are not MAIRA-2's."""
    torchvision_ops.declare()
    from transformers import BitImageProcessor, LlavaProcessor, PreTrainedTokenizerFast

    from rag_service.writers.maira2_network import PUBLISHED_NAMES, Maira2, maira2_config

    model = loaded(
        record, lambda: from_folder(Maira2, folder, config=maira2_config(folder), key_mapping=PUBLISHED_NAMES)
    )
    try:
        tokenizer: Any = PreTrainedTokenizerFast.from_pretrained(folder, **LOCAL)
        images: Any = BitImageProcessor.from_pretrained(folder, **LOCAL)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise BadWeights(f"tokenizer or image processor of {record.id} is absent or malformed") from error
    processor = LlavaProcessor(  # type: ignore[no-untyped-call]
        images,
        tokenizer,
        patch_size=model.config.vision_config.patch_size,
        vision_feature_select_strategy="default",
        chat_template=tokenizer.chat_template,
        num_additional_image_tokens=1,  # the class token, which "default" leaves out again
    )
    return Maira2Writer(record, LocalModel(model, processor, MOST_TOKENS))


def _text(words: str) -> Mapping[str, Any]:
    return {"type": "text", "text": words}


def _film(film: Any) -> Mapping[str, Any]:
    return {"type": "image", "image": picture(film)}


def _said(words: str) -> str:
    return plain(words) or "N/A"


def _technique(study: Study) -> str:
    """Withheld where it tells of a lateral that is not there: the model would describe that film."""
    return "N/A" if study.lateral is None and _LATERAL.search(study.technique) else _said(study.technique)
