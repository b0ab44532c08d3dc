"""Points to store and questions to ask: small, invented, the same on every machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from knowledge_base.bm25 import query_vector
from knowledge_base.cases import to_point
from knowledge_base.findings import Polarity
from knowledge_base.records import BoxLatent, Case, CaseSentence, Mention
from knowledge_base.schema import (
    CollectionSchema,
    IndexManifest,
    box_vector,
    cases_schema,
    region_vector,
    text_vector,
)
from knowledge_base.store import Point, Scope, SparseVector
from knowledge_base.zones import ZONES

BOX: Final = box_vector("box@1")
TEXT: Final = text_vector("mini@1")
REGIONS: Final[Mapping[str, str]] = {zone: region_vector(zone, "box@1") for zone in ZONES}
REGION_WIDTH: Final = 5
MANIFEST: Final = IndexManifest("box@1", "mini@1", "film@1", "labeler@1", 4, 6)
PUBLIC_ONLY: Final = Scope("public")
VOCABULARY: Final = (
    "effusion", "pneumothorax", "clear", "lungs", "heart", "enlarged", "normal", "opacity", "left", "right", "small",
)  # fmt: skip


def a_schema(axes: int = 4) -> CollectionSchema:
    """A cases collection of a name of its own, so that runs on one server do not meet."""
    made = cases_schema("box@1", "mini@1", box_dimension=axes, text_dimension=6, region_dimension=REGION_WIDTH)
    return replace(made, name=f"cases-{uuid4().hex[:8]}")


def a_case(number: int, words: str, tenant: str = "public", finding: str | None = "Edema") -> Case:
    """Study s<number> of patient p<number // 2>."""
    mentions = () if finding is None else (Mention(finding, Polarity.POSITIVE, (0, 3)),)
    sentences = (CaseSentence(words, (0, len(words)), "findings", mentions),)
    return Case("openi", f"s{number}", f"p{number // 2}", words, sentences, tenant=tenant, view="PA")


def a_point(
    number: int,
    schema: CollectionSchema,
    *,
    words: str = "small left effusion",
    tenant: str = "public",
    finding: str | None = "Edema",
    regions: bool = False,
) -> Point:
    """The case as a point, its vectors drawn by its number."""
    rng = np.random.default_rng(number)
    box = BoxLatent(rng.normal(size=4).astype(np.float32), rng.uniform(0.1, 1.0, 4).astype(np.float32))
    vector = rng.normal(size=6).astype(np.float32)
    zones = {zone: rng.normal(size=REGION_WIDTH).astype(np.float32) for zone in ZONES} if regions else None
    return to_point(a_case(number, words, tenant, finding), schema, box=box, text_vector=vector, regions=zones)


def many(schema: CollectionSchema, count: int = 60, *, regions: bool = False) -> list[Point]:
    """Points of two tenants and the public in turn, with words of their own."""
    rng = np.random.default_rng(7)
    points = []
    for number in range(count):
        words = " ".join(rng.choice(VOCABULARY, size=rng.integers(3, 12)))
        tenant = ("public", "isle", "coast")[number % 3]
        finding = ("Edema", "Pneumothorax", None)[number % 5 % 3]
        points.append(a_point(number, schema, words=words, tenant=tenant, finding=finding, regions=regions))
    return points


def words(text: str) -> SparseVector:
    """The question's terms."""
    vector = query_vector(text)
    assert vector is not None
    return vector


def values(*numbers: float) -> NDArray[np.float32]:
    """A vector of these values."""
    return np.array(numbers, np.float32)
