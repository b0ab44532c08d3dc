"""Where a finding shows: maps of random networks, boxes of drawn maps, and the picture."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from knowledge_base.findings import FINDINGS, NO_FINDING, Laterality, Polarity
from rag_service.calibration import Confidence, Tier
from rag_service.conformal import Presence
from rag_service.explain import anatomy
from rag_service.explain.boxes import THRESHOLD, apparent_side, boxes
from rag_service.explain.picture import HEIGHT, picture
from rag_service.explain.places import place_maps
from rag_service.explain.saliency import LastStage, Saliency
from rag_service.imaging.film import Box, Film, Frame
from rag_service.models.encoder import FilmEncoder, to_input
from rag_service.models.network import FilmNetwork
from rag_service.report.draft import Draft, Finding, Provenance, Status, Uncertainty

LEFT, RIGHT, BOTH = Laterality.LEFT, Laterality.RIGHT, Laterality.BILATERAL


def hooks(module: torch.nn.Module) -> int:
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return sum(len(getattr(m, kind)) for m in module.modules() for kind in kinds)


def test_maps_of_several_findings(encoder: FilmEncoder, stored: NDArray[np.uint8]) -> None:
    saliency = Saliency(encoder.network)
    early = encoder.read_stored(stored[:1])[0].maps
    found = saliency.maps(early, ["Edema", "Cardiomegaly", "Fracture"])
    assert (found.shape, found.dtype) == ((3, 64, 64), np.float32)
    assert found.min() >= 0.0
    assert found.max() <= 1.0
    assert found.max() > 0.0
    again = saliency.maps(early, ["Edema", "Cardiomegaly", "Fracture"])
    assert found.tobytes() == again.tobytes()
    assert np.allclose(saliency.maps(early, ["Cardiomegaly"])[0], found[1], atol=1e-5)


def test_nothing_is_left_behind_after_a_map(
    make_network: Callable[[int], FilmNetwork], stored: NDArray[np.uint8]
) -> None:
    network = make_network(3)
    saliency, tail = Saliency(network), LastStage(network)
    early, maps = network.stages(to_input(stored[:1], 64))
    before = hooks(network), hooks(saliency._tail)
    saliency.maps(early[0].detach(), ["Edema"])
    assert (hooks(network), hooks(saliency._tail)) == before == (0, 0)
    assert not network.training
    with torch.no_grad():
        assert torch.allclose(tail(early), network.logits(network.read_maps(early, maps).centre), atol=1e-5)


def test_hooks_are_gone_after_an_error_too(make_network: Callable[[int], FilmNetwork]) -> None:
    network = make_network(3)
    saliency = Saliency(network)
    with pytest.raises(RuntimeError):
        saliency.maps(torch.zeros(7, 4, 4), ["Edema"])
    assert hooks(saliency._tail) == 0
    assert hooks(network) == 0


def test_films_read_at_the_same_time_keep_their_own_maps(encoder: FilmEncoder, stored: NDArray[np.uint8]) -> None:
    saliency = Saliency(encoder.network)
    films = [torch.rand(192, 4, 4, generator=torch.Generator().manual_seed(i)) for i in range(6)]
    alone = [saliency.maps(film, ["Edema", "Fracture"]) for film in films]
    with ThreadPoolExecutor(4) as threads:
        reading = [threads.submit(encoder.read_stored, stored[:1]) for _ in range(12)]
        together = list(threads.map(lambda film: saliency.maps(film, ["Edema", "Fracture"]), films))
    assert len({r.result()[0].probabilities.tobytes() for r in reading}) == 1
    for one, other in zip(alone, together, strict=True):
        assert np.allclose(one, other, atol=1e-6)


def test_maps_listen_to_a_module_of_their_own(encoder: FilmEncoder) -> None:
    tail = LastStage(encoder.network)
    assert tail.exit not in set(encoder.network.modules())


def test_no_findings_no_maps(encoder: FilmEncoder) -> None:
    assert Saliency(encoder.network).maps(torch.zeros(192, 4, 4), []).shape == (0, 64, 64)


def test_where_nothing_speaks_for_a_finding_the_map_is_zero(encoder: FilmEncoder) -> None:
    with torch.no_grad():
        encoder.network.findings.weight.zero_()
    found = Saliency(encoder.network).maps(torch.rand(192, 4, 4), ["Edema"])
    assert not found.any()
    assert boxes(found[0], "Edema") is None


def spot(*places: tuple[int, int, int, int, float]) -> NDArray[np.float32]:
    """A map with rectangles (top, left, bottom, right, height) in cells of 64."""
    saliency = np.zeros((64, 64), np.float32)
    for top, left, bottom, right, height in places:
        saliency[top:bottom, left:right] = height
    return saliency


def test_one_box_by_hand() -> None:
    assert boxes(spot((24, 12, 32, 24, 1.0)), "Lung Opacity") == (Box(12 / 64, 24 / 64, 24 / 64, 32 / 64, 1.0),)


def test_boxes_by_mass_heaviest_first() -> None:
    found = boxes(spot((24, 14, 32, 22, 1.0), (24, 42, 40, 50, 1.0)), "Lung Opacity")
    assert found == (
        Box(42 / 64, 24 / 64, 50 / 64, 40 / 64, 1.0),
        Box(14 / 64, 24 / 64, 22 / 64, 32 / 64, 0.5),
    )


def test_light_and_faint_places_are_left_out() -> None:
    heavy = (20, 42, 40, 50, 1.0)
    assert len(boxes(spot(heavy, (20, 14, 40, 22, THRESHOLD - 0.01)), "Lung Opacity") or ()) == 1
    assert len(boxes(spot(heavy, (24, 14, 28, 18, 1.0)), "Lung Opacity") or ()) == 1
    assert len(boxes(spot(heavy, (24, 14, 32, 22, 1.0)), "Lung Opacity") or ()) == 2


def test_at_most_three_boxes() -> None:
    four = spot((16, 14, 22, 20, 1.0), (30, 14, 36, 20, 1.0), (16, 43, 22, 49, 1.0), (30, 43, 36, 49, 1.0))
    found = boxes(four, "Lung Opacity")
    assert found is not None
    assert [(b.x_min * 64, b.y_min * 64) for b in found] == [(14, 16), (43, 16), (14, 30)]


def test_no_finding_has_no_place() -> None:
    assert boxes(spot((24, 12, 32, 24, 1.0)), NO_FINDING) is None
    assert set(anatomy.REGIONS) == set(FINDINGS) - {NO_FINDING}
    with pytest.raises(KeyError):
        anatomy.prior(NO_FINDING)


def test_a_place_outside_the_region_gives_way_to_one_inside() -> None:
    corner_and_base = spot((0, 0, 6, 6, 1.0), (42, 12, 48, 18, 0.5))
    assert boxes(corner_and_base, "Pleural Effusion") == (Box(12 / 64, 42 / 64, 18 / 64, 48 / 64, 1.0),)
    assert boxes(corner_and_base, "Support Devices") is not None


@pytest.mark.parametrize("finding", sorted(anatomy.REGIONS))
def test_a_region_weighs_between_floor_and_one(finding: str) -> None:
    weights = anatomy.prior(finding)
    assert (weights.shape, weights.dtype) == ((64, 64), np.float32)
    assert weights.min() >= np.float32(anatomy.FLOOR)
    assert weights.max() == 1.0


def test_the_heart_lies_left_of_the_middle_and_lungs_on_both_sides() -> None:
    heart, lungs = anatomy.prior("Cardiomegaly"), anatomy.prior("Lung Opacity")
    assert heart[38, 44] == 1.0
    assert heart[38, 8] == np.float32(anatomy.FLOOR)
    assert (lungs[28, 18], lungs[28, 46]) == (1.0, 1.0)
    assert lungs[28, 32] < 0.5


@pytest.mark.parametrize(
    ("x_min", "x_max", "side"),
    [
        (0.1, 0.3, RIGHT), (0.1, 0.55, RIGHT), (0.1, 0.56, BOTH), (0.45, 0.9, LEFT), (0.44, 0.9, BOTH), (0.7, 0.9, LEFT),
    ],
)  # fmt: skip
def test_the_viewers_left_is_the_patients_right(x_min: float, x_max: float, side: Laterality) -> None:
    assert anatomy.side(x_min, x_max) is side


RIGHT_BOX, LEFT_BOX = Box(0.1, 0.4, 0.3, 0.6), Box(0.7, 0.4, 0.9, 0.6, 0.5)


@pytest.mark.parametrize(
    ("found", "finding", "side"),
    [
        ((RIGHT_BOX,), "Pneumothorax", RIGHT),
        ((LEFT_BOX, LEFT_BOX), "Pneumothorax", LEFT),
        ((RIGHT_BOX, LEFT_BOX), "Pneumothorax", BOTH),
        ((LEFT_BOX,), "Cardiomegaly", None),
        ((LEFT_BOX,), "Edema", None),
        ((), "Pneumothorax", None),
        (None, "Pneumothorax", None),
    ],
)
def test_the_side_of_a_finding(found: tuple[Box, ...] | None, finding: str, side: Laterality | None) -> None:
    assert apparent_side(found, finding) is side


def a_finding(label: str, polarity: Polarity, *places: Box, sentence: str = "There is an opacity.") -> Finding:
    return Finding(
        id=label.lower(), label=label, sentence=sentence, polarity=polarity, laterality=None, location=None, severity=None,
        progression=None, boxes=places or None, confidence=Confidence(0.8, (0.7, 0.9), Tier.MEDIUM, (Presence.PRESENT,)),
        uncertainty=Uncertainty(0.1, (), 0.0), citations=(), counter_evidence=(),
    )  # fmt: skip


def drawn(*findings: Finding, reasons: tuple[str, ...] = (), frame: Frame = Frame(512, 256)) -> Image.Image:  # noqa: B008
    draft = Draft(
        Status.ABSTAINED if reasons else Status.DRAFT, reasons, findings, None, (), (), None, {}, (),
        Provenance("m", "p", "i", "k", "t", 1, "f"),
    )  # fmt: skip
    film = Film(np.full((frame.rows, frame.columns), 0.5, np.float32), frame, "00" * 32, "image/png")
    content = picture(film, draft)
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    assert content == picture(film, draft)
    return Image.open(BytesIO(content))


def coloured(image: Image.Image, width: int) -> NDArray[np.bool_]:
    """Where the film's part of the picture is not grey."""
    part = np.asarray(image)[:, :width].astype(int)
    return np.ptp(part, axis=2) > 0


def test_the_picture_keeps_the_films_aspect() -> None:
    assert drawn().size == (512 + 460, HEIGHT)
    assert drawn(frame=Frame(256, 256, 2.0)).size == (512 + 460, HEIGHT)
    assert not coloured(drawn(), 512).any()


def test_the_edges_of_a_box_are_painted_in_the_colour_of_its_sentence() -> None:
    image = drawn(a_finding("Edema", Polarity.POSITIVE, Box(0.25, 0.25, 0.75, 0.5)))
    pixels = np.asarray(image)
    for y, x in ((384, 129), (511, 300), (384, 383), (300, 128)):
        assert tuple(pixels[y, x]) == (255, 196, 0)
    assert tuple(pixels[384, 256]) == (128, 128, 128)
    assert not coloured(image, 512)[:250].any()


def test_the_second_sentence_has_another_colour_and_the_denied_have_no_box() -> None:
    box = Box(0.25, 0.25, 0.75, 0.5)
    image = drawn(a_finding("Edema", Polarity.NEGATIVE, box), a_finding("Fracture", Polarity.UNCERTAIN, box))
    assert tuple(np.asarray(image)[384, 129]) == (0, 200, 255)
    assert not coloured(drawn(a_finding("Edema", Polarity.NEGATIVE, box)), 512).any()


def test_long_sentences_and_reasons_are_written_beside_the_film() -> None:
    image = drawn(a_finding("Edema", Polarity.POSITIVE, sentence="opacity " * 40))
    panel = np.asarray(image)[:, 520:].astype(int)
    rows = np.flatnonzero((np.ptp(panel, axis=2) > 100).any(1))
    assert rows.max() > 200
    abstained = np.asarray(drawn(reasons=("not_chest",)))[20:60, 520:].astype(int)
    assert (np.ptp(abstained, axis=2) > 100).any()


def test_place_maps_are_the_findings_own_channels_over_the_whole_film() -> None:
    places = np.zeros((17, 4, 4), np.float32)
    places[FINDINGS.index("Edema")], places[FINDINGS.index("Fracture"), 0, 0] = 0.25, 1.0
    found = place_maps(places, ["Fracture", "Edema"])
    assert found.shape == (2, 64, 64)
    assert found[0, 0, 0] == 1.0
    assert found[0, 32:, 32:].max() == 0.0
    assert np.allclose(found[1], 0.25)
    assert place_maps(places, []).shape == (0, 64, 64)
