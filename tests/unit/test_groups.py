"""Groups of patients, and probes that find what is there and nothing where nothing is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from eval import groups, probe
from eval.readings import Readings
from rag_service.datasets.films import FilmRow


def a_row(number: int, **known: object) -> FilmRow:
    return FilmRow("nih", Path(f"{number}.png"), str(number), str(number // 2), **known)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("years", "band"),
    [(0, "<20"), (19, "<20"), (20, "20-39"), (59, "40-59"), (60, "60-79"), (80, "80+"), (104, "80+"), (None, None)],
)
def test_age_bands(years: int | None, band: str | None) -> None:
    assert groups.age_band(years) == band


def test_groups_are_in_order_and_what_is_unknown_stands_apart() -> None:
    rows = [a_row(i, age_years=age) for i, age in enumerate((85, None, 15, 30, 90))]
    found = groups.groups(rows, groups.ATTRIBUTES["age"])
    assert {name: members.tolist() for name, members in found.items()} == {
        "<20": [2], "20-39": [3], "80+": [0, 4], "missing": [1],
    }  # fmt: skip
    assert list(found) == ["<20", "20-39", "80+", "missing"]
    assert groups.groups(rows, groups.ATTRIBUTES["manufacturer"])["missing"].tolist() == [0, 1, 2, 3, 4]


def test_only_groups_of_some_size_are_compared() -> None:
    members = {"F": np.arange(20), "M": np.arange(20, 40), "O": np.arange(40, 59), "missing": np.arange(59, 99)}
    assert list(groups.compared(members)) == ["F", "M"]
    assert groups.compared({"F": np.arange(20), "missing": np.arange(20, 60)}) == {}


def test_findings_with_both_classes_in_every_part() -> None:
    labels = np.full((4, 14), np.nan)
    labels[:, 0], labels[:, 1], labels[:, 2] = (0, 1, 1, 0), (0, 1, 1, 1), (0, 1, np.nan, 0)
    parts = [np.array([0, 1]), np.array([2, 3])]
    assert groups.common_findings(labels, parts) == [0]
    p = np.zeros((4, 14))
    p[:, 0] = (0.2, 0.8, 0.1, 0.9)
    assert [groups.macro(labels, p, rows, [0]) for rows in parts] == [1.0, 0.0]
    assert groups.macro(labels, p, parts[0], []) is None


def readings_of(centre: np.ndarray) -> Readings:
    rng = np.random.default_rng(1)
    n = len(centre)
    return Readings(
        scores=rng.random((n, 14)),
        spread=np.zeros((n, 14)),
        centre=centre,
        radius=np.ones_like(centre),
        pooled=rng.normal(size=(n, 6)),
        presentation=np.zeros((n, 5)),
        ap=np.full(n, np.nan),
    )


def test_a_probe_finds_sex_and_age_where_they_are_kept_and_not_elsewhere() -> None:
    rng = np.random.default_rng(0)
    rows = [a_row(i, sex="MF"[(i // 2) % 2], age_years=int(20 + 70 * rng.random())) for i in range(300)]
    sex, age = [r.sex == "M" for r in rows], [r.age_years for r in rows]
    found = probe.measure(rows, readings_of(np.stack([np.array(sex), np.array(age), rng.random(300)], 1)), seed=3)
    told = found["sex"]["features"]
    assert (found["sex"]["films"], found["sex"]["patients"]) == (300, 150)
    assert told["box_centre"]["auroc"] == 1.0 and 0.35 < told["pooled"]["auroc"] < 0.65
    assert found["sex"]["chance"] == {"auroc": 0.5}
    years = found["age_years"]["features"]
    assert years["box_centre"]["r2"] > 0.8 and years["pooled"]["r2"] < 0.05
    assert years["box_centre"]["mae_years"] < 10 < found["age_years"]["chance"]["mae_years"]
    assert found["age_years"]["chance"]["r2"] <= 0.0
    assert found["age_over_60"]["features"]["box_centre"]["auroc"] > 0.95
    assert "sex          n 300  box_centre auroc 1.000" in "\n".join(probe.table(found))


def test_too_few_known_patients_are_not_probed() -> None:
    rows = [a_row(i, sex="MF"[i % 2]) for i in range(78)] + [a_row(i) for i in range(78, 200)]
    found = probe.measure(rows, readings_of(np.zeros((200, 3))), seed=3)
    assert found == {"sex": None, "age_over_60": None, "age_years": None}
    assert probe.table(found)[1].endswith("not measured: too few films whose source says")
