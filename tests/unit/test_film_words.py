"""What a film asks the text lists with."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import rag_service
from knowledge_base.findings import FINDINGS
from rag_service.calibration import load_calibration
from rag_service.film_words import film_words, shown
from rag_service.models.catalogue import load_record

WEIGHTS = Path(rag_service.__file__).parent / "weights"
NAMES = {"Edema": np.array([1.0, 0.0, 0.0]), "Cardiomegaly": np.array([0.0, 1.0, 0.0])}


def test_findings_that_may_be_there_are_named_and_no_finding_when_none_is() -> None:
    calibration = load_calibration(WEIGHTS, load_record(WEIGHTS).id)
    chances = np.zeros(14)
    assert shown(calibration, chances) == ("No Finding",)
    chances[FINDINGS.index("No Finding")] = 1.0
    assert shown(calibration, chances) == ("No Finding",)
    chances[[FINDINGS.index("Cardiomegaly"), FINDINGS.index("Pleural Effusion")]] = 0.99
    assert shown(calibration, chances) == ("Cardiomegaly", "Pleural Effusion")


def test_the_vector_is_the_mean_of_the_names() -> None:
    words, vector = film_words(("Cardiomegaly", "Edema"), NAMES)
    assert words == "Cardiomegaly, Edema"
    np.testing.assert_allclose(vector, [0.5**0.5, 0.5**0.5, 0.0], rtol=1e-6)


def test_what_was_told_joins_the_words_and_leaves_the_vector_alone() -> None:
    words, vector = film_words(("Edema",), NAMES, "swollen legs")
    assert words == "Edema, swollen legs"
    assert vector.tolist() == [1.0, 0.0, 0.0]
