"""Drafts in the formats of others, and those formats read back."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from eval import radfact as measured
from indexer.sources import padchest_gr as importer
from indexer.sources.padchest_labels import CHEXPERT
from indexer.studies import Study
from knowledge_base.findings import Laterality, Polarity, Progression
from rag_service.errors import BadRequest
from rag_service.imaging.film import Box, Frame
from rag_service.report.draft import Draft, Finding, Provenance, Status
from rag_service.report.formats import padchest_gr, radfact
from rag_service.report.formats.choose import written
from rag_service.report.formats.grounded import GroundedSentence, sentences_of
from rag_service.report.formats.maira2 import read_text, write_text
from rag_service.report.formats.padchest_gr import NotPadChestGr, ReadFinding, ReadStudy, read_study, write_study
from rag_service.report.grammar import GrammarError
from rag_service.requests import Format, read_format
from tests.contract.writer_suite.samples import SURE, VAGUE

WIDE = Frame(100, 200)
LOWER_RIGHT = Box(0.5, 0.5, 0.75, 1.0)
EFFUSION = Finding(
    "pleural-effusion", "Pleural Effusion", "Small left pleural effusion.", Polarity.POSITIVE, Laterality.LEFT, "base", "small",
    Progression.WORSENED, (LOWER_RIGHT,), SURE, VAGUE, (), (),
)  # fmt: skip
CLEAR = replace(
    EFFUSION, id="pneumothorax", label="Pneumothorax", sentence="No pneumothorax.", polarity=Polarity.NEGATIVE, laterality=None,
    location=None, severity=None, progression=None, boxes=None,
)  # fmt: skip
DRAFT = Draft(
    Status.DRAFT, (), (EFFUSION, CLEAR), "Small left pleural effusion.", (), (), None, {}, (),
    Provenance("m", "p", "i", "k", "t", 7, "f" * 64),
)  # fmt: skip


def test_padchest_gr_has_the_fields_of_its_publication() -> None:
    assert json.loads(written(DRAFT, Format.PADCHEST_GR, WIDE, "S1", "I1.png")) == [
        {
            "StudyID": "S1",
            "ImageID": "I1.png",
            "PreviousStudyID": None,
            "PreviousImageID": None,
            "findings": [
                {
                    "sentence_en": "Small left pleural effusion.",
                    "sentence_es": "Derrame pleural pequeño en la base pulmonar izquierda, de mayor tamaño que en la radiografía"
                    " previa.",
                    "abnormal": True,
                    "boxes": [[0.5, 0.5, 0.75, 1.0]],
                    "extra_boxes": [],
                    "labels": ["pleural effusion"],
                    "locations": ["left", "base"],
                    "progression": "worsened",
                },
                {"sentence_en": "No pneumothorax.", "sentence_es": "No se observa neumotórax.", "abnormal": False},
            ],
        }
    ]


def test_what_is_exported_is_imported(tmp_path: Path) -> None:
    """As the importer of the public files takes it, film and patient beside it."""
    (tmp_path / importer.REPORTS).write_text(written(DRAFT, Format.PADCHEST_GR, WIDE, "S1", "I1.png"), "utf-8")
    (tmp_path / "I1.png").write_bytes(b"a film")
    with (tmp_path / importer.TABLE).open("w", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerows([("StudyID", "PatientID"), ("S1", "P1")])
    [study] = importer.studies(tmp_path)
    assert isinstance(study, Study)
    assert (study.study, study.patient, study.film) == ("S1", "P1", tmp_path / "I1.png")
    assert study.text == "FINDINGS: Small left pleural effusion. No pneumothorax."


def test_both_readers_boxes_and_both_languages_survive_a_round_trip() -> None:
    found = ReadFinding(
        "Nodule.", "Nódulo.", True, (Box(0.1, 0.2, 0.3, 0.4),), (Box(0.1, 0.2, 0.35, 0.4), Box(0.5, 0.5, 0.6, 0.6)),
        ("nodule",), ("right", "apical"), "stable",
    )  # fmt: skip
    study = ReadStudy("S2", "I2.png", (found, ReadFinding("Normal heart.", "Corazón normal.", False)), "S1", "I1.png")
    assert read_study(json.loads(json.dumps(write_study(study)))) == study


def test_both_languages_are_there_whatever_the_drafts_own_and_what_is_new_has_no_word_there() -> None:
    spanish = replace(
        EFFUSION,
        sentence="左胸水",
        sentence_en=EFFUSION.sentence,
        progression=Progression.NEW,
    )
    device = replace(EFFUSION, label="Support Devices", laterality=None, location=None, boxes=())
    study = padchest_gr.study_of(replace(DRAFT, findings=(spanish, device), language="ja"), "S", "I")
    first, second = study.findings
    assert first.sentence_en == EFFUSION.sentence
    assert first.sentence_es == (
        "Derrame pleural pequeño en la base pulmonar izquierda, de nueva aparición respecto a la radiografía previa."
    )
    assert (first.progression, first.locations) == (None, ("left", "base"))
    assert (second.labels, second.locations, second.boxes) == ((), (), None)


def test_every_label_means_to_the_importer_what_it_means_here() -> None:
    assert {finding: CHEXPERT[label] for finding, label in padchest_gr.LABELS.items()} == {
        f: f for f in padchest_gr.LABELS
    }


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        ([], "a study"),
        ({"findings": {"a": 1}}, "a study"),
        ({"StudyID": 7}, "StudyID"),
        ({"findings": ["text"]}, "a finding"),
        ({"findings": [{"sentence_en": "No abnormal."}]}, "a finding"),
        ({"findings": [{"abnormal": True, "boxes": [[0.1, 0.2, 0.3]]}]}, "boxes"),
        ({"findings": [{"abnormal": True, "extra_boxes": [[0.5, 0.2, 0.3, 0.4]]}]}, "extra_boxes"),
        ({"findings": [{"abnormal": True, "boxes": 7}]}, "boxes"),
        ({"findings": [{"abnormal": True, "labels": "nodule"}]}, "labels"),
        ({"findings": [{"abnormal": True, "locations": [1]}]}, "locations"),
    ],
)
def test_what_is_no_study_of_padchest_gr_is_refused_by_field(raw: Any, field: str) -> None:
    with pytest.raises(NotPadChestGr, match=f"^{field} "):
        read_study(raw)


def test_maira_2_writes_boxes_in_the_square_in_the_middle() -> None:
    text = written(DRAFT, Format.MAIRA_2, WIDE, "S1", "I1.png")
    assert text == ("<obj>Small left pleural effusion.<box><x50><y50><x99><y99></box></obj><obj>No pneumothorax.</obj>")
    assert read_text(text, WIDE) == (
        GroundedSentence("Small left pleural effusion.", (Box(0.5, 0.5, 0.745, 0.99),)),
        GroundedSentence("No pneumothorax."),
    )


def test_the_square_is_cut_from_the_film_at_its_true_aspect() -> None:
    assert Frame(100, 200, 2.0).square_pixels == (200, 200)
    assert read_text("<obj>Mass.<box><x50><y50><x99><y99></box></obj>", Frame(100, 200, 2.0))[0].boxes == (
        Box(0.505, 0.505, 0.995, 0.995),
    )


def test_a_box_outside_the_square_and_marks_in_words_are_left_out() -> None:
    beside = GroundedSentence("A <box> here.", (Box(0.0, 0.1, 0.2, 0.3),))
    assert write_text([beside], WIDE) == "<obj>A box here.</obj>"
    with pytest.raises(GrammarError):
        read_text("Small effusion.", WIDE)


def test_radfact_reads_what_is_written_for_it(tmp_path: Path) -> None:
    listed = [radfact.sample("case-1", sentences_of(DRAFT), [GroundedSentence("Effusion.")])]
    assert listed[0]["prediction"] == [
        {"text": "Small left pleural effusion.", "boxes": [{"x_min": 0.5, "y_min": 0.5, "x_max": 0.75, "y_max": 1.0}]},
        {"text": "No pneumothorax.", "boxes": None},
    ]
    (tmp_path / "samples.json").write_text(json.dumps(listed))
    [sample] = measured.read(tmp_path / "samples.json")
    assert (sample.name, len(sample.prediction), sample.target[0].text) == ("case-1", 2, "Effusion.")
    assert sample.prediction[0].boxes == (LOWER_RIGHT,)


@pytest.mark.parametrize(("text", "boxes"), [("", None), (" ", None), ("Mass.", ())])
def test_a_sentence_has_words_and_never_an_empty_list_of_boxes(text: str, boxes: tuple[Box, ...] | None) -> None:
    with pytest.raises(ValueError, match="has words, and boxes or None"):
        GroundedSentence(text, boxes)


@pytest.mark.parametrize("chosen", Format)
def test_an_abstention_is_never_written_as_a_report_without_findings(chosen: Format) -> None:
    turned_away = replace(DRAFT, status=Status.ABSTAINED, abstain_reasons=("lateral",), findings=())
    with pytest.raises(BadRequest, match=rf"no report was drafted \(lateral\), which {chosen} cannot say"):
        written(turned_away, chosen, WIDE, "S", "I")


def test_a_format_is_asked_for_by_name() -> None:
    assert [read_format(name) for name in ("json", "padchest-gr", "maira-2")] == [
        None,
        Format.PADCHEST_GR,
        Format.MAIRA_2,
    ]
    with pytest.raises(BadRequest, match="format must be one of: json, padchest-gr, maira-2"):
        read_format("docx")
