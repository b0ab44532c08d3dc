"""`python -m eval ood`: which films are taken, figures by hand, and the whole task on a tiny model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from eval import __main__ as cli
from eval import ood, ood_sets
from eval.ood_sets import VARIANTS, FilmSet, Picture, Role
from rag_service.datasets.films import DatasetError, Split, split_of
from rag_service.errors import NotAnImage
from rag_service.gate import OutOfDistribution, Verdict
from rag_service.imaging.film import Film, Frame
from rag_service.ood import SCORES
from rag_service.settings import ENVIRONMENT

if TYPE_CHECKING:
    from tests.integration.conftest import Maker

LABELS = np.array([0.0, 0.0, 0.0, 0.0, 1.0, 1.0])


def test_false_positives_at_95_percent_by_hand() -> None:
    assert ood.fpr_at_95_tpr(LABELS, np.array([0.1, 0.2, 0.3, 0.9, 0.3, 1.0])) == 0.5
    assert ood.fpr_at_95_tpr(LABELS, np.array([0.1, 0.2, 0.3, 0.4, 0.5, 1.0])) == 0.0
    assert ood.fpr_at_95_tpr(np.zeros(3), np.zeros(3)) is None
    assert ood.fpr_at_95_tpr(np.ones(3), np.zeros(3)) is None


def test_average_precision_by_hand() -> None:
    # Falling: 1.0 is an outlier (1 of 1), 0.9 is not, 0.3 and 0.3 are one of each (2 of 4).
    assert ood.aupr(LABELS, np.array([0.1, 0.2, 0.3, 0.9, 0.3, 1.0])) == pytest.approx(0.5 * 1 + 0.5 * 0.5)
    assert ood.aupr(np.zeros(3), np.zeros(3)) is None


def held_back(source: str, pattern: str, count: int) -> list[str]:
    """The first names whose patient no training saw."""
    names = (pattern.format(i) for i in range(10_000))
    return [n for n, _ in zip((n for n in names if split_of(source, n) is Split.TEST), range(count), strict=False)]


@pytest.fixture
def shared(maker: Maker) -> Path:
    """Open-i with a lateral, other pictures, children's films and turned ones, in the shared layout."""
    tested = held_back("openi", "CXR{}", 3)
    learned = next(f"CXR{i}" for i in range(99) if split_of("openi", f"CXR{i}") is Split.TRAIN)
    openi = type(maker)(maker.folder / "openi")
    openi.folder.mkdir()
    openi.openi(dict.fromkeys((*tested, learned), ("Clear.", "", ("normal",))))
    table = (openi.folder / "images.csv").read_text()
    (openi.folder / "images.csv").write_text(
        table.replace(f"{tested[2]}_1,{tested[2]},Frontal", f"x,{tested[2]},Lateral")
    )
    others = held_back("not_chest", "n{}.png", 2)
    for seed, name in enumerate(
        [*(f"not_chest/{n}" for n in others), "not_chest/broken.png", "rotation/images/r1.png"]
    ):
        maker.film(name, 20 + seed)
    maker.film("paediatric/images/normal_IM-0001-0001.jpeg", 40)
    maker.table("not_chest/captions.csv", "file", *others)
    return maker.folder


def test_only_films_that_no_training_saw_are_taken(shared: Path) -> None:
    found = {s.name: s for s in ood_sets.sets(shared, None, 7)}
    assert {name: len(s.pictures) for name, s in found.items()} == {
        "in_distribution": 2, "not_chest": 2, "lateral": 1, "rotation": 1, "paediatric": 1, **dict.fromkeys(VARIANTS, 2),
    }  # fmt: skip
    assert next(iter(found)) == "in_distribution"
    assert found["in_distribution"].role is Role.USUAL
    assert found["rotation"].role is Role.MIXED
    assert found["lateral"].role is Role.OUTLIER
    assert {len(s.pictures) for s in ood_sets.sets(shared, 1, 7)} == {1}


def test_a_variant_is_the_same_each_time_and_differs_by_film_and_seed(shared: Path) -> None:
    def noise(seed: int) -> list[Film]:
        return [p.film() for s in ood_sets.sets(shared, None, seed) if s.name == "uniform_noise" for p in s.pictures]

    (one, two), (again, _), (other, _) = noise(7), noise(7), noise(8)
    assert one.pixels.shape == (256, 256)
    assert np.array_equal(one.pixels, again.pixels)
    assert not np.array_equal(one.pixels, two.pixels)
    assert not np.array_equal(one.pixels, other.pixels)


def test_an_inverted_variant_is_the_negative_of_its_film(shared: Path) -> None:
    sets = {s.name: s for s in ood_sets.sets(shared, None, 7)}
    film, negative = (sets[name].pictures[0].film().pixels.mean() for name in ("in_distribution", "inverted"))
    assert film + negative == pytest.approx(1.0, abs=0.01)


def test_a_folder_of_ones_own_lists_its_sets(maker: Maker) -> None:
    for seed in range(3):
        maker.film(f"{seed}.png", seed)
    maker.table("labels.csv", "file,set", "0.png,in_distribution", "1.png,dogs", "2.png,dogs")
    found = ood_sets.sets(maker.folder, None, 7)
    assert [(s.name, str(s.role), len(s.pictures)) for s in found[:2]] == [
        ("in_distribution", "in_distribution", 1),
        ("dogs", "outlier", 2),
    ]
    maker.table("labels.csv", "file,set", "1.png,dogs")
    with pytest.raises(DatasetError, match="holds no usual frontal film"):
        ood_sets.sets(maker.folder, None, 7)
    with pytest.raises(DatasetError, match="holds no usual frontal film"):
        ood_sets.sets(maker.folder / "absent", None, 7)


def flat(grey: float) -> Callable[[], Film]:
    pixels = np.full((4, 4), grey, np.float32)
    return lambda: Film(pixels, Frame(4, 4), "00" * 32, "image/png")


def unreadable() -> Film:
    raise NotAnImage("not a known image file")


def grey_reader() -> Any:
    """Its combined score is the film's grey, its limit 0.5; every other score is the negative of that."""

    def judge(film: Film, reading: object) -> Verdict:
        grey = round(float(film.pixels.mean()), 3)
        far = OutOfDistribution(grey, 0.5, dict.fromkeys(SCORES, -grey))
        return Verdict(("out_of_distribution",) if grey >= 0.5 else (), far)

    thresholds = SimpleNamespace(model="grey@1", digest="ab", limit=0.5, false_alarm_share=0.01)
    encoder = SimpleNamespace(read=lambda film: film)
    return SimpleNamespace(gate=SimpleNamespace(judge=judge, thresholds=thresholds), encoder=encoder)


def a_set(name: str, role: Role, *greys: float | None) -> FilmSet:
    films = [unreadable if g is None else flat(g) for g in greys]
    return FilmSet(name, role, tuple(Picture(f"{name}{i}", f"p{i}", f) for i, f in enumerate(films)))


def test_figures_by_hand() -> None:
    sets = [
        a_set("in_distribution", Role.USUAL, 0.1, 0.2, 0.3, 0.6),
        a_set("lateral", Role.OUTLIER, 0.25, 0.9, None),
        a_set("rotation", Role.MIXED, 0.4, 0.8),
    ]
    result = ood.measure(sets, grey_reader(), 7)
    usual = result["in_distribution"]
    assert (usual["turned_away"], usual["n"], usual["patients"], usual["scored"]) == (0.25, 4, 4, 4)
    assert usual["reasons"] == {"out_of_distribution": 1}
    assert result["auroc"] == {"lateral": {**dict.fromkeys(SCORES, 0.25), "combined": 0.75}}  # 2 of 4 and 4 of 4 pairs
    assert result["fpr_at_95_tpr"]["lateral"]["combined"] == 0.5
    assert result["combined"] == {"not_chest": None, "lateral": 0.75, "rotated": None}
    assert result["radius_alone"]["lateral"] == 0.25
    low, high = result["auroc_ci"]["lateral"]["combined"]
    assert 0.0 <= low < 0.75 < high <= 1.0
    lateral = result["sets"]["lateral"]
    assert (lateral["role"], lateral["turned_away"], lateral["n"], lateral["scored"]) == ("outlier", 2 / 3, 3, 2)
    assert lateral["reasons"] == {"out_of_distribution": 1, "not_an_image": 1}
    assert result["signature"]["model"] == "grey@1"
    assert result == ood.measure(sets, grey_reader(), 7)
    assert result["signature"]["films"] != ood.measure(sets[:2], grey_reader(), 7)["signature"]["films"]
    lines = ood.table(result).splitlines()
    assert lines[0].startswith("usual frontals: turned away 0.250 [")
    assert lines[2].split()[:3] == ["lateral", "3", "0.667"]
    assert lines[-1] == "rotation: turned away 0.500 of 2 (out_of_distribution 1)"


def test_the_task_on_a_tiny_model(
    shared: Path,
    whole_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    folder = shutil.copytree(whole_model, tmp_path / "model")
    monkeypatch.setenv("RAG_MODEL_FOLDER", str(folder))
    assert cli.main(["ood", str(shared), "--limit", "1", "--json", str(tmp_path / "ood.json")]) == 0
    written = json.loads((tmp_path / "ood.json").read_text())
    assert set(written["auroc"]["rotated"]) == {*SCORES, "combined"}
    assert written["in_distribution"]["turned_away"] == 0.0
    assert (written["sets"]["photograph"]["n"], written["sets"]["photograph"]["scored"]) == (1, 1)
    assert "usual frontals: turned away 0.000" in capsys.readouterr().out
    assert cli.main(["ood", str(tmp_path / "nothing")]) == 2
    assert "holds no usual frontal film" in capsys.readouterr().err
