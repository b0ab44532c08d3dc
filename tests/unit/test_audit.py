"""Which reads are written down, and what an event says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pytest

from knowledge_base.audit import AuditedStore, asking
from knowledge_base.audit_log import AuditLog, check_chain, read_events
from knowledge_base.bm25 import query_vector
from knowledge_base.cases import to_point
from knowledge_base.errors import StoreUnavailable
from knowledge_base.memory import MemoryStore
from knowledge_base.records import Case, case_id
from knowledge_base.schema import IndexManifest, cases_schema, guidelines_schema, text_vector
from knowledge_base.store import Nearest, Scope

SCHEMA = cases_schema("box@1", "mini@1", box_dimension=4, text_dimension=6)
GUIDANCE = guidelines_schema("mini@1", text_dimension=6)
MANIFEST = IndexManifest("box@1", "mini@1", "film@1", "labeler@1", 4, 6)
WORDS = "small left effusion"


def the_id(study: str, tenant: str) -> UUID:
    return case_id("openi", study, tenant)


OWN, SHARED, FOREIGN = the_id("s1", "isle"), the_id("s1", "public"), the_id("s1", "coast")


@pytest.fixture
def store(tmp_path: Path) -> AuditedStore:
    """One case of isle, one of coast, one public."""
    audited = AuditedStore(MemoryStore(), AuditLog(tmp_path / "log"))
    for schema in (SCHEMA, GUIDANCE):
        audited.open(schema, MANIFEST)
    cases = [Case("openi", "s1", "p1", WORDS, (), tenant=tenant) for tenant in ("isle", "coast", "public")]
    vector = np.arange(1, 7, dtype=np.float32)
    audited.upsert("cases", [to_point(case, SCHEMA, text_vector=vector) for case in cases])
    return audited


@pytest.fixture
def events(tmp_path: Path) -> Callable[[], list[dict[str, Any]]]:
    return lambda: [event for event, _ in read_events(tmp_path / "log")]


def nearest() -> list[Nearest]:
    words = query_vector("effusion")
    assert words is not None
    return [Nearest(text_vector("mini@1"), np.ones(6, np.float32), 5), Nearest("bm25", words, 5)]


def test_a_foreign_record_that_is_given_is_written_down_by_its_id(store: AuditedStore, events: Any) -> None:
    with asking("api", "request-7"):
        fetched = store.get("cases", [OWN, SHARED], Scope("isle"))
    assert [p.id for p in fetched.points] == [OWN, SHARED]
    (event,) = events()
    assert {k: v for k, v in event.items() if k not in {"time", "previous"}} == {
        "sequence": 1, "tenant": "isle", "actor": "api", "request": "request-7", "operation": "get",
        "collection": "cases", "outcome": "given", "ids": [str(SHARED)], "count": 1,
    }  # fmt: skip
    assert WORDS not in str(event)


def test_every_kind_of_read_that_leaves_the_tenants_index_is_an_event(store: AuditedStore, events: Any) -> None:
    scope = Scope("isle")
    store.get("cases", [SHARED], scope)
    store.scroll("cases", scope)
    store.ranked("cases", nearest(), scope)
    store.ids("cases", scope)
    store.count("cases", scope)
    store.facet("cases", "source", scope)
    assert [(e["operation"], e["ids"], e["count"]) for e in events()] == [
        ("get", [str(SHARED)], 1),
        ("scroll", [str(SHARED)], 1),
        ("ranked", [], 4),
        ("ids", [], 2),
        ("count", [], 2),
        ("facet", [], 2),
    ]
    assert {(e["tenant"], e["actor"], e["request"], e["outcome"]) for e in events()} == {("isle", None, None, "given")}


@pytest.mark.parametrize("scope", [Scope("isle", also_public=False), Scope("public")], ids=["own only", "public"])
def test_reads_within_ones_own_index_are_not_events(scope: Scope, store: AuditedStore, events: Any) -> None:
    store.scroll("cases", scope)
    store.ranked("cases", nearest(), scope)
    store.get("cases", store.ids("cases", scope), scope)
    store.count("cases", scope)
    store.facet("cases", "source", scope)
    assert events() == []


def test_what_was_not_there_to_be_read_is_no_event(store: AuditedStore, events: Any) -> None:
    store.get("cases", [OWN], Scope("isle"))
    store.get("guidelines", [uuid4()], Scope("isle"))
    store.count("guidelines", Scope("isle"))
    assert store.scroll("guidelines", Scope("isle")).points == ()
    assert events() == []


def test_a_guessed_id_leaves_an_event_and_it_is_the_same_for_a_foreign_and_an_absent_one(
    store: AuditedStore, events: Any
) -> None:
    nobody = uuid4()
    for guess in (FOREIGN, nobody):
        assert store.get("cases", [guess, guess], Scope("public")).points == ()
    foreign, absent = events()
    assert (foreign["outcome"], foreign["ids"], foreign["count"]) == ("absent", [str(FOREIGN)], 1)
    different = {k for k in foreign if foreign[k] != absent[k]}
    assert different <= {"sequence", "time", "previous", "ids"}


def test_indexing_asks_for_what_is_not_there_without_an_event(store: AuditedStore, events: Any) -> None:
    store.get("cases", [uuid4()], Scope("isle", also_public=False))
    assert events() == []


def test_an_answer_that_cannot_be_written_down_is_not_given(tmp_path: Path, store: AuditedStore) -> None:
    (tmp_path / "log").write_bytes(b"in the way")
    with pytest.raises(StoreUnavailable):
        store.get("cases", [SHARED], Scope("isle"))
    assert store.get("cases", [SHARED], Scope("public")).points


def test_closing_closes_the_store_and_leaves_a_whole_log(tmp_path: Path, store: AuditedStore) -> None:
    store.count("cases", Scope("isle"))
    store.close()
    assert not store.health().ready
    assert (check_chain(tmp_path / "log").events, check_chain(tmp_path / "log").fault) == (1, None)


def test_the_asker_is_forgotten_afterwards(store: AuditedStore, events: Any) -> None:
    with asking("api", "one"), asking("indexer"):
        store.count("cases", Scope("isle"))
    store.count("cases", Scope("isle"))
    assert [(e["actor"], e["request"]) for e in events()] == [("indexer", None), (None, None)]
