"""Cases as points and back."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledge_base.bm25 import term_id
from knowledge_base.cases import VectorNames, from_payload, patient_key, to_payload, to_point
from knowledge_base.errors import DamagedRecordError
from knowledge_base.findings import FINDINGS, Laterality, Polarity, Progression
from knowledge_base.records import BoxLatent, Case, CaseSentence, Mention, case_id
from knowledge_base.schema import cases_schema
from knowledge_base.store import intact, seal

SCHEMA = cases_schema("box@1", "mini@1", box_dimension=2, text_dimension=3)
TEXT = "Small left effusion. No edema."
CASE = Case(
    source="openi",
    study="CXR1",
    patient="P1",
    text=TEXT,
    sentences=(
        CaseSentence(
            "Small left effusion.",
            (0, 20),
            "findings",
            (
                Mention(
                    "Pleural Effusion",
                    Polarity.POSITIVE,
                    (11, 19),
                    Laterality.LEFT,
                    "base",
                    "small",
                    Progression.STABLE,
                ),
            ),
        ),
        CaseSentence("No edema.", (21, 30), "impression", (Mention("Edema", Polarity.NEGATIVE, (24, 29)),)),
    ),
    view="PA",
    age_years=61,
    film="1.png",
)


def test_the_payload_of_a_case() -> None:
    assert to_payload(CASE) == {
        "tenant": "public",
        "source": "openi",
        "study": "CXR1",
        "patient": "P1",
        "patient_key": '["openi", "P1"]',
        "text": TEXT,
        "sentences": [
            [
                0,
                20,
                "findings",
                [["Pleural Effusion", "positive", 11, 19, "left", "base", "small", "stable"]],
            ],
            [21, 30, "impression", [["Edema", "negative", 24, 29]]],
        ],
        "labels_positive": ["Pleural Effusion"],
        "labels_negative": ["Edema"],
        "labels_uncertain": [],
        "view": "PA",
        "age": 61,
        "film": "1.png",
        "withdrawn": 0,
        "sha256": "a0b81f218904adda9c62672ccc85e17ad18942e3a8c503d6e14b4cb74d861929",
    }


def test_a_case_comes_back_through_json() -> None:
    assert from_payload(json.loads(json.dumps(to_payload(CASE)))) == CASE


def test_a_point_carries_box_meaning_and_words() -> None:
    box = BoxLatent(np.array([1, 2], np.float32), np.array([3, 6], np.float32))
    point = to_point(CASE, SCHEMA, box=box, text_vector=np.array([1, 0, 0], np.float32))
    assert point.id == case_id("openi", "CXR1") == CASE.id
    assert point.vectors["box.box@1"].tolist() == pytest.approx([1.0, 2.0, 3**0.5, 2 * 3**0.5])
    assert point.vectors["text.mini@1"].tolist() == [1.0, 0.0, 0.0]
    assert term_id("effusion") in point.sparse["bm25"].indices.tolist()
    names = VectorNames.of(SCHEMA)
    assert (names.box, names.text, names.sparse) == ("box.box@1", "text.mini@1", "bm25")
    assert names.regions["left-lower"] == "region.left-lower.box@1"
    assert len(names.regions) == 7


def test_a_case_without_film_or_words_still_is_a_point() -> None:
    point = to_point(Case("openi", "CXR2", "P2", "...", ()), SCHEMA, text_vector=np.ones(3, np.float32))
    assert (list(point.vectors), dict(point.sparse)) == (["text.mini@1"], {})


@pytest.mark.parametrize(
    "change",
    [
        {"text": TEXT.replace("left", "righ")},
        {"tenant": "isle"},
        {"labels_positive": []},
        {"sentences": []},
        {"sha256": "0" * 64},
        {"more": 1},
    ],
)
def test_any_change_of_a_sealed_payload_is_damage(change: dict[str, object]) -> None:
    with pytest.raises(DamagedRecordError, match="checksum"):
        from_payload({**to_payload(CASE), **change})


def test_a_missing_key_or_checksum_is_damage() -> None:
    payload = to_payload(CASE)
    for key in set(payload) - {"withdrawn"}:
        with pytest.raises(DamagedRecordError):
            from_payload({k: v for k, v in payload.items() if k != key})


def test_withdrawing_does_not_break_the_seal() -> None:
    withdrawn = {**to_payload(CASE), "withdrawn": 1}
    assert intact(withdrawn)
    assert from_payload(withdrawn).withdrawn is True


@pytest.mark.parametrize(
    "change",
    [
        {"sentences": [[0, 20]]},
        {"sentences": [[0, 20, "findings", [["Pleural Effusion", "perhaps", 11, 19]]]]},
        {"sentences": [[0, 20, "findings", [["Hiccups", "positive", 11, 19]]]]},
        {"sentences": [[0, 20, "findings", [["Edema", "positive", 19, 11]]]]},
        {"sentences": 7},
        {"source": ""},
    ],
)
def test_a_sealed_payload_that_is_no_case_is_damage_too(change: dict[str, object]) -> None:
    with pytest.raises(DamagedRecordError, match="no case"):
        from_payload(seal({**to_payload(CASE), **change}))


def test_patients_of_two_sources_are_two() -> None:
    assert patient_key("a", "b") != patient_key("a, b", "")
    assert patient_key("openi", "患者") == '["openi", "患者"]'


MENTIONS = st.builds(
    Mention,
    finding=st.sampled_from(FINDINGS),
    polarity=st.sampled_from(Polarity),
    span=st.tuples(st.integers(0, 5), st.integers(6, 9)),
    laterality=st.none() | st.sampled_from(Laterality),
    location=st.none() | st.text(min_size=1, max_size=5),
    severity=st.none() | st.text(min_size=1, max_size=5),
    progression=st.none() | st.sampled_from(Progression),
)


@given(st.text(min_size=9, max_size=30), st.lists(MENTIONS, max_size=4), st.none() | st.integers(0, 120), st.booleans())
def test_every_case_survives_storage(text: str, mentions: list[Mention], age: int | None, withdrawn: bool) -> None:
    sentence = CaseSentence(text[2:7], (2, 7), "findings", tuple(mentions))
    case = Case("nih", "1", "2", text, (sentence,), "isle", None, "F", age, None, withdrawn)
    assert from_payload(json.loads(json.dumps(to_payload(case)))) == case
