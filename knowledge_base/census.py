"""What a collection holds, in numbers: for the operator, who may see no record."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, Final

from knowledge_base.findings import FINDINGS, Polarity
from knowledge_base.schema import WITHDRAWN, CollectionSchema
from knowledge_base.store import Filter, KnowledgeStore, Match, Scope

_WITHDRAWN: Final = Filter(must=(Match(WITHDRAWN, 1),))


@dataclass(frozen=True)
class Census:
    """Records by tenant, those withdrawn, and counts of every indexed keyword that `facets` names, by value."""

    tenants: dict[str, int]
    withdrawn: int
    facets: dict[str, dict[str, int]]

    @property
    def points(self) -> int:
        """All records."""
        return sum(self.tenants.values())

    def findings(self) -> dict[str, dict[str, int]]:
        """Finding -> polarity -> cases."""
        by_polarity = {p.value: self.facets[f"labels_{p}"] for p in Polarity}
        return {f: {p: counts.get(f, 0) for p, counts in by_polarity.items()} for f in FINDINGS}

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"points": self.points, "tenants": self.tenants, "withdrawn": self.withdrawn}


def take_census(store: KnowledgeStore, schema: CollectionSchema, facets: tuple[str, ...] = ()) -> Census:
    """Count an open collection over all its tenants. Raises what the store raises."""
    tenants = store.tenants(schema.name)
    scopes = [Scope(tenant, also_public=False) for tenant in tenants]
    counted = {key: sum((Counter(store.facet(schema.name, key, s)) for s in scopes), Counter()) for key in facets}
    withdrawn = sum(store.count(schema.name, scope, _WITHDRAWN) for scope in scopes)
    return Census(tenants, withdrawn, {key: dict(sorted(values.items())) for key, values in counted.items()})
