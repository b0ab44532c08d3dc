"""Damage, orphans and records out of reach, over all tenants; and the census of what is there."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import numpy as np
import pytest

from knowledge_base.cases import from_payload, to_point
from knowledge_base.census import take_census
from knowledge_base.findings import Polarity
from knowledge_base.memory import MemoryStore
from knowledge_base.records import BoxLatent, Case, CaseSentence, Mention
from knowledge_base.schema import IndexManifest, cases_schema
from knowledge_base.store import Point, seal
from knowledge_base.verification import (
    NO_TEXT_VECTOR,
    REGIONS_WITHOUT_BOX,
    WITHDRAWN_YET_RANKED,
    Verification,
    verify,
)
from knowledge_base.withdrawals import WithdrawalKeeper

SCHEMA = cases_schema("box@1", "mini@1", box_dimension=2, text_dimension=3, region_dimension=2)
MANIFEST = IndexManifest("box@1", "mini@1", "film@1", "labeler@1", 2, 3)


def a_point(number: int, tenant: str = "public", *, box: bool = True, text: bool = True) -> Point:
    mention = Mention("Edema", Polarity.POSITIVE if number % 2 else Polarity.NEGATIVE, (0, 5))
    sentences = (CaseSentence("edema here", (0, 10), "findings", (mention,)),)
    case = Case("openi", f"s{number}", f"p{number}", "edema here", sentences, tenant=tenant)
    latent = BoxLatent(np.ones(2, np.float32), np.ones(2, np.float32)) if box else None
    zones = {"left-upper": np.array([1, 0], np.float32)} if number else None
    words = np.array([1, 0, 0], np.float32) if text else None
    return to_point(case, SCHEMA, box=latent, text_vector=words, regions=zones)


@pytest.fixture
def store() -> MemoryStore:
    inner = MemoryStore()
    WithdrawalKeeper(inner).open(SCHEMA, MANIFEST)
    inner.upsert("cases", [a_point(n, ("public", "isle")[n // 4]) for n in range(8)])
    return inner


def change(store: MemoryStore, identity: UUID, **payload: object) -> None:
    points = store._collections["cases"].points
    points[identity] = replace(points[identity], payload={**points[identity].payload, **payload})


def test_what_is_as_it_was_stored_is_intact(store: MemoryStore) -> None:
    found = verify(store, SCHEMA, from_payload)
    assert found == Verification({"isle": 4, "public": 4}, ())
    assert found.intact


def test_damage_is_found_in_every_tenant(store: MemoryStore) -> None:
    bad, changed, no_case = a_point(5, "isle").id, a_point(2).id, a_point(3).id
    change(store, bad, text="other words")
    points = store._collections["cases"].points
    points[changed] = replace(points[changed], vectors={**points[changed].vectors, "box.box@1": np.ones(4, np.float32)})
    payload = {k: v for k, v in points[no_case].payload.items() if k != "sentences"}
    points[no_case] = replace(points[no_case], payload=seal(payload))
    assert verify(store, SCHEMA).damaged == tuple(sorted([bad, changed]))
    found = verify(store, SCHEMA, from_payload)
    assert found.damaged == tuple(sorted([bad, changed, no_case]))
    assert found.checked == {"isle": 4, "public": 4}
    assert not found.intact


def test_orphans_lack_a_vector_that_is_required(store: MemoryStore) -> None:
    lost, wordless = a_point(20, box=False), a_point(21, text=False)
    store.upsert("cases", [lost, wordless])
    found = verify(store, SCHEMA)
    assert found.orphans == {REGIONS_WITHOUT_BOX: (lost.id,), NO_TEXT_VECTOR: (wordless.id,)}
    assert not found.intact


def test_a_tombstone_whose_case_is_still_ranked_is_named(store: MemoryStore) -> None:
    keeper, gone = WithdrawalKeeper(store), a_point(6, "isle").id
    keeper.set_withdrawn("cases", [gone, a_point(99, "isle").id], "isle")
    assert verify(store, SCHEMA).intact
    change(store, gone, withdrawn=0)
    assert verify(store, SCHEMA).orphans == {WITHDRAWN_YET_RANKED: (gone,)}


def test_records_of_no_tenant_are_out_of_reach(store: MemoryStore) -> None:
    change(store, a_point(1).id, tenant=None)
    assert verify(store, SCHEMA).unreachable == 1


def test_a_census_counts_over_all_tenants(store: MemoryStore) -> None:
    store.set_withdrawn("cases", [a_point(6, "isle").id], "isle")
    census = take_census(store, SCHEMA, ("source", *(f"labels_{p}" for p in Polarity)))
    assert census.as_json() == {"points": 8, "tenants": {"isle": 4, "public": 4}, "withdrawn": 1}
    assert census.facets["source"] == {"openi": 8}
    assert census.findings()["Edema"] == {"positive": 4, "negative": 4, "uncertain": 0}
    assert census.findings()["Fracture"] == {"positive": 0, "negative": 0, "uncertain": 0}
