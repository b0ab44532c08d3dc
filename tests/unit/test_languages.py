"""Drafts in Spanish and Japanese: every sentence that can be made, read back, and whole drafts aligned with the English ones."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import Any, Final

import pytest

from knowledge_base.case_sentences import Wanted
from knowledge_base.findings import FINDINGS, NO_FINDING, Laterality, Polarity, Progression
from rag_service.calibration import Confidence, Tier
from rag_service.conformal import Presence
from rag_service.imaging.film import Box
from rag_service.report import cues, phrases_es, phrases_ja
from rag_service.report.change import State
from rag_service.report.draft import (
    Answer,
    Citation,
    Comparison,
    CounterEvidence,
    Coverage,
    Draft,
    Finding,
    NotAssessed,
    Provenance,
    Status,
    Uncertainty,
)
from rag_service.report.languages import PHRASES, findings_in, in_language, named
from rag_service.report.said import Said
from rag_service.requests import Language

ES, JA = Language.ES, Language.JA
POSITIVE, NEGATIVE, UNCERTAIN = Polarity.POSITIVE, Polarity.NEGATIVE, Polarity.UNCERTAIN
LEFT, RIGHT, BOTH = Laterality.LEFT, Laterality.RIGHT, Laterality.BILATERAL
SAYABLE = [f for f in FINDINGS if f != NO_FINDING]
ALIKE: Final = frozenset({"edema", "bilateral", "base", "superior", "vena", "cava", "pleural", "no", "a"})
"""Words that English and Spanish spell alike."""


def every() -> Iterator[Said]:
    """Every finding x polarity x side x place, once with every degree and once with every change, which a sentence ends with."""
    for what in product(SAYABLE, Polarity, (None, *Laterality), (None, *cues.LOCATIONS)):
        yield from (Said(*what, degree) for degree in (None, *cues.SEVERITIES))
        yield from (Said(*what, None, change) for change in State)


MADE: Final = 13 * 3 * 4 * 25 * (13 + 5)


def english_words() -> set[str]:
    """The words of which English drafts are built: names of findings, sides, places, degrees, changes, and fixed phrases."""
    phrases = (
        *FINDINGS, *Laterality, *cues.LOCATIONS, *cues.SEVERITIES, *State, *Polarity, "no", "possible", "evidence of", "look for",
        "not assessed", "no finding reached its threshold", "there is", "the", "and", "in", "with", "only cases of here",
        "since the prior film", "larger smaller more less extensive than on",
    )  # fmt: skip
    return set(re.findall(r"[a-z]+", " ".join(phrases).lower())) - ALIKE


ENGLISH = english_words()


SPANISH_SIDES: Final = re.compile(r"\b(?:(derech[oa])|(izquierd[oa])|(bilateral|amb[oa]s))\b")


def read_spanish(text: str) -> tuple[Polarity, Laterality | None]:
    """Polarity and side from the words alone; the right atrium is no side."""
    found = SPANISH_SIDES.findall(text.replace("aurícula derecha", ""))
    assert len(found) <= 1, text
    polarity = NEGATIVE if text.startswith("No se observa ") else UNCERTAIN if text.startswith("Posible ") else POSITIVE
    return polarity, next(
        (s for s, word in zip((RIGHT, LEFT, BOTH), found[0], strict=True) if word), None
    ) if found else None


def read_japanese(text: str) -> tuple[Polarity, Laterality | None]:
    """Polarity from the verb, which ends the clause, and side from the first character that names one."""
    clause = text.partition("、")[0].rstrip("。").replace("右房", "")
    negative, uncertain = clause.endswith(("認めない", "認めず")), clause.endswith(("疑われる", "疑われ"))
    found = [side for side, word in phrases_ja.SIDES.items() if word in clause]
    assert len(found) <= 1, text
    assert negative or uncertain or clause.endswith(("認める", "認め")), text
    return NEGATIVE if negative else UNCERTAIN if uncertain else POSITIVE, found[0] if found else None


def test_every_spanish_sentence_reads_back_and_no_two_findings_sound_alike() -> None:
    heard = set()
    for said in every():
        text = phrases_es.sentence(said)
        assert read_spanish(text) == (said.polarity, said.laterality), text
        assert text[0].isupper()
        assert text.endswith(".")
        heard.add(text)
    assert len(heard) == MADE


def test_every_japanese_sentence_reads_back_and_no_two_findings_sound_alike() -> None:
    heard = set()
    for said in every():
        text = phrases_ja.sentence(said)
        assert read_japanese(text) == (said.polarity, said.laterality), text
        assert text.endswith("。")
        heard.add(text)
    assert len(heard) == MADE
    assert not re.search(r"[A-Za-z]", "".join(heard))


def test_no_english_word_is_left_in_spanish() -> None:
    """Places, degrees and changes come one at a time: a sentence joins their words and adds none."""
    parts = (
        Said(f, p, s, place, degree, change)
        for f, p, s in product(SAYABLE, Polarity, (None, *Laterality))
        for place, degree, change in (
            *((place, None, None) for place in cues.LOCATIONS),
            *((None, degree, None) for degree in cues.SEVERITIES),
            *((None, None, change) for change in State),
        )
    )
    words = {w for said in parts for w in re.findall(r"[a-zñáéíóúü]+", phrases_es.sentence(said).lower())}
    assert len(words) > 90
    assert words & ENGLISH == set()


@pytest.mark.parametrize(
    ("said", "spanish", "japanese"),
    [
        (
            Said("Pleural Effusion", POSITIVE, RIGHT, None, "small"),
            "Derrame pleural derecho pequeño.",
            "右胸水を少量認める。",
        ),
        (Said("Pneumothorax", NEGATIVE), "No se observa neumotórax.", "気胸は認めない。"),
        (
            Said("Pneumonia", UNCERTAIN, RIGHT, "lower lobe"),
            "Posible neumonía en el lóbulo inferior derecho.",
            "右下葉に肺炎が疑われる。",
        ),
        (
            Said("Consolidation", UNCERTAIN, LEFT, "lower zone"),
            "Posible consolidación en el campo pulmonar inferior izquierdo.",
            "左下肺野に浸潤影が疑われる。",
        ),
        (
            Said("Atelectasis", POSITIVE, BOTH, "base", "mild", State.IMPROVED),
            "Atelectasia leve en ambas bases pulmonares, menos extensa que en la radiografía previa.",
            "両側肺底部に軽度の無気肺を認め、前回写真と比較して改善している。",
        ),
        (
            Said("Pleural Effusion", POSITIVE, LEFT, None, "massive", State.WORSENED),
            "Derrame pleural izquierdo masivo, de mayor tamaño que en la radiografía previa.",
            "左胸水を大量に認め、前回写真と比較して増加している。",
        ),
        (
            Said("Pleural Effusion", UNCERTAIN, BOTH, None, "large"),
            "Posible derrame pleural bilateral grande.",
            "多量の両側胸水が疑われる。",
        ),
        (
            Said("Cardiomegaly", POSITIVE, None, None, "moderate", State.STABLE),
            "Cardiomegalia moderada, sin cambios respecto a la radiografía previa.",
            "中等度の心拡大を認め、前回写真と比較して不変である。",
        ),
        (
            Said("Pneumothorax", NEGATIVE, change=State.RESOLVED),
            "No se observa neumotórax, resuelto respecto a la radiografía previa.",
            "気胸は認めず、前回写真と比較して消失している。",
        ),
        (
            Said("Lung Lesion", POSITIVE, RIGHT, "upper lobe", None, State.WORSENED),
            "Lesión pulmonar en el lóbulo superior derecho, de mayor tamaño que en la radiografía previa.",
            "右上葉に結節または腫瘤を認め、前回写真と比較して増大している。",
        ),
        (
            Said("Atelectasis", POSITIVE, LEFT, "retrocardiac"),
            "Atelectasia izquierda en la región retrocardíaca.",
            "心陰影背側に左側の無気肺を認める。",
        ),
        (Said("Fracture", POSITIVE, RIGHT), "Fractura derecha.", "右側に骨折を認める。"),
        (Said("Consolidation", POSITIVE, LEFT), "Consolidación izquierda.", "左肺に浸潤影を認める。"),
        (
            Said("Support Devices", POSITIVE, None, "right atrium"),
            "Dispositivo de soporte en la aurícula derecha.",
            "右房に留置デバイスを認める。",
        ),
    ],
)
def test_sentences_word_for_word(said: Said, spanish: str, japanese: str) -> None:
    assert (phrases_es.sentence(said), phrases_ja.sentence(said)) == (spanish, japanese)


BOX = Box(0.1, 0.6, 0.4, 0.9)
CITED = Citation("case", "12345678-rest", "Small right effusion.", (10, 31), 0.9, entails=True)
COUNTER = CounterEvidence("87654321-rest", 0.5, "No effusion.", (10, 22))
COMPARED = Comparison("worsened", 0.8, 0.6, (BOX,))
PROVENANCE = Provenance("m@1", "p@1", "i", "k", "t", 20260, "f")


def finding(label: str, polarity: Polarity, sentence: str, **more: Any) -> Finding:
    fields = {
        "id": label.lower(), "label": label, "sentence": sentence, "polarity": polarity, "laterality": None, "location": None,
        "severity": None, "progression": None, "boxes": None, "citations": (CITED,), "counter_evidence": (COUNTER,),
        "confidence": Confidence(0.9, (0.8, 0.95), Tier.HIGH, (Presence.PRESENT,)), "uncertainty": Uncertainty(0.1, (), 0.01),
    }  # fmt: skip
    return Finding(**{**fields, **more})


EFFUSION = finding(
    "Pleural Effusion", POSITIVE, "Small right effusion, larger than on the prior film.", laterality=RIGHT, severity="small",
    progression=Progression.WORSENED, comparison=COMPARED, boxes=(BOX,),
)  # fmt: skip
OPACITY = finding(
    "Lung Opacity", UNCERTAIN, "Possible opacity, as before.", location="base", progression=Progression.STABLE
)
DENIED = finding("Pneumothorax", NEGATIVE, "No pneumothorax.")
DRAFT = Draft(
    status=Status.DRAFT,
    abstain_reasons=(),
    findings=(OPACITY, EFFUSION, DENIED),
    impression="Small right effusion, larger than on the prior film. Possible opacity, as before. Look for: Edema.",
    not_assessed=(
        NotAssessed("Edema", "no_case_is_near_enough", possible=True, p=0.6),
        NotAssessed("Pneumonia", "between_operating_points", p=0.2),
        NotAssessed("Fracture", "too_few_cases_to_calibrate", p=0.1),
    ),
    similar_cases=(),
    out_of_distribution=None,
    checks={},
    coverage=(
        Coverage("Edema", 0, "No case of Edema here."),
        Coverage("Fracture", 1, "Only 1 case of Fracture here."),
        Coverage("Pneumonia", 7, "Only 7 cases of Pneumonia here."),
        Coverage("Lung Opacity", 77),
    ),
    provenance=PROVENANCE,
    answers=(
        Answer("Is there an effusion?", None, "Pleural Effusion", ("Pleural Effusion",), 0.9, (BOX,), EFFUSION.id, POSITIVE,
               EFFUSION.sentence, "", (CITED,)),
        Answer("Who won?", None, reason="not_understood"),
    ),
)  # fmt: skip


@pytest.mark.parametrize("language", Language)
def test_a_draft_stays_aligned_with_the_english_one(language: Language) -> None:
    told = in_language(DRAFT, language)
    assert told.language is language
    for ours, theirs in zip(told.findings, DRAFT.findings, strict=True):
        assert ours.sentence_en == theirs.sentence
        assert replace(ours, sentence=theirs.sentence, sentence_en="") == theirs
    assert told.impression_en == DRAFT.impression
    assert told.not_assessed == DRAFT.not_assessed
    assert told.answers[0].sentence == told.findings[1].sentence
    assert replace(told.answers[0], sentence=EFFUSION.sentence, sentence_en="") == DRAFT.answers[0]
    assert told.answers[0].sentence_en == EFFUSION.sentence
    assert told.answers[1] == DRAFT.answers[1]
    assert [(c.label, c.cases, c.warning is None) for c in told.coverage] == [
        ("Edema", 0, False), ("Fracture", 1, False), ("Pneumonia", 7, False), ("Lung Opacity", 77, True),
    ]  # fmt: skip
    assert told.provenance == DRAFT.provenance


def test_english_stays_as_it_was_verified() -> None:
    told = in_language(DRAFT, Language.EN)
    assert [f.sentence for f in told.findings] == [f.sentence for f in DRAFT.findings]
    assert (told.impression, told.coverage) == (DRAFT.impression, DRAFT.coverage)


def test_a_spanish_draft_word_for_word() -> None:
    told = in_language(DRAFT, ES)
    assert [f.sentence for f in told.findings] == [
        "Posible opacidad pulmonar en la base pulmonar, sin cambios respecto a la radiografía previa.",
        "Derrame pleural derecho pequeño, de mayor tamaño que en la radiografía previa.",
        "No se observa neumotórax.",
    ]
    assert told.impression == (
        "Derrame pleural derecho pequeño, de mayor tamaño que en la radiografía previa. "
        "Posible opacidad pulmonar en la base pulmonar, sin cambios respecto a la radiografía previa. "
        "Buscar: edema pulmonar. No valorado: neumonía, fractura."
    )
    assert [c.warning for c in told.coverage] == [
        "Aquí no hay ningún caso de edema pulmonar.", "Aquí solo hay 1 caso de fractura.", "Aquí solo hay 7 casos de neumonía.",
        None,
    ]  # fmt: skip


def test_a_japanese_draft_word_for_word() -> None:
    told = in_language(DRAFT, JA)
    assert told.impression == (
        "右胸水を少量認め、前回写真と比較して増加している。肺底部に異常陰影が疑われ、前回写真と比較して不変である。"
        "要確認：肺水腫。評価対象外：肺炎、骨折。"
    )
    assert [c.warning for c in told.coverage] == [
        "肺水腫の症例はここにない。", "骨折の症例はここに1例のみ。", "肺炎の症例はここに7例のみ。", None,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("language", "nothing"),
    [
        (ES, "Ningún hallazgo alcanzó su umbral. No valorado: neumonía."),
        (JA, "閾値に達した所見はない。評価対象外：肺炎。"),
    ],
)
def test_an_impression_of_nothing(language: Language, nothing: str) -> None:
    empty = replace(DRAFT, findings=(DENIED,), not_assessed=(DRAFT.not_assessed[1],), answers=())
    assert in_language(empty, language).impression == nothing


def test_a_film_that_is_turned_away_has_no_impression_in_any_language() -> None:
    away = Draft(Status.ABSTAINED, ("not_chest",), (), None, (), (), None, {}, (), PROVENANCE)
    told = in_language(away, JA)
    assert (told.impression, told.impression_en, told.language) == (None, None, "ja")


def test_findings_alone_are_put_into_a_language() -> None:
    assert [(f.sentence, f.sentence_en) for f in findings_in([DENIED], JA)] == [
        ("気胸は認めない。", "No pneumothorax.")
    ]


def test_a_language_has_words_for_all_that_the_labeler_reads() -> None:
    for language, tables in ((ES, phrases_es), (JA, phrases_ja)):
        assert list(tables.LOCATIONS) == list(cues.LOCATIONS), language
        assert set(PHRASES[language].names) == set(SAYABLE)
        assert set(PHRASES[language].sides) == set(Laterality)
    assert set(phrases_es.SEVERITIES) == set(phrases_ja.DEGREES) == set(phrases_ja.AMOUNTS) == set(cues.SEVERITIES)


@pytest.mark.parametrize(
    ("question", "wanted"),
    [
        ("¿Hay neumotórax izquierdo?", (Wanted("Pneumothorax", POSITIVE, LEFT),)),
        ("hay NEUMONIA", (Wanted("Pneumonia", POSITIVE, None),)),
        ("右胸水はありますか", (Wanted("Pleural Effusion", POSITIVE, RIGHT),)),
        ("¿Quién ganó?", ()),
    ],
)
def test_a_question_names_findings_in_spanish_and_japanese(question: str, wanted: tuple[Wanted, ...]) -> None:
    assert named(question) == wanted
