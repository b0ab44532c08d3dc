"""Collections and the manifests that bind them to models."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import pytest

from knowledge_base.errors import ManifestMismatch, StoreProtocolError
from knowledge_base.schema import (
    CollectionSchema,
    DenseVector,
    Distance,
    IndexKind,
    IndexManifest,
    TermWeights,
    cases_schema,
    guidelines_schema,
)

MANIFEST = IndexManifest("boxlatent@1", "minilm@2", "film@3", "0123456789abcdef", 128, 384)


def test_the_cases_collection() -> None:
    schema = cases_schema("boxlatent@1", "minilm@2")
    assert schema.name == "cases"
    assert schema.dense == {
        "box.boxlatent@1": DenseVector(256, Distance.EUCLID),
        "text.minilm@2": DenseVector(384, Distance.COSINE),
        "region.right-upper.boxlatent@1": DenseVector(64, Distance.COSINE),
        "region.right-middle.boxlatent@1": DenseVector(64, Distance.COSINE),
        "region.right-lower.boxlatent@1": DenseVector(64, Distance.COSINE),
        "region.left-upper.boxlatent@1": DenseVector(64, Distance.COSINE),
        "region.left-middle.boxlatent@1": DenseVector(64, Distance.COSINE),
        "region.left-lower.boxlatent@1": DenseVector(64, Distance.COSINE),
        "region.mediastinum.boxlatent@1": DenseVector(64, Distance.COSINE),
    }
    assert schema.sparse == {"bm25": TermWeights(k1=1.2, b=0.75, average_terms=30.0)}
    assert {k for k, v in schema.payload_indexes.items() if v is IndexKind.KEYWORD} == {
        "tenant",
        "source",
        "study",
        "patient_key",
        "view",
        "labels_positive",
        "labels_negative",
        "labels_uncertain",
    }
    assert schema.payload_indexes["withdrawn"] is IndexKind.INTEGER


def test_the_guidelines_collection() -> None:
    schema = guidelines_schema("minilm@2", text_dimension=6)
    assert (schema.name, list(schema.dense), schema.dense["text.minilm@2"].size) == ("guidelines", ["text.minilm@2"], 6)
    assert schema.payload_indexes["findings"] is IndexKind.KEYWORD
    assert schema.payload_indexes["year"] is IndexKind.INTEGER


def test_a_layout_survives_json() -> None:
    schema = cases_schema("boxlatent@1", "minilm@2")
    schema.check(json.loads(json.dumps(schema.as_json())))
    with pytest.raises(ManifestMismatch) as caught:
        cases_schema("boxlatent@1", "minilm@3").check(schema.as_json())
    assert (caught.value.field, caught.value.collection) == ("dense", "cases")


@pytest.mark.parametrize("name", ["", "a/b", "../x", "-x", "a b", "x" * 101])
def test_names_that_would_not_be_safe_as_folders_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="cannot name"):
        replace(guidelines_schema("minilm@2"), name=name)


def test_a_collection_that_could_not_hold_tenants_apart_is_refused() -> None:
    dense = {"text.minilm@2": DenseVector(384, Distance.COSINE)}
    with pytest.raises(ValueError, match="every collection indexes 'tenant'"):
        CollectionSchema("x", dense, {}, {"withdrawn": IndexKind.INTEGER})
    with pytest.raises(ValueError, match="every collection indexes 'withdrawn'"):
        CollectionSchema("x", dense, {}, {"tenant": IndexKind.KEYWORD, "withdrawn": IndexKind.KEYWORD})
    with pytest.raises(ValueError, match="share a name"):
        replace(guidelines_schema("minilm@2"), sparse={"text.minilm@2": TermWeights()})
    with pytest.raises(ValueError, match="at least 1"):
        DenseVector(0, Distance.COSINE)


def test_names_are_looked_up() -> None:
    schema = cases_schema("boxlatent@1", "minilm@2")
    schema.check_dense(["box.boxlatent@1"])
    schema.check_facet("labels_positive")
    with pytest.raises(ValueError, match=r"no dense vectors named \['bm25'\]"):
        schema.check_dense(["bm25"])
    with pytest.raises(ValueError, match="does not index 'withdrawn' as a keyword"):
        schema.check_facet("withdrawn")


def test_a_manifest_survives_json_and_agrees_with_itself() -> None:
    stored = IndexManifest.from_json(json.loads(json.dumps(MANIFEST.as_json())))
    assert stored == MANIFEST
    stored.check(MANIFEST)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("box_model", "boxlatent@2"),
        ("text_model", "biolord@1"),
        ("preprocessing", "film@4"),
        ("labeler", "ffff56789abcdef0"),
        ("box_dimension", 64),
        ("text_dimension", 768),
        ("schema_version", 3),
    ],
)
def test_every_difference_is_named_with_its_remedy(field: str, value: object) -> None:
    with pytest.raises(ManifestMismatch, match="python -m indexer migrate") as caught:
        MANIFEST.check(replace(MANIFEST, **{field: value}))  # type: ignore[arg-type]
    assert (caught.value.field, caught.value.running) == (field, value)
    assert caught.value.stored == getattr(MANIFEST, field)


def test_every_field_of_the_manifest_is_compared() -> None:
    parameters = test_every_difference_is_named_with_its_remedy.pytestmark[0].args[1]  # type: ignore[attr-defined]
    assert {name for name, _ in parameters} == {f.name for f in fields(IndexManifest)}


@pytest.mark.parametrize("maker", ["minilm", "minilm@", "@2", "mini lm@2", "0123", "A" * 64])
def test_a_maker_without_a_version_is_refused(maker: str) -> None:
    with pytest.raises(ValueError, match="name@version or a hex digest"):
        replace(MANIFEST, text_model=maker)


def test_a_box_model_comes_with_its_dimension() -> None:
    with pytest.raises(ValueError, match="together"):
        replace(MANIFEST, box_dimension=None)
    replace(MANIFEST, box_model=None, box_dimension=None)


@pytest.mark.parametrize("stored", [{}, {**MANIFEST.as_json(), "more": 1}])
def test_a_manifest_with_other_keys_is_not_ours(stored: dict[str, object]) -> None:
    with pytest.raises(StoreProtocolError):
        IndexManifest.from_json(stored)
