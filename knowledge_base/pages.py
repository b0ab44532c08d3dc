"""Walking a whole collection, tenant by tenant and page by page, with memory for one page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from knowledge_base.errors import DamagedRecordError
from knowledge_base.schema import CollectionSchema
from knowledge_base.store import VECTORS_SHA256, KnowledgeStore, Page, Scope, vectors_digest

PAGE: Final = 256


def pages_of(
    store: KnowledgeStore, collection: str, tenant: str, vectors: Sequence[str] = (), limit: int = PAGE
) -> Iterator[Page]:
    """One tenant's points, in ascending order of id. Raises what the store raises."""
    scope, after, more = Scope(tenant, also_public=False), None, True
    while more:
        page = store.scroll(collection, scope, after=after, limit=limit, vectors=vectors)
        yield page
        after, more = page.next_after, page.next_after is not None


def all_pages(
    store: KnowledgeStore, schema: CollectionSchema, *, vectors: bool = True, limit: int = PAGE
) -> Iterator[tuple[str, Page]]:
    """Every tenant's pages, each with the tenant's name, with all dense vectors or none."""
    names = list(schema.dense) if vectors else []
    for tenant in store.tenants(schema.name):
        for page in pages_of(store, schema.name, tenant, names, limit):
            yield tenant, page


def check_page(page: Page) -> None:
    """Raise `DamagedRecordError` when a record of the page, read with all dense vectors, fails a checksum."""
    bad = [*page.damaged, *(p.id for p in page.points if p.payload[VECTORS_SHA256] != vectors_digest(p.vectors))]
    if bad:
        raise DamagedRecordError(
            f"record {bad[0]} and perhaps others fail their checksum: `python -m indexer verify` lists them; index those "
            "studies again first"
        )
