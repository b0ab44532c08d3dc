"""Cells of a table read as what they mean, or as unknown."""

from __future__ import annotations

import re
from datetime import date


def age(text: str) -> int | None:
    """Whole years from 0 to 120 as written ("61", "061Y", "61.0"); months, weeks and days of DICOM's form count as 0 years.

    None for anything else.
    """
    if re.fullmatch(r"[0-9]{3}[MWD]", written := text.strip()):
        return int(written[:3]) // {"M": 12, "W": 52, "D": 365}[written[3]]
    match = re.fullmatch(r"([0-9]{1,3})(?:\.0|Y)?", written)
    return int(match[1]) if match and int(match[1]) <= 120 else None


def sex(text: str) -> str | None:
    """M, F or O, from a letter or a word; None for anything else."""
    return {"M": "M", "F": "F", "O": "O", "MALE": "M", "FEMALE": "F"}.get(text.strip().upper())


def day(text: str) -> str | None:
    """YYYY-MM-DD from that, from DICOM's YYYYMMDD or from a number written so; None for anything else."""
    digits = re.sub(r"\.0$", "", text.strip()).replace("-", "")
    try:
        return date(int(digits[:4]), int(digits[4:6]), int(digits[6:8])).isoformat() if len(digits) == 8 else None
    except ValueError:
        return None
