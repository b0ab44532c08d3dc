"""AP against PA, by counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from eval import projection
from eval.readings import Readings
from rag_service.datasets.films import DatasetError, FilmRow

VIEWS = ("PA", "AP", "AP Supine", "frontal", "PA", None)


def rows() -> list[FilmRow]:
    return [FilmRow("nih", Path(f"{i}.png"), str(i), str(i), view=v) for i, v in enumerate(VIEWS)]


def readings(ap: list[float]) -> Readings:
    n = len(ap)
    empty = np.zeros((n, 1))
    return Readings(*(empty,) * 6, np.array(ap))


def test_films_that_say_which_they_are_are_counted() -> None:
    result = projection.measure(rows(), readings([0.1, 0.9, 0.4, 0.9, 0.6, 0.9]), "tiny@1", 7)
    assert result["counts"] == {"ap_as_ap": 1, "ap_as_pa": 1, "pa_as_ap": 1, "pa_as_pa": 1}
    assert (result["n"], result["accuracy"]) == (4, 0.5)
    assert result["auroc"] == pytest.approx(0.75)
    assert "PA against AP: AUROC 0.750" in projection.table(result)
    assert "ap as pa 1" in projection.table(result)


@pytest.mark.parametrize("ap", [[0.1] * 6, [np.nan] * 6])
def test_nothing_to_tell_is_an_error(ap: list[float]) -> None:
    films = rows() if np.isnan(ap[0]) else [FilmRow("openi", Path("a.png"), "a", "a", view="frontal")]
    with pytest.raises(DatasetError, match="no film says whether it is PA or AP"):
        projection.measure(films, readings(ap), "tiny@1", 7)
