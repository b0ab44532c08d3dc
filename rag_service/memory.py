"""What the service remembers with, and the store's errors in the service's own words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import numpy as np

from knowledge_base.cases import VectorNames, patient_key
from knowledge_base.duplicates import NEAR_DUPLICATE
from knowledge_base.errors import (
    CollectionMissing,
    DamagedRecordError,
    ManifestMismatch,
    StoreError,
    StoreProtocolError,
)
from knowledge_base.guideline_search import GuidelineSearch
from knowledge_base.records import BoxLatent, Passage
from knowledge_base.schema import CASES, WITHDRAWN
from knowledge_base.search import CaseSearch
from knowledge_base.store import Filter, KnowledgeStore, Match, Scope
from rag_service.errors import DamagedRecord, IndexModelMismatch, StoreProtocol, StoreUnavailable
from rag_service.models.text import TextEncoder

RETRY_AFTER_SECONDS: Final = 2
"""When to ask a store again that gave no word of its own."""
STUDIES: Final = 16
"""Cases of a patient looked at for one that is not the film in hand."""


@contextmanager
def store_errors() -> Iterator[None]:
    """The store's errors as the service's own."""
    try:
        yield
    except (ManifestMismatch, CollectionMissing) as error:
        raise IndexModelMismatch(str(error)) from error
    except DamagedRecordError as error:
        raise DamagedRecord("a stored record fails its checksum; run `python -m indexer verify`") from error
    except StoreProtocolError as error:
        raise StoreProtocol("the knowledge base's answer cannot be read") from error
    except StoreError as error:
        seconds = getattr(error, "retry_after_seconds", RETRY_AFTER_SECONDS)
        raise StoreUnavailable("the knowledge base does not answer", seconds) from error


@dataclass(frozen=True, eq=False)
class Memory:
    """What remembers: the store, the names of its vectors, the searches over it, the text encoder, and finding names as text
    vectors (14, 384). `reranker_digest` is None where the cases stay in fused order.
    """

    store: KnowledgeStore
    names: VectorNames
    cases: CaseSearch
    guidelines: GuidelineSearch
    passages: Mapping[UUID, Passage]
    text: TextEncoder
    finding_vectors: Mapping[str, np.ndarray]
    manifest_digest: str
    content_digest: str
    reranker_digest: str | None = None

    def has_prior(self, patient: tuple[str, str] | None, tenant: str, film: BoxLatent | None) -> bool:
        """Whether (source, patient) has a case in use, visible to the tenant, that is not the film itself."""
        if patient is None:
            return False
        of_patient = Filter(must=(Match("patient_key", patient_key(*patient)),), must_not=(Match(WITHDRAWN, 1),))
        box = self.names.box
        with store_errors():
            found = self.store.scroll(CASES, Scope(tenant), limit=STUDIES, wanted=of_patient, vectors=[box]).points
        boxes = [BoxLatent.from_vector(p.vectors[box]) if box in p.vectors else None for p in found]
        return any(b is None or film is None or b.overlap(film) < NEAR_DUPLICATE for b in boxes)
