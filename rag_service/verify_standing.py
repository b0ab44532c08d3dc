"""The words of a verification: what becomes of a sentence, and why a citation is no evidence."""

from __future__ import annotations

from enum import StrEnum


class Standing(StrEnum):
    """What becomes of a sentence: its evidence makes it true, or does not, or contradicts it; or it says nothing of a finding."""

    SUPPORTED = "supported"
    UNSUPPORTED = "unsupported"
    CONTRADICTED = "contradicted"
    NOT_CHECKABLE = "not_checkable"


class Broken(StrEnum):
    """Why a citation is no evidence now."""

    NOT_FOUND = "not_found"
    WITHDRAWN = "withdrawn"
    DAMAGED = "damaged"
    OTHER_WORDS = "quote_is_not_the_records_text"
    NOT_ENTAILED = "does_not_make_it_true"
    CONTRADICTS = "contradicts_it"
