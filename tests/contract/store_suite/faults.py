"""What is refused, what is damaged, what belongs to other models."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from knowledge_base.cases import VectorNames
from knowledge_base.errors import CollectionMissing, ManifestMismatch, StoreUnavailable
from knowledge_base.records import RecordError
from knowledge_base.schema import DenseVector, Distance, TermWeights
from knowledge_base.search import CaseQuery, CaseSearch
from knowledge_base.store import Filter, Match, Nearest
from knowledge_base.verification import verify
from tests.contract.store_suite.rigs import Rig, StoreSuite
from tests.contract.store_suite.samples import BOX, MANIFEST, PUBLIC_ONLY, REGIONS, a_point, words


class RefusalSuite(StoreSuite):
    """Bad points and bad questions; nothing of a refused call is stored."""

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    @pytest.mark.parametrize("name", [BOX, REGIONS["mediastinum"]])
    def test_a_vector_that_is_not_finite_is_refused(self, rig: Rig, name: str, bad: float) -> None:
        good, spoiled = a_point(0, rig.schema), a_point(1, rig.schema, regions=True)
        vector = spoiled.vectors[name].copy()
        vector[3] = bad
        with pytest.raises(RecordError, match="not finite"):
            rig.store.upsert(rig.name, [good, replace(spoiled, vectors={name: vector})])
        assert rig.store.count(rig.name, PUBLIC_ONLY) == 0
        with pytest.raises(RecordError, match="not finite"):
            rig.store.ranked(rig.name, [Nearest(name, vector, 5)], PUBLIC_ONLY)

    def test_malformed_points_are_refused(self, rig: Rig) -> None:
        point = a_point(0, rig.schema)
        refused = {
            "zero": replace(point, vectors={BOX: np.zeros(8, np.float32)}),
            r"wants \(8,\)": replace(point, vectors={BOX: np.ones(7, np.float32)}),
            r"no vectors named \['box.other@1'\]": replace(point, vectors={"box.other@1": np.ones(8, np.float32)}),
            "no vector": replace(point, vectors={}, sparse={}),
            "names no tenant": replace(point, payload={"text": "x"}),
            "is not JSON": replace(point, payload={**point.payload, "film": object()}),
        }
        for reason, bad in refused.items():
            with pytest.raises(RecordError, match=reason):
                rig.store.upsert(rig.name, [a_point(1, rig.schema), bad])
        assert rig.store.count(rig.name, PUBLIC_ONLY) == 0

    def test_malformed_questions_are_refused(self, rig: Rig) -> None:
        with pytest.raises(RecordError, match="no dense vector 'bm25'"):
            rig.store.ranked(rig.name, [Nearest("bm25", np.ones(8, np.float32), 5)], PUBLIC_ONLY)
        with pytest.raises(RecordError, match="no sparse vector"):
            rig.store.ranked(rig.name, [Nearest(BOX, words("heart"), 5)], PUBLIC_ONLY)
        with pytest.raises(ValueError, match="no dense vectors"):
            rig.store.get(rig.name, [a_point(0, rig.schema).id], PUBLIC_ONLY, ["nothing"])
        with pytest.raises(ValueError, match="no index on 'text'"):
            rig.store.count(rig.name, PUBLIC_ONLY, Filter(must=(Match("text", "x"),)))


class DamageSuite(StoreSuite):
    """Records changed behind the checksum."""

    def test_a_damaged_record_is_withheld_counted_and_named(self, rig: Rig) -> None:
        points = [a_point(n, rig.schema) for n in range(4)]
        rig.store.upsert(rig.name, points)
        assert verify(rig.store, rig.schema).intact
        rig.spoil(points[2].id, {"text": "large right pneumothorax"})
        fetched = rig.store.get(rig.name, [p.id for p in points], PUBLIC_ONLY)
        assert [p.id for p in fetched.points] == [points[0].id, points[1].id, points[3].id]
        assert fetched.damaged == (points[2].id,)
        assert rig.store.scroll(rig.name, PUBLIC_ONLY).damaged == (points[2].id,)
        report = verify(rig.store, rig.schema)
        assert (report.checked, report.damaged, report.intact) == ({"public": 4}, (points[2].id,), False)

    def test_a_search_goes_on_without_the_damaged_record(self, rig: Rig) -> None:
        points = sorted((a_point(n, rig.schema) for n in range(4)), key=lambda p: p.id)
        rig.store.upsert(rig.name, points)
        rig.spoil(points[0].id, {"labels_positive": ["Fracture"]})
        search = CaseSearch(rig.store, VectorNames.of(rig.schema), collection=rig.name)
        found = search.search(CaseQuery("isle", text="effusion", limit=3))
        assert found.damaged == 1
        assert {h.case.id for h in found.hits} == {points[1].id, points[2].id, points[3].id}

    def test_a_vector_changed_behind_the_checksum_is_found(self, rig: Rig) -> None:
        points = [a_point(n, rig.schema) for n in range(3)]
        rig.store.upsert(rig.name, points)
        stale = rig.store.get(rig.name, [points[0].id], PUBLIC_ONLY).points[0].payload
        rig.store.upsert(rig.name, [replace(points[0], vectors={BOX: np.ones(8, np.float32)})])
        fresh = rig.store.get(rig.name, [points[0].id], PUBLIC_ONLY).points[0].payload
        changed = {k: stale[k] for k in ("vectors_sha256", "sha256") if stale[k] != fresh[k]}
        rig.spoil(points[0].id, changed)
        assert set(changed) == {"vectors_sha256", "sha256"}
        assert verify(rig.store, rig.schema).damaged == (points[0].id,)


class OpeningSuite(StoreSuite):
    """Which collections may be opened, and what an absent or closed one says."""

    def test_other_models_or_another_layout_are_an_error_that_names_the_remedy(self, rig: Rig) -> None:
        newer = replace(MANIFEST, text_model="mini@2")
        with pytest.raises(ManifestMismatch, match=r"text_model mini@1, this program runs mini@2") as caught:
            rig.store.open(rig.schema, newer)
        assert caught.value.field == "text_model"
        assert caught.value.remedy in str(caught.value)
        dense = {**rig.schema.dense, BOX: DenseVector(10, Distance.EUCLID)}
        with pytest.raises(ManifestMismatch) as caught:
            rig.store.open(replace(rig.schema, dense=dense), MANIFEST)
        assert caught.value.field == "dense"
        with pytest.raises(ManifestMismatch) as caught:
            rig.store.open(replace(rig.schema, sparse={"bm25": TermWeights(average_terms=99.0)}), MANIFEST)
        assert caught.value.field == "sparse"
        rig.store.open(rig.schema, MANIFEST)
        assert rig.store.manifest(rig.name) == MANIFEST
        assert rig.store.manifest("guidelines") is None

    def test_a_collection_nobody_opened_is_missing(self, rig: Rig) -> None:
        with pytest.raises(CollectionMissing, match="python -m indexer add"):
            rig.store.count("guidelines", PUBLIC_ONLY)
        with pytest.raises(CollectionMissing):
            rig.store.upsert("guidelines", [])

    def test_a_closed_store_is_unavailable(self, rig: Rig) -> None:
        assert rig.store.health().collections == {rig.name: 0}
        rig.store.close()
        rig.store.close()
        assert not rig.store.health().ready
        with pytest.raises(StoreUnavailable):
            rig.store.count(rig.name, PUBLIC_ONLY)
