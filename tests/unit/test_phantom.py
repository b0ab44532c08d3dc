"""The digital thorax: same question, same bytes; every box tight; every file readable; every side the right one."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from io import BytesIO

import numpy as np
import pydicom
import pytest
from PIL import Image

from eval.phantom import devices, files, pathology
from eval.phantom.__main__ import main
from eval.phantom.anatomy import Anatomy
from eval.phantom.cases import CASES
from eval.phantom.pathology import Pathology
from eval.phantom.thorax import Phantom, render
from knowledge_base.findings import Laterality

RIGHT, LEFT = Laterality.RIGHT, Laterality.LEFT
PATIENT = Anatomy(seed=4)
ITEMS: tuple[Pathology, ...] = (
    pathology.PleuralEffusion(RIGHT),
    pathology.PleuralEffusion(LEFT, 50.0),
    pathology.Pneumothorax(LEFT),
    pathology.Nodule(RIGHT),
    pathology.Nodule(LEFT, 0.6, 0.3, 40.0),
    pathology.Consolidation(RIGHT, "upper"),
    pathology.Consolidation(LEFT, "lower"),
    pathology.Atelectasis(RIGHT),
    pathology.RibFracture(LEFT),
    pathology.HiatalHernia(),
    devices.EndotrachealTube(),
    devices.NasogastricTube(),
    devices.NasogastricTube(misplaced=True),
    devices.CentralVenousLine(),
    devices.Pacemaker(),
    devices.SternalWires(),
)


@cache
def film(*items: Pathology, rows: int = 256, columns: int = 210, seed: int = 0, anatomy: Anatomy = PATIENT) -> Phantom:
    """One small film, rendered once."""
    return render(anatomy, items, rows=rows, columns=columns, seed=seed)


def test_equal_arguments_give_equal_bytes() -> None:
    once = render(PATIENT, (pathology.Nodule(RIGHT),), rows=128, columns=105, seed=3)
    again = render(Anatomy(seed=4), (pathology.Nodule(RIGHT),), rows=128, columns=105, seed=3)
    assert once.pixels.tobytes() == again.pixels.tobytes()
    assert once.findings == again.findings
    assert files.dicom(once) == files.dicom(again)


def test_exposure_and_person_have_seeds_of_their_own() -> None:
    base, other_noise = film(), film(seed=1)
    assert 0 < np.abs(base.pixels - other_noise.pixels).mean() < 0.01
    other_person = film(anatomy=replace(PATIENT, seed=5))
    assert np.abs(base.pixels - other_person.pixels).mean() > 0.01
    assert other_noise.heart == base.heart != other_person.heart


def test_pixels_are_a_film() -> None:
    pixels = film().pixels
    assert pixels.dtype == np.float32 and pixels.shape == (256, 210)
    assert 0.0 <= pixels.min() < 0.05 and 0.9 < pixels.max() <= 1.0


@pytest.mark.parametrize("item", ITEMS, ids=lambda i: f"{type(i).__name__}-{getattr(i, 'side', '')}")
def test_box_holds_what_the_finding_changes_and_no_more(item: Pathology) -> None:
    with_it = film(item)
    (truth,) = with_it.findings
    change = np.abs(with_it.pixels - film().pixels)
    seen = change > 0.2 * change.max()
    rows, columns = np.flatnonzero(seen.any(axis=1)) + 0.5, np.flatnonzero(seen.any(axis=0)) + 0.5
    box, slack = truth.box, 0.03
    assert box.y_min - slack <= rows[0] / 256 and rows[-1] / 256 <= box.y_max + slack
    assert box.x_min - slack <= columns[0] / 210 and columns[-1] / 210 <= box.x_max + slack
    assert (rows[-1] - rows[0]) / 256 > 0.55 * (box.y_max - box.y_min)
    assert (columns[-1] - columns[0]) / 210 > 0.55 * (box.x_max - box.x_min) - 0.02


def test_oedema_has_a_box_per_lung() -> None:
    found = film(pathology.Edema(0.7)).findings
    assert [(t.label, t.laterality) for t in found] == [("Edema", RIGHT), ("Edema", LEFT)]
    assert found[0].box.x_max < 0.56 and found[1].box.x_min > 0.44


def test_the_patients_right_is_on_the_viewers_left() -> None:
    plain = film()
    assert plain.right_lung.x_max < 0.55 and plain.left_lung.x_min > 0.45
    assert plain.heart.x_max - 0.5 > 0.5 - plain.heart.x_min
    assert film(pathology.PleuralEffusion(RIGHT)).findings[0].box.x_max < 0.55
    assert film(pathology.Pneumothorax(LEFT)).findings[0].box.x_min > 0.45
    assert plain.right_lung.y_max < plain.left_lung.y_max


def test_effusion_is_white_and_pneumothorax_black() -> None:
    for item, sign in ((pathology.PleuralEffusion(RIGHT), 1), (pathology.Pneumothorax(LEFT), -1)):
        change = film(item).pixels - film().pixels
        assert sign * change[np.abs(change).argmax() // 210, np.abs(change).argmax() % 210] > 0.1


def test_cardiothoracic_ratio_follows_the_heart() -> None:
    ratios = [Anatomy(heart_width=w).cardiothoracic_ratio for w in (0.85, 1.0, 1.15, 1.3, 1.45)]
    assert ratios == sorted(set(ratios))
    assert 0.42 < ratios[1] < 0.5
    big = film(pathology.Cardiomegaly(0.6))
    assert big.cardiothoracic_ratio == pytest.approx(0.6, abs=1e-4)
    (truth,) = big.findings
    assert truth.label == "Cardiomegaly" and truth.box == big.heart
    assert big.heart.x_max - big.heart.x_min > film().heart.x_max - film().heart.x_min


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("signed", [False, True])
def test_every_bit_depth_reads_back(bits: int, signed: bool) -> None:
    dataset = pydicom.dcmread(BytesIO(files.dicom(film(), bits_stored=bits, signed=signed)))  # type: ignore[arg-type]
    assert (dataset.BitsStored, dataset.PixelRepresentation, dataset.PatientName) == (bits, int(signed), "PHANTOM^ONE")
    values = dataset.pixel_array.astype(np.int64) + int(dataset.RescaleIntercept)
    assert np.array_equal(values, files.quantised(film(), bits))


@pytest.mark.parametrize("syntax", files.TRANSFER_SYNTAXES)
def test_every_transfer_syntax_reads_back(syntax: str) -> None:
    bits = 8 if syntax == files.JPEG_BASELINE else 12
    raw = files.dicom(film(), bits_stored=bits, transfer_syntax=syntax, modality="CR", window=(2048.0, 4096.0))  # type: ignore[arg-type]
    dataset = pydicom.dcmread(BytesIO(raw))
    assert dataset.file_meta.TransferSyntaxUID == syntax
    difference = dataset.pixel_array.astype(np.int64) - files.quantised(film(), bits)
    assert np.abs(difference).max() <= (12 if syntax == files.JPEG_BASELINE else 0)


def test_monochrome_twins_show_one_picture() -> None:
    one, two = (pydicom.dcmread(BytesIO(files.dicom(film(), photometric=p))) for p in ("MONOCHROME1", "MONOCHROME2"))  # type: ignore[arg-type]
    assert np.array_equal(4095 - one.pixel_array, two.pixel_array)
    assert one.PresentationLUTShape == "INVERSE" and two.PresentationLUTShape == "IDENTITY"


def test_what_a_syntax_cannot_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="8-bit"):
        files.dicom(film(), bits_stored=12, transfer_syntax=files.JPEG_BASELINE)
    with pytest.raises(ValueError, match="cannot write"):
        files.dicom(film(), transfer_syntax="1.2.840.10008.1.2.4.70")


def test_pictures_read_back() -> None:
    assert np.array_equal(np.asarray(Image.open(BytesIO(files.png(film(), 16)))), files.quantised(film(), 16))
    assert np.array_equal(np.asarray(Image.open(BytesIO(files.png(film())))), files.quantised(film(), 8))
    assert Image.open(BytesIO(files.jpeg(film()))).size == (210, 256)


def test_impossible_patients_are_refused() -> None:
    with pytest.raises(ValueError, match="heart_width"):
        Anatomy(heart_width=3.0)
    with pytest.raises(ValueError, match="one side"):
        film(pathology.Nodule(Laterality.BILATERAL))
    with pytest.raises(ValueError, match="64"):
        film(rows=10)


def test_every_case_renders_and_the_command_writes(tmp_path: object) -> None:
    from pathlib import Path

    assert set(CASES) == {"demo", "effusion", "normal", "pneumothorax", "nodule", "devices", "edema", "consolidation"}
    labels = {
        n: [t.label for t in render(c.anatomy, c.pathologies, c.devices, rows=96, columns=80).findings]
        for n, c in CASES.items()
    }
    assert labels["effusion"] == ["Cardiomegaly", "Pleural Effusion"] and labels["normal"] == []
    out = Path(str(tmp_path)) / "film.png"
    main([str(out), "--case", "normal", "--truth", str(out.with_suffix(".json"))])
    with Image.open(out) as written:
        assert written.size == (840, 1024)
    assert out.with_suffix(".json").read_text().startswith("{")


def test_variants_are_pictures_of_something_else() -> None:
    from eval.phantom.variants import ct_slice, lateral

    side, axial = lateral(PATIENT, rows=256, columns=210), ct_slice(PATIENT, size=128)
    assert side.shape == (256, 210) and axial.shape == (128, 128)
    assert np.array_equal(side, lateral(PATIENT, rows=256, columns=210))
    for picture in (side, axial):
        assert picture.dtype == np.float32 and picture.min() >= 0.0 and 0.8 < picture.max() <= 1.0
    # The sternum (viewer's left) and the spine make a lateral film unlike its mirror image; lungs make air in a slice.
    assert np.abs(side - side[:, ::-1]).mean() > 0.03
    assert axial[64, 36] < 0.2 and axial[55, 64] > 0.6
