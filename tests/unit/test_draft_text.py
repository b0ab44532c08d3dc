"""A draft printed in its language: every code has words in each, and no other language's words are left."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from string import Formatter
from typing import Final

import pytest

from knowledge_base.findings import FINDINGS, Laterality, Polarity
from rag_service import querying, reader
from rag_service.calibration import Confidence, Reliability, Tier
from rag_service.conformal import Presence
from rag_service.imaging.film import Box
from rag_service.models.network import PRESENTATIONS
from rag_service.report import cardiothoracic, plans
from rag_service.report.checks import Fault
from rag_service.report.draft import (
    Answer,
    Citation,
    CounterEvidence,
    Coverage,
    Draft,
    Finding,
    NotAssessed,
    Provenance,
    SimilarCase,
    Status,
    Uncertainty,
)
from rag_service.report.emission import Lack
from rag_service.report.languages import in_language
from rag_service.report.measurements import Measurement
from rag_service.report.render import WORDINGS, render
from rag_service.report.wording import Wording
from rag_service.requests import Language

CODES: Final = {
    *PRESENTATIONS[1:], "blank", "out_of_distribution", reader.BETWEEN, Reliability.TOO_FEW, Reliability.TOO_WEAK,
    plans.NO_SENTENCE, plans.TOO_FAR, *Lack, *Fault, querying.NOT_UNDERSTOOD, querying.NAMES_NO_FINDING, querying.ELSEWHERE,
    querying.NOTHING_DECIDED, cardiothoracic.NOT_SEEN, cardiothoracic.NOT_WHOLE, cardiothoracic.OUT_OF_ORDER,
    cardiothoracic.IMPLAUSIBLE,
}  # fmt: skip
"""Every reason that a draft can give."""
SURE = Confidence(0.83, (0.71, 0.91), Tier.HIGH, (Presence.PRESENT,))
VAGUE = Uncertainty(0.1, (), 0.01)
BOX = Box(0.1, 0.6, 0.4, 0.9)
CITED = Citation("case", "12345678-rest", "Small effusion.", (10, 25), 0.9, entails=True)
COUNTER = CounterEvidence("87654321-rest", 0.5, "No effusion.", (10, 22))
DRAFT = Draft(
    status=Status.DRAFT,
    abstain_reasons=(),
    findings=(
        Finding(
            "pleural-effusion", "Pleural Effusion", "Small right effusion.", Polarity.UNCERTAIN, Laterality.RIGHT, None, "small",
            None, (BOX,), SURE, VAGUE, (CITED,), (COUNTER,), hedged=("no_place_on_the_film", "no_near_case_states_it"),
        ),
        Finding(
            "pneumothorax", "Pneumothorax", "No pneumothorax.", Polarity.NEGATIVE, None, None, None, None, None, SURE, VAGUE,
            (CITED, CITED), (),
        ),
    ),
    impression="Small right effusion.",
    not_assessed=(
        NotAssessed("Edema", "failed_the_check:laterality_conflict", possible=True, p=0.6),
        NotAssessed("Fracture", "too_few_cases_to_calibrate", p=0.1),
    ),
    similar_cases=(SimilarCase("12345678-rest", 0.05, 0.873, ("Edema", "No Finding"), "Edema.", None),),
    out_of_distribution=None,
    checks={},
    coverage=(Coverage("Edema", 7, "Only 7 cases of Edema here."),),
    provenance=Provenance("m@1", "p@1", "i", "k", "t", 20260, "f", lateral="l"),
    answers=(
        Answer("¿?", BOX, finding="pleural-effusion", sentence="Small right effusion."),
        Answer("¿?", None, reason="not_understood"),
        Answer(None, BOX, reason="nothing_is_decided_here"),
    ),
    measurements=(
        Measurement("cardiothoracic_ratio", 0.456, "ratio"),
        Measurement("cardiothoracic_ratio", None, "ratio", reason="lung_not_whole"),
    ),
)  # fmt: skip


def printed(language: Language, draft: Draft = DRAFT) -> str:
    return render(in_language(draft, language), lambda c: c.id[:8])


@pytest.mark.parametrize("wording", WORDINGS.values(), ids=WORDINGS)
def test_a_language_has_words_for_every_name_and_reason(wording: Wording) -> None:
    assert set(wording.reasons) == {str(code) for code in CODES}
    assert set(wording.findings) == set(FINDINGS)
    assert set(wording.measurements) == {cardiothoracic.NAME}
    assert set(wording.polarities) == set(Polarity)
    assert set(wording.sides) == set(Laterality)
    assert set(wording.tiers) == set(Tier)
    for table in (wording.findings, wording.reasons, wording.polarities, wording.sides, wording.tiers):
        assert len(set(table.values())) == len(table)


@pytest.mark.parametrize("language", ["es", "ja"])
def test_the_lines_of_a_language_have_the_english_places_to_fill_in(language: str) -> None:
    def slots(name: str, line: str) -> list[tuple[str | None, str | None]]:
        return sorted((slot, form) for _, slot, form, _ in Formatter().parse(line) if slot and name != "width")

    for field in fields(WORDINGS["en"].frame):
        if field.name != "width":
            ours, english = (getattr(WORDINGS[code].frame, field.name) for code in (language, "en"))
            assert slots(field.name, ours) == slots(field.name, english)


def test_every_language_of_a_request_can_be_printed() -> None:
    assert list(WORDINGS) == list(Language)


def test_a_spanish_draft_as_text() -> None:
    assert printed(Language.ES) == (
        "BORRADOR DE INFORME  (uso en investigación; decide y firma un médico)\n"
        "Leído de una radiografía frontal y una lateral; las localizaciones son de la frontal.\n"
        "\n"
        "CONCLUSIÓN\n"
        "  Posible derrame pleural derecho pequeño. Buscar: edema pulmonar. No valorado: fractura.\n"
        "\n"
        "HALLAZGOS\n"
        "   1. Posible derrame pleural derecho pequeño.\n"
        "      derrame pleural, posible  p 0.83 [0.71-0.91]  confianza alta  1 recuadro, lado derecho\n"
        "      solo posible: ningún lugar de la radiografía lo muestra; ningún caso cercano lo afirma\n"
        "      <- 12345678: “Small effusion.”\n"
        "      pero el caso 87654321 se parece y dice: “No effusion.”\n"
        "   2. No se observa neumotórax.\n"
        "      neumotórax, ausente  p 0.83 [0.71-0.91]  confianza alta\n"
        "      <- 12345678: “Small effusion.”\n"
        "\n"
        "RESPUESTAS\n"
        "  ¿?, recuadro 0.10 0.60 0.40 0.90: Posible derrame pleural derecho pequeño.\n"
        "  ¿?: no se entendió la pregunta\n"
        "  recuadro 0.10 0.60 0.40 0.90: aquí no hay nada decidido\n"
        "\n"
        "MEDIDAS\n"
        "  índice cardiotorácico: 0.46\n"
        "  índice cardiotorácico: un pulmón no se ve entero\n"
        "\n"
        "NO VALORADO\n"
        "  edema pulmonar (posible, p 0.60): su lado contradice otra frase o su localización\n"
        "  fractura: muy pocas radiografías de calibración lo muestran\n"
        "\n"
        "POCOS CASOS DE REFERENCIA\n"
        "  Aquí solo hay 7 casos de edema pulmonar.\n"
        "\n"
        "CASOS SIMILARES\n"
        "  12345678  solapamiento 0.87  edema pulmonar, sin hallazgos"
    )


def test_no_latin_letter_is_left_in_a_japanese_draft_but_in_quotes() -> None:
    text = printed(Language.JA)
    assert re.findall(r"[A-Za-z]+", re.sub("“.*?”", "", text)) == []
    assert "  右胸水が" not in text
    assert "\n診断\n  少量の右胸水が疑われる。要確認：肺水腫。評価対象外：骨折。\n" in text
    assert "      胸水、疑い  確率 0.83 [0.71-0.91]  信頼度 高  領域 1、右側\n" in text
    assert "\n計測\n  心胸郭比：0.46\n  心胸郭比：肺の全体が写っていない\n" in text


@pytest.mark.parametrize(
    ("language", "text"),
    [
        (Language.EN, "NO DRAFT\n  - the film is turned [rotated]"),
        (Language.ES, "SIN BORRADOR\n  - la radiografía está girada [rotated]"),
        (Language.JA, "報告書案なし\n  - 写真が回転している [rotated]"),
    ],
)
def test_a_film_turned_away_in_every_language(language: Language, text: str) -> None:
    away = Draft(
        Status.ABSTAINED, ("rotated",), (), None, (), (), None, {}, (), replace(DRAFT.provenance, lateral=None)
    )
    assert printed(language, away) == text


def test_a_long_japanese_line_is_broken_at_half_the_width() -> None:
    words = printed(Language.JA, replace(DRAFT, not_assessed=tuple(NotAssessed(f, "blank") for f in FINDINGS[1:])))
    assert max(len(line) for line in words.splitlines() if not line.startswith("      ")) <= 50
