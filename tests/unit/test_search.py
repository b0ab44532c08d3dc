"""Hybrid search over cases."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from knowledge_base.cases import VectorNames, to_point
from knowledge_base.errors import StoreUnavailable
from knowledge_base.findings import FINDINGS, Polarity
from knowledge_base.memory import MemoryStore
from knowledge_base.records import BoxLatent, Case, CaseSentence, Mention, RecordError
from knowledge_base.schema import IndexManifest, cases_schema
from knowledge_base.search import CaseQuery, CaseSearch
from knowledge_base.store import Between, Filter, HasId, Match, MatchAny, Nearest, Scope, SparseVector

SCHEMA = cases_schema("box@1", "mini@1", box_dimension=2, text_dimension=3)
MANIFEST = IndexManifest("box@1", "mini@1", "film@1", "labeler@1", 2, 3)


def box(x: float, y: float = 0.0, radius: float = 1.0) -> BoxLatent:
    return BoxLatent(np.array([x, y], np.float32), np.full(2, radius, np.float32))


def meaning(*values: float) -> NDArray[np.float32]:
    return np.array(values, np.float32)


def a_case(study: str, text: str, finding: str | None, *, patient: str = "", tenant: str = "public") -> Case:
    mentions = () if finding is None else (Mention(finding, Polarity.POSITIVE, (0, 1)),)
    sentences = (CaseSentence(text, (0, len(text)), "findings", mentions),)
    return Case("openi", study, patient or f"p-{study}", text, sentences, tenant)


@pytest.fixture
def search() -> CaseSearch:
    store = MemoryStore()
    store.open(SCHEMA, MANIFEST)
    rows = [
        (a_case("near", "clear lungs", "Edema", patient="p"), box(0.0), meaning(0, 1, 0)),
        (a_case("mid", "small effusion", "Pleural Effusion"), box(2.0), meaning(1, 1, 0)),
        (a_case("far", "large effusion", "Pleural Effusion", patient="p"), box(9.0), meaning(1, 0, 0)),
        (a_case("other", "effusion", "Pleural Effusion", tenant="coast"), box(0.0), meaning(1, 0, 0)),
    ]
    store.upsert("cases", [to_point(c, SCHEMA, box=b, text_vector=v) for c, b, v in rows])
    store.upsert("cases", [to_point(a_case("filmless", "effusion", None), SCHEMA)])
    return CaseSearch(store, VectorNames.of(SCHEMA))


def studies(search: CaseSearch, query: CaseQuery) -> list[str]:
    return [h.case.study for h in search.search(query).hits]


def test_lists_are_fused_and_explained(search: CaseSearch) -> None:
    found = search.search(CaseQuery("isle", box=box(0.0), text_vector=meaning(1, 0, 0), text="effusion"))
    ranks = {h.case.study: dict(h.ranks) for h in found.hits}
    assert ranks == {
        "near": {"box": 1, "text": 3},
        "mid": {"box": 2, "text": 2, "bm25": ranks["mid"]["bm25"]},
        "far": {"box": 3, "text": 1, "bm25": ranks["far"]["bm25"]},
        "filmless": {"bm25": 1},
    }
    assert {ranks["mid"]["bm25"], ranks["far"]["bm25"]} == {2, 3}
    for hit in found.hits:
        weights = {"box": 1, "text": 2, "bm25": 0.5}
        assert hit.score == pytest.approx(sum(weights[name] / (60 + r) for name, r in hit.ranks.items()))
    assert [h.score for h in found.hits] == sorted((h.score for h in found.hits), reverse=True)
    assert found.damaged == 0


def test_boxes_are_compared_with_the_one_asked_for(search: CaseSearch) -> None:
    hits = {h.case.study: h for h in search.search(CaseQuery("isle", box=box(0.0), text="effusion clear")).hits}
    assert (hits["near"].w2, hits["near"].box_overlap) == (0.0, pytest.approx(1.0))
    assert (hits["mid"].w2, hits["mid"].box_overlap) == (pytest.approx(2.0), pytest.approx((0.0 + 1.0) / 2))
    assert (hits["filmless"].w2, hits["filmless"].box_overlap) == (None, None)
    assert all(h.w2 is None for h in search.search(CaseQuery("isle", text="effusion")).hits)


def test_tenants_patients_studies_and_findings_are_kept_out_of_every_list(search: CaseSearch) -> None:
    everything = {"box": box(0.0), "text_vector": meaning(1, 0, 0), "text": "effusion clear"}
    assert sorted(studies(search, CaseQuery("coast", **everything))) == ["far", "filmless", "mid", "near", "other"]
    assert sorted(studies(search, CaseQuery("isle", **everything))) == ["far", "filmless", "mid", "near"]
    assert sorted(studies(search, CaseQuery("isle", **everything, exclude_patient=("openi", "p")))) == [
        "filmless",
        "mid",
    ]
    assert sorted(studies(search, CaseQuery("isle", **everything, exclude_patient=("nih", "p")))) == [
        "far",
        "filmless",
        "mid",
        "near",
    ]
    assert "other" not in studies(search, CaseQuery("coast", **everything, exclude_study=("openi", "other")))
    effusion = CaseQuery("isle", **everything, finding=("Pleural Effusion", Polarity.POSITIVE), limit=1, prefetch=1)
    assert studies(search, effusion) in (["mid"], ["far"])
    assert studies(search, CaseQuery("isle", **everything, finding=("Edema", Polarity.NEGATIVE))) == []


def test_a_withdrawn_case_is_no_precedent(search: CaseSearch) -> None:
    query = CaseQuery("isle", box=box(0.0), limit=1)
    near = search.search(query).hits[0].case
    search._store.set_withdrawn("cases", [near.id], "public")
    assert studies(search, query) == ["mid"]
    assert search.coverage("isle")["Edema"] == 0


def test_coverage_counts_what_the_tenant_may_see(search: CaseSearch) -> None:
    expected = dict.fromkeys(FINDINGS, 0) | {"Edema": 1, "Pleural Effusion": 2}
    assert search.coverage("isle") == expected
    assert list(search.coverage("isle")) == list(FINDINGS)
    assert search.coverage("coast")["Pleural Effusion"] == 3


def test_words_that_say_nothing_find_nothing(search: CaseSearch) -> None:
    assert search.search(CaseQuery("isle", text="of the")).hits == ()


def test_a_closed_store_is_not_an_empty_answer(search: CaseSearch) -> None:
    search._store.close()
    with pytest.raises(StoreUnavailable):
        search.search(CaseQuery("isle", text="effusion"))


def test_the_filter_of_a_query() -> None:
    query = CaseQuery("isle", text="x", exclude_patient=("a", "b"), finding=("Edema", Polarity.UNCERTAIN))
    assert query.filter() == Filter(
        must=(Match("labels_uncertain", "Edema"),),
        must_not=(Match("withdrawn", 1), Match("patient_key", '["a", "b"]')),
    )
    assert query.scope == Scope("isle")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({}, "needs a box"),
        ({"text": ""}, "needs a box"),
        ({"text": "x", "limit": 0}, "limit"),
        ({"text": "x", "limit": 51}, "limit"),
        ({"text": "x", "finding": ("Hiccups", Polarity.POSITIVE)}, "unknown finding"),
    ],
)
def test_queries_that_contradict_themselves(arguments: dict[str, object], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        CaseQuery("isle", **arguments)  # type: ignore[arg-type]


def test_scopes_and_conditions_check_themselves() -> None:
    assert Scope("isle").condition() == MatchAny("tenant", ("isle", "public"))
    assert Scope("public").condition() == MatchAny("tenant", ("public",))
    with pytest.raises(ValueError, match="needs a tenant"):
        Scope("")
    with pytest.raises(TypeError, match="0 or 1"):
        Match("withdrawn", True)
    with pytest.raises(ValueError, match="no value passes"):
        MatchAny("view", ())
    with pytest.raises(ValueError, match="without bounds"):
        Between("year")
    with pytest.raises(ValueError, match=r"1\.\.10000"):
        Nearest("bm25", meaning(1, 0, 0), 0)
    assert HasId(()).ids == ()


@pytest.mark.parametrize(
    ("indices", "values", "reason"),
    [
        ([], [], "at least one"),
        ([1, 2], [1.0], "at least one"),
        ([2, 1], [1.0, 1.0], "ascend"),
        ([1, 1], [1.0, 1.0], "ascend"),
        ([1], [np.nan], "finite"),
    ],
)
def test_sparse_vectors_check_themselves(indices: list[int], values: list[float], reason: str) -> None:
    with pytest.raises(RecordError, match=reason):
        SparseVector(np.array(indices, np.uint32), np.array(values, np.float32))
    with pytest.raises(RecordError, match="uint32"):
        SparseVector(np.array([1]), np.array([1.0]))
