"""Whose film a DICOM header says it is, and when two headers name two patients."""

from __future__ import annotations

from dataclasses import asdict, replace
from io import BytesIO

import pytest
from pydicom import dcmread, dcmwrite

from eval.phantom import files
from eval.phantom.cases import CASES
from eval.phantom.thorax import Phantom, render
from rag_service.imaging.decode import decode
from rag_service.imaging.subject import Subject

BEFORE = Subject("a" * 64, "", "b" * 64, "c" * 64)


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    case = CASES["normal"]
    return render(case.anatomy, rows=128, columns=112)


def of_patient(phantom: Phantom, **header: str) -> bytes:
    dataset = dcmread(BytesIO(files.dicom(phantom)))
    for keyword, value in header.items():
        setattr(dataset, keyword, value)
    out = BytesIO()
    dcmwrite(out, dataset)
    return out.getvalue()


def test_a_subject_names_nobody(phantom: Phantom) -> None:
    film = decode(of_patient(phantom, PatientID="DOE-19520314"))
    assert "DOE" not in repr(film) and "DOE" not in str(asdict(film.subject))
    assert len(film.subject.patient) == len(film.subject.sex) == 64
    assert (film.subject.issuer, film.subject.birth_date) == ("", "")
    assert decode(files.png(phantom)).subject == Subject()


def test_case_and_blanks_make_no_other_patient(phantom: Phantom) -> None:
    one, other = (decode(of_patient(phantom, PatientID=i)).subject for i in ("doe-1", " DOE-1 "))
    assert one == other
    assert decode(of_patient(phantom, PatientID="DOE-2")).subject.contradicts(one)


@pytest.mark.parametrize(
    ("change", "two"),
    [
        ({}, False),
        ({"patient": ""}, False),
        ({"issuer": "d" * 64}, False),
        ({"patient": "e" * 64}, True),
        ({"birth_date": "e" * 64}, True),
        ({"sex": "e" * 64}, True),
    ],
)
def test_two_subjects_contradict_only_in_what_both_say(change: dict[str, str], two: bool) -> None:
    other = replace(BEFORE, **change)
    assert BEFORE.contradicts(other) is other.contradicts(BEFORE) is two


def test_a_subject_comes_back_from_its_fields() -> None:
    assert Subject.from_json(asdict(BEFORE)) == BEFORE
    with pytest.raises(KeyError):
        Subject.from_json({"patient": ""})
