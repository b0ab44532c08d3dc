"""What a caller asks when a finding is to be explained, checked where it is made."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from knowledge_base.findings import FINDINGS, NO_FINDING
from rag_service.errors import BadRequest

EXPLAINED: Final = tuple(f for f in FINDINGS if f != NO_FINDING)
"""The findings that have a place on a film."""


class Method(StrEnum):
    """How a finding is explained."""

    GRAD_CAM = "grad_cam"
    SHAPLEY = "shapley"
    LIME = "lime"
    ATTENTION = "attention"


@dataclass(frozen=True)
class ExplainRequest:
    """A frontal film and the finding to explain, by these methods or, with none named, by all that the model has.

    `picture` asks for the maps side by side as a PNG.
    """

    film: bytes
    finding: str
    methods: tuple[Method, ...] = ()
    picture: bool = False

    def __post_init__(self) -> None:
        if self.finding not in EXPLAINED:
            raise BadRequest(f"finding must be one of: {', '.join(EXPLAINED)}")
        if len(set(self.methods)) != len(self.methods):
            raise BadRequest("each method is named once")


def read_methods(text: str) -> tuple[Method, ...]:
    """Methods from their names with commas between them. BadRequest for a name that there is not."""
    names = [name.strip() for name in text.split(",")]
    if not set(names) <= set(Method):
        raise BadRequest(f"methods are named with commas between them, of: {', '.join(Method)}")
    return tuple(map(Method, names))
