"""A draft in the format that was asked for."""

from __future__ import annotations

import json

from rag_service.errors import BadRequest
from rag_service.imaging.film import Frame
from rag_service.report.draft import Draft, Status
from rag_service.report.formats.grounded import sentences_of
from rag_service.report.formats.maira2 import write_text
from rag_service.report.formats.padchest_gr import study_of, write_study
from rag_service.requests import Format


def written(draft: Draft, chosen: Format, frame: Frame, study: str, image: str) -> str:
    """The text of a draft in a format; `study` and `image` are what PadChest-GR's list of one study calls them.

    BadRequest for an abstention: neither format can say it, and no findings would read as a normal film.
    """
    if draft.status is Status.ABSTAINED:
        raise BadRequest(f"no report was drafted ({', '.join(draft.abstain_reasons)}), which {chosen} cannot say")
    if chosen is Format.MAIRA_2:
        return write_text(sentences_of(draft), frame)
    return json.dumps([write_study(study_of(draft, study, image))], ensure_ascii=False, indent=1)
