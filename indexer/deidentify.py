"""Blanks what looks like a person's name, date or number in a report. A sentence with a blank is never quoted in a draft."""

from __future__ import annotations

import re
from typing import Final

BLANK: Final = "XXXX"
_MONTHS: Final = (
    "jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?|"
    "nov(?:ember)?|dec(?:ember)?"
)
_PATTERNS: Final = (  # each takes time in proportion to the text: no two parts of one may share what they consume
    re.compile(r"(?<![\w.+-])[\w.+-]+@[\w-]+\.[\w.-]+"),
    re.compile(r"\b\d{1,4}[/.-]\d{1,2}[/.-]\d{2,4}\b"),
    re.compile(rf"\b\d{{1,2}}(?:st|nd|rd|th)?\s+(?:of\s+)?(?:{_MONTHS})\.?,?\s+\d{{2,4}}\b", re.IGNORECASE),
    re.compile(rf"\b(?:{_MONTHS})\.?\s+\d{{1,2}}(?:st|nd|rd|th)?,?\s+\d{{2,4}}\b", re.IGNORECASE),
    re.compile(rf"\b(?:{_MONTHS})\.?,?\s+(?:19|20)\d{{2}}\b", re.IGNORECASE),
    re.compile(r"\+?\d[\d ()-]{7,}\d"),
    re.compile(
        r"\b(?:mrn|id|accession|acc|nhs|ssn)\s*(?:(?:no\.?|number|#)\s*)?(?:[:#]\s*)?[A-Z]{0,3}\d[\w-]{2,}",
        re.IGNORECASE,
    ),
    re.compile(r"\b\d{6,}\b"),
    re.compile(r"\b(?:Dr|Mr|Mrs|Ms|Miss|Prof)\.?\s+[A-Z][\w'-]+(?:\s+[A-Z][\w'-]+)?"),
    re.compile(r"(?i:\b(?:patient name|name|dob|date of birth)\s*:\s*)[^\n;,.]+"),
)


def blank(text: str) -> str:
    """The text with such parts replaced by XXXX."""
    for pattern in _PATTERNS:
        text = pattern.sub(BLANK, text)
    return text
