"""The shift lab's parts: shifts that grow with their strength, edits that leave the rest of a film alone, flips counted."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from eval import scores
from eval.shift import acquisition, assess, inpaint, manifestation, statements
from eval.shift.acquisition import SHIFTS, shifted
from eval.shift.devices import device_films
from eval.shift.inpaint import Edit
from knowledge_base.findings import FINDINGS, Polarity
from rag_service.calibration import Reliability
from rag_service.datasets.films import DatasetError
from rag_service.imaging.film import Box
from rag_service.training.augment import Strength

ONE = acquisition.Unit(log_gamma=0.3, window=0.08, noise=0.04, blur=1.0, blur_share=0.25)
SEED = (7, 1)


def smooth_film() -> NDArray[np.uint8]:
    """(256, 256): a bright blob on a slope, with fine grain."""
    down, across = np.mgrid[0:256, 0:256] / 256
    grey = 0.25 + 0.3 * across + 0.3 * np.exp(-((across - 0.4) ** 2 + (down - 0.5) ** 2) / 0.02)
    return np.rint(255 * grey + np.random.default_rng(3).normal(0, 3, grey.shape)).astype(np.uint8)


def a_region() -> NDArray[np.bool_]:
    return inpaint.ellipse(Box(0.3, 0.4, 0.5, 0.6), 256)


NO_DEVICE = np.zeros((256, 256), bool)

# --- acquisition


def test_strength_1_is_what_training_does() -> None:
    one = acquisition.unit(256, Strength(log_gamma=0.2, window=0.1, noise=0.05, blur_share=0.4))
    assert (one.log_gamma, one.window, one.blur_share) == (0.2, 0.1, 0.4)
    assert one.noise == pytest.approx(0.05, rel=1e-4) and one.blur == pytest.approx(0.8165, abs=1e-4)
    coarser = acquisition.unit(128, Strength(noise=0.05))
    assert coarser.noise > 0.1 and coarser.blur == pytest.approx(2 * 0.8165, abs=1e-3)


@pytest.mark.parametrize("name", SHIFTS)
def test_a_shift_grows_with_its_strength_and_is_nothing_at_0(name: str) -> None:
    film = smooth_film()
    np.testing.assert_array_equal(shifted(film, name, 0.0, SEED, ONE), film)
    changes = [float(np.abs(shifted(film, name, s, SEED, ONE) - film.astype(float)).mean()) for s in (0.5, 1, 1.5, 2)]
    assert changes == sorted(changes) and 0 < changes[0] < changes[-1]


@pytest.mark.parametrize("name", SHIFTS)
def test_a_shift_is_the_same_for_the_same_seed(name: str) -> None:
    film = smooth_film()
    again = shifted(film, name, 1.0, SEED, ONE)
    np.testing.assert_array_equal(shifted(film, name, 1.0, SEED, ONE), again)
    assert again.dtype == np.uint8 and again.shape == (256, 256)
    if name in {"noise", "device", "device_edge"}:
        assert (shifted(film, name, 1.0, (8, 1), ONE) != again).any()


def test_gamma_and_window_by_hand() -> None:
    half = np.full((4, 4), 0.5, np.float32)
    rng = np.random.default_rng(0)
    assert {round(float(acquisition.gamma(half, 1.0, rng, ONE)[0, 0]), 4) for _ in range(20)} == {
        round(0.5 ** float(np.exp(0.3)), 4),
        round(0.5 ** float(np.exp(-0.3)), 4),
    }
    windowed = {round(float(acquisition.window(half, 1.0, rng, ONE)[0, 0]), 3) for _ in range(40)}
    assert windowed == {0.5, 0.42, 0.58}  # both ends outwards or inwards leave the middle where it is


def test_collimation_blanks_each_edge_and_nothing_else() -> None:
    film = np.full((256, 256), 200, np.uint8)
    framed = shifted(film, "collimation", 2.0, SEED, ONE)
    assert (framed == 200).sum() == (256 - 2 * 26) ** 2 and (framed == 0).sum() == 256**2 - (256 - 52) ** 2
    assert framed[26, 26] == 200 and framed[25, 128] == 0


def test_markers_are_a_letter_in_its_own_corner_and_a_black_square() -> None:
    film = np.full((256, 256), 100, np.uint8)
    for seed in range(12):
        marked = shifted(film, "markers", 2.0, (seed,), ONE)
        letters, squares = np.argwhere(marked == 242), np.argwhere(marked == 0)
        assert len(squares) == 36**2 and letters[:, 0].max() < 64
        assert (
            len(letters) == {True: 18, False: 11}[bool(letters[:, 1].max() < 64)] * 36
        )  # R on the left, L on the right
        assert len(squares) + len(letters) == (marked != 100).sum()


def test_a_black_square_lies_in_the_corner_asked_for() -> None:
    painted = acquisition.black_square(np.full((256, 256), 9, np.uint8), (True, False), 0.1)
    where = np.argwhere(painted == 0)
    assert (where.min(0).tolist(), where.max(0).tolist()) == ([222, 8], [247, 33])


# --- edits


def test_a_laplace_fill_gives_back_a_plane() -> None:
    plane = np.add.outer(3.0 * np.arange(48), 2.0 * np.arange(64))
    hidden = np.zeros(plane.shape, bool)
    hidden[10:40, 20:45] = True
    hidden[14:18, 50:60] = True
    np.testing.assert_allclose(inpaint.laplace(np.where(hidden, 500.0, plane), hidden), plane, atol=1e-9)


def test_a_laplace_fill_at_the_films_edge_stays_within_its_rim() -> None:
    grey = np.tile(np.linspace(10.0, 90.0, 32), (32, 1))
    hidden = np.zeros(grey.shape, bool)
    hidden[0:12, 8:20] = True
    filled = inpaint.laplace(np.where(hidden, 0.0, grey), hidden)
    np.testing.assert_allclose(filled, grey, atol=1e-9)  # grey that does not change downwards has no slope at the edge


@pytest.mark.parametrize("kind", ["removed", "added"])
def test_what_is_kept_is_bit_identical(kind: str) -> None:
    film, region = smooth_film(), a_region()
    device = inpaint.rectangle(Box(0.38, 0.0, 0.42, 1.0), 256)
    rng = np.random.default_rng(0)
    done = (
        inpaint.removed(film, region, device, rng)
        if kind == "removed"
        else inpaint.added(film, region, device, 0.5, rng)
    )
    np.testing.assert_array_equal(done.after[~region], film[~region])
    np.testing.assert_array_equal(done.after[device], film[device])
    assert done.touches_device and done.kept_changed == 0 and done.kept == 256**2 - int((region & ~device).sum())
    assert (done.after[region & ~device] != film[region & ~device]).mean() > 0.5


def test_an_opacity_is_taken_away_and_laid_on() -> None:
    film, region = smooth_film(), a_region()
    cleared = inpaint.removed(film, region, NO_DEVICE, np.random.default_rng(0))
    assert film[128, 102] > 165 and cleared.after[118:138, 92:112].mean() < film[118:138, 92:112].mean() - 15
    inside = inpaint.ellipse(Box(0.35, 0.45, 0.45, 0.55), 256)
    rough = cleared.after[inside].astype(float) - inpaint.laplace(film.astype(float), region)[inside]
    assert 1.5 < rough.std() < 5.0  # the film's own grain is 3 grey levels
    laid = inpaint.added(film, inpaint.ellipse(Box(0.6, 0.6, 0.8, 0.8), 256), NO_DEVICE, 0.5, np.random.default_rng(0))
    assert laid.after[175:183, 175:183].mean() > film[175:183, 175:183].mean() + 30
    assert inpaint.faults(cleared) == inpaint.faults(laid) == ()


def test_edits_that_are_not_good_enough_are_named() -> None:
    film, region = np.full((256, 256), 100, np.uint8), a_region()

    def painted(value: int, beyond: int = 0) -> Edit:
        after = film.copy()
        after[region] = value
        after[0, :beyond] = 1
        return Edit(film, after, region, NO_DEVICE)

    assert inpaint.faults(painted(150)) == ("edge_shows",)
    assert inpaint.faults(painted(255)) == ("edge_shows", "saturated")
    assert inpaint.faults(painted(100)) == ("nothing_changed",)
    assert inpaint.faults(painted(102)) == ()
    spilt = painted(102, beyond=3)
    assert (inpaint.faults(spilt), spilt.kept_changed) == (("kept_part_changed",), 3)


def test_an_edit_has_pixels_and_never_a_devices() -> None:
    film = smooth_film()
    with pytest.raises(ValueError, match="has pixels"):
        Edit(film, film, NO_DEVICE, NO_DEVICE)
    with pytest.raises(ValueError, match="cannot be edited"):
        Edit(film, film, a_region(), a_region())


def test_masks() -> None:
    assert inpaint.rectangle(Box(0.25, 0.5, 0.5, 1.0), 8).sum() == 2 * 4
    assert inpaint.ellipse(Box(0.0, 0.0, 1.0, 1.0), 200).mean() == pytest.approx(np.pi / 4, abs=0.002)
    assert inpaint.ellipse(Box(0.4, 0.4, 0.6, 0.6), 200, grow=2.0).mean() == pytest.approx(0.16 * np.pi / 4, abs=0.001)


# --- devices


def object_table(folder: Path, *lines: str) -> Path:
    (folder / "images").mkdir(exist_ok=True)
    (folder / "images" / "a.jpg").write_bytes(b"")
    header = "Class,Filename,Resolution,Left,Top,Width,Height"
    (folder / "objects.csv").write_text("\n".join([header, *lines]) + "\n")
    return folder


def test_films_with_a_tube_and_a_lung_are_read(tmp_path: Path) -> None:
    folder = object_table(
        tmp_path,
        "COVID-19 Endotracheal Tube,a.jpeg,200x100,80,0,20,50",
        "COVID-19 Left Lung,a.jpeg,200x100,100,10,80,200",
        "COVID-19 Monitoring Probes,a.jpeg,200x100,0,0,200,100",
        "COVID-19 Central Venous Line,a.jpeg,200x100,0,0,0,0",
        "COVID-19 Left Lung,b.jpeg,200x100,100,10,80,80",
    )
    (film,) = device_films(folder)
    assert film.path.name == "a.jpg"
    assert film.devices == (Box(0.4, 0.0, 0.5, 0.5),) and film.lungs == (Box(0.5, 0.1, 0.9, 1.0),)


def test_a_folder_without_outlined_tubes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no film with an outlined tube"):
        device_films(object_table(tmp_path, "COVID-19 Left Lung,a.jpeg,200x100,100,10,80,80"))
    with pytest.raises(DatasetError, match="not in numbers"):
        device_films(object_table(tmp_path, "COVID-19 Left Lung,a.jpeg,unknown,100,10,80,80"))


def test_an_opacity_is_laid_only_where_a_device_crosses_it() -> None:
    rng = np.random.default_rng(0)
    device = inpaint.rectangle(Box(0.3, 0.1, 0.33, 0.9), 256)
    region = manifestation._across(device, [Box(0.2, 0.2, 0.5, 0.8)], rng)
    assert region is not None and (region & device).any()
    assert manifestation._across(device, [Box(0.8, 0.2, 0.9, 0.8)], rng) is None


# --- statements and scores


@dataclass(frozen=True)
class Entry:
    """A finding stated from 0.75, possible from 0.4, denied to 0.35."""

    reliability: Reliability = Reliability.RELIABLE
    flag: float = 0.4

    def polarity(self, p: float) -> Polarity | None:
        if p >= 0.4:
            return Polarity.POSITIVE if p >= 0.75 else Polarity.UNCERTAIN
        return Polarity.NEGATIVE if p <= 0.35 else None


def a_calibration() -> Any:
    return SimpleNamespace(findings=dict.fromkeys(FINDINGS, Entry()) | {"Fracture": Entry(Reliability.TOO_FEW)})


def test_flips_silences_and_raises_are_counted_of_what_was_stated() -> None:
    clean, changed = np.full((5, 14), 0.37), np.full((5, 14), 0.37)
    edema, fracture = FINDINGS.index("Edema"), FINDINGS.index("Fracture")
    clean[:, edema], changed[:, edema] = (0.9, 0.5, 0.1, 0.9, 0.37), (0.1, 0.8, 0.5, 0.37, 0.9)
    clean[:, fracture], changed[:, fracture] = 0.9, 0.1  # never spoken of
    sides = [statements.sides(p, a_calibration()) for p in (clean, changed)]
    found = statements.flips(*sides)
    assert found["Edema"] == {"stated": 4, "flipped": 2, "silenced": 1, "unstated": 1, "raised": 1}
    assert found["Fracture"] == {"stated": 0, "flipped": 0, "silenced": 0, "unstated": 5, "raised": 0}
    assert statements.total(found) == {
        "stated": 4, "flipped": 2, "silenced": 1, "unstated": 66, "raised": 1, "flip_share": 0.5,
    }  # fmt: skip
    assert statements.total({"Fracture": found["Fracture"]})["flip_share"] is None


def labelled(*columns: tuple[float, ...]) -> NDArray[np.float64]:
    labels = np.full((len(columns[0]), 14), np.nan)
    labels[:, : len(columns)] = np.array(columns).T
    return labels


def test_losses_are_paired_and_agree_with_the_plain_score() -> None:
    rng = np.random.default_rng(2)
    labels = labelled((0, 0, 1, 1, 0, 1), (1, np.nan, 0, 0, 1, 1), (0, 0, 0, 0, 0, 0))
    truth = assess.Truth(labels, tuple("aabcde"))
    clean, worse = rng.random((6, 14)), rng.random((6, 14))
    found = assess.losses(truth, clean, {"worse": worse, "same": clean}, seed=1)
    assert found.clean == pytest.approx(scores.macro_auroc(labels, clean))
    assert found.changed["worse"] == pytest.approx(scores.macro_auroc(labels, worse))
    assert found.loss("same") == 0.0 and set(found.sampled["same"]) <= {0.0, None}
    assert len(found.sampled["worse"]) == scores.RESAMPLES
    between = assess.difference(found, found, "worse")
    assert between == {"loss": 0.0, "loss_ci": (0.0, 0.0)}
    unlabelled = assess.losses(replace(truth, labels=labelled((1, 1, 1, 1, 1, 1))), clean, {"same": clean}, seed=1)
    assert (unlabelled.clean, unlabelled.loss("same")) == (None, None)
    assert assess.difference(unlabelled, unlabelled, "same") == {"loss": None, "loss_ci": None}


def test_label_f1_uses_the_operating_points() -> None:
    p = np.zeros((4, 14))
    p[:, 0] = (0.41, 0.39, 0.9, 0.1)
    truth = assess.Truth(labelled((1, 1, 0, 0)), tuple("abcd"))
    assert assess.label_f1(truth, p, a_calibration()) == 0.5
