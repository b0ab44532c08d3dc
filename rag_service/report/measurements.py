"""What is measured on a film: a number with the lines it was measured along, or the reason why there is none."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Segment:
    """A horizontal line on the original film, in fractions of it: from x_min to x_max at height y, y downwards."""

    name: str
    x_min: float
    x_max: float
    y: float

    def __post_init__(self) -> None:
        if not (0.0 <= self.x_min < self.x_max <= 1.0 and 0.0 <= self.y <= 1.0):
            raise ValueError(f"not a line in fractions of the film: {self}")


@dataclass(frozen=True)
class Measurement:
    """A quantity of a film: `value` in `unit` along `segments`; or None, and the `reason` why it could not be measured."""

    name: str
    value: float | None
    unit: str
    segments: tuple[Segment, ...] = ()
    reason: str | None = None

    def __post_init__(self) -> None:
        if (self.value is None) == (self.reason is None):
            raise ValueError(f"a measurement has either a value or the reason why it has none: {self.name}")
