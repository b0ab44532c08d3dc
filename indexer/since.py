"""Which studies a nightly run looks at."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import Self

from indexer.films import stamp_of
from indexer.studies import Study


@dataclass(frozen=True)
class Since:
    """Studies from a day on, or whose film's file has changed from a moment on (seconds since 1970).

    Either will do: a study of last month that reaches the archive today is new today. One that has neither date nor film
    is always looked at.
    """

    day: date
    moment: float

    @classmethod
    def of_day(cls, text: str) -> Self:
        """From the beginning of a day, YYYY-MM-DD, local time. ValueError when it is none."""
        day = date.fromisoformat(text)
        return cls(day, datetime(day.year, day.month, day.day).timestamp())

    @classmethod
    def of_moment(cls, moment: float) -> Self:
        """From a moment on, its whole local day for studies that state a date."""
        return cls(date.fromtimestamp(moment), moment)

    def admits(self, study: Study) -> bool:
        """Whether the study is to be looked at."""
        if study.date is not None and study.date >= self.day.isoformat():
            return True
        stamp = stamp_of(study)
        if stamp is None:
            return study.date is None
        return stamp.changed_ns >= self.moment * 1e9
