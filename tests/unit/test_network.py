"""The film network: shapes, the box that is read from a film, and the mean over fixed points of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from rag_service.errors import BadWeights
from rag_service.imaging.film import Film, Frame
from rag_service.imaging.normalise import squeeze, stretch
from rag_service.models.catalogue import ModelRecord
from rag_service.models.encoder import FilmEncoder, presentation_of, samples, to_input
from rag_service.models.network import Architecture, FilmNetwork, GeneralisedMean


@pytest.fixture
def network(make_network: Callable[[int], FilmNetwork]) -> FilmNetwork:
    return make_network(0)


def test_shapes(network: FilmNetwork) -> None:
    with torch.no_grad():
        reading = network(torch.zeros(3, 1, 64, 64))
    assert tuple(reading.maps.shape) == (3, 96, 2, 2)
    assert tuple(reading.places.shape) == (3, 17, 4, 4)
    assert tuple(reading.pooled.shape) == (3, 96 + 192 + 14)
    assert tuple(reading.centre.shape) == tuple(reading.radius.shape) == (3, 4)
    assert tuple(reading.presentation.shape) == (3, 5)
    assert tuple(reading.projection.shape) == (3,)
    assert tuple(network.logits(reading.centre).shape) == (3, 14)
    assert tuple(network.logits(torch.zeros(3, 8, 4)).shape) == (3, 8, 14)
    assert tuple(network.tags(reading.centre).shape) == (3, 2)


@pytest.mark.parametrize("side", [64, 96, 128])
def test_the_network_reads_films_of_several_sizes(network: FilmNetwork, side: int) -> None:
    early, late = network.stages(torch.zeros(1, 1, side, side))
    assert tuple(early.shape) == (1, 192, side // 16, side // 16)
    assert tuple(late.shape) == (1, 96, side // 32, side // 32)


def test_stages_and_heads_are_the_whole_forward_pass(network: FilmNetwork, stored: NDArray[np.uint8]) -> None:
    films = to_input(stored[:2], 64)
    with torch.inference_mode():
        whole, parts = network(films), network.read_maps(*network.stages(films))
        trunk = network.trunk(films)  # timm's own path: the stages are all of it but its head
    assert all(torch.equal(getattr(whole, f.name), getattr(parts, f.name)) for f in fields(whole))
    assert torch.allclose(trunk, whole.maps.mean((2, 3)), atol=1e-5)


def test_peaks_by_hand() -> None:
    places = torch.zeros(1, 17, 2, 2)
    places[0, 3] = torch.tensor([[0.0, 0.0], [0.0, 4.0]])
    peaks = FilmNetwork.peaks(places)
    assert tuple(peaks.shape) == (1, 14)
    assert peaks[0, 0].item() == pytest.approx(0.0, abs=1e-6)
    # ln((3 + e^8) / 4) / 2: near the highest place, less what three empty ones take off.
    assert peaks[0, 3].item() == pytest.approx(np.log((3 + np.exp(8.0)) / 4) / 2, abs=1e-5)


def test_every_radius_is_above_the_floor(make_network: Callable[[int], FilmNetwork]) -> None:
    network = make_network(1)
    with torch.no_grad():
        network.box_radius.bias.fill_(-50.0)
        network.box_radius.weight.zero_()
        radius = network(torch.zeros(1, 1, 64, 64)).radius
    assert radius.flatten().tolist() == pytest.approx([0.02] * 4)


def test_a_new_network_has_one_radius_for_all_films() -> None:
    network = FilmNetwork(Architecture("test_resnet", 64, 4, tags=("normal",))).eval()
    with torch.no_grad():
        radius = network(torch.rand(2, 1, 64, 64)).radius
    assert radius.flatten().tolist() == pytest.approx([0.02 + np.log1p(np.exp(-1.5))] * 8)
    assert network.domain_offset.weight.shape == (1, 14)


def test_the_generalised_mean_by_hand() -> None:
    maps = torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 1, 2, 2)
    assert GeneralisedMean(1.0)(maps).item() == pytest.approx(2.5)
    assert GeneralisedMean(3.0)(maps).item() == pytest.approx(25.0 ** (1 / 3))  # (1 + 8 + 27 + 64) / 4
    assert GeneralisedMean(0.1)(maps).item() == pytest.approx(2.5)  # the power is held in 1 ... 8
    assert GeneralisedMean(3.0)(torch.zeros(1, 1, 2, 2)).item() == pytest.approx(1e-5)


def test_the_points_of_a_box_are_the_same_every_time_and_mirrored() -> None:
    points = samples(128)
    assert tuple(points.shape) == (8, 128)
    assert torch.equal(points, samples(128))
    assert not torch.equal(points, samples(128, seed=1))
    assert torch.equal(points[:4], -points[4:])
    assert points.sum(0).abs().max() < 1e-6
    assert points.abs().max() <= 1.0
    assert len({tuple(p) for p in points.tolist()}) == 8


def test_drawing_points_leaves_the_global_generator_alone() -> None:
    state = torch.get_rng_state()
    samples(16)
    assert torch.equal(torch.get_rng_state(), state)


def test_one_point_is_the_centre(make_network: Callable[[int], FilmNetwork], stored: NDArray[np.uint8]) -> None:
    assert samples(4, 1).tolist() == [[0.0] * 4]
    network = make_network(0)
    one = FilmEncoder(record_of(network), network, bl_tta=1).read_stored(stored[:1])[0]
    at_centre = torch.sigmoid(network.logits(torch.from_numpy(one.box.centre)))
    assert one.probabilities.tolist() == pytest.approx(at_centre.tolist(), abs=1e-6)
    assert one.spread.tolist() == [0.0] * 14


def record_of(network: FilmNetwork) -> ModelRecord:
    return ModelRecord("tiny", "1", "tiny.safetensors", "ab" * 32, "p@1", "none", network.architecture.to_json())


def test_a_reading_is_the_mean_over_the_points(encoder: FilmEncoder, stored: NDArray[np.uint8]) -> None:
    reading = encoder.read_stored(stored[:1])[0]
    points = reading.box.centre + reading.box.radius * samples(4).numpy()
    logits = points @ encoder.finding_weights.T + encoder.network.findings.bias.detach().numpy()
    chances = 1 / (1 + np.exp(-logits))
    assert reading.probabilities.tolist() == pytest.approx(chances.mean(0).tolist(), abs=1e-5)
    assert reading.spread.tolist() == pytest.approx(chances.std(0).tolist(), abs=1e-5)
    assert (reading.spread > 0).all()
    assert reading.presentation.sum() == pytest.approx(1.0)
    assert (reading.box.radius > 0.02).all()
    assert (reading.pooled.shape, tuple(reading.maps.shape)) == ((302,), (192, 4, 4))


def test_a_box_read_before_is_read_again_from_its_centre_and_radius(
    encoder: FilmEncoder, stored: NDArray[np.uint8]
) -> None:
    readings = encoder.read_stored(stored)
    centre, radius = (np.stack([getattr(r.box, part) for r in readings]) for part in ("centre", "radius"))
    mean, spread = encoder.over_box(centre.astype(np.float64), radius.astype(np.float64), 8)
    assert mean.tolist() == [r.probabilities.tolist() for r in readings]
    assert spread.tolist() == [r.spread.tolist() for r in readings]
    assert encoder.probabilities_at(centre[None], radius[None]).tolist() == [mean.tolist()]
    alone, still = encoder.over_box(centre, radius, 1)
    assert not still.any()
    assert np.abs(alone - mean).max() > 0
    assert not np.array_equal(encoder.over_box(centre, radius, 32)[0], mean)


def test_a_film_reads_the_same_alone_and_in_a_batch(encoder: FilmEncoder, stored: NDArray[np.uint8]) -> None:
    together = encoder.read_stored(stored)
    for film, reading in zip(stored, together, strict=True):
        alone = encoder.read_stored(film[None])[0]
        assert np.allclose(alone.probabilities, reading.probabilities, atol=1e-5)
        assert np.allclose(alone.box.vector(), reading.box.vector(), atol=1e-5)
        assert np.allclose(alone.pooled, reading.pooled, atol=1e-4)
        assert torch.allclose(alone.maps, reading.maps, atol=1e-5)


def test_films_differ(encoder: FilmEncoder, stored: NDArray[np.uint8]) -> None:
    one, other = encoder.read_stored(stored[:2])
    assert one.box.w2_squared(other.box) > 0
    assert one.box.overlap(other.box) < 1


def test_a_film_is_read_as_the_corpus_stores_it(encoder: FilmEncoder) -> None:
    pixels = np.random.default_rng(0).random((300, 200), np.float32)
    film = Film(pixels, Frame(300, 200), "00" * 32, "image/png")
    kept = np.rint(stretch(squeeze(pixels)) * 255).astype(np.uint8)
    one, again = encoder.read(film), encoder.read(film)
    assert one.probabilities.tolist() == encoder.read_stored(kept[None])[0].probabilities.tolist()
    assert one.probabilities.tolist() == again.probabilities.tolist()
    assert one.box.vector().tobytes() == again.box.vector().tobytes()


@pytest.mark.parametrize("head", ["box_centre", "box_radius", "findings", "presentation"])
def test_numbers_that_are_not_finite_are_bad_weights(
    head: str, encoder: FilmEncoder, stored: NDArray[np.uint8]
) -> None:
    with torch.no_grad():
        getattr(encoder.network, head).weight[0, 0] = float("nan")
    with pytest.raises(BadWeights, match="tiny@1-abababab produced numbers that are not finite"):
        encoder.read_stored(stored[:1])


def test_input_is_scaled_and_centred() -> None:
    films = np.stack([np.zeros((256, 256), np.uint8), np.full((256, 256), 255, np.uint8)])
    ready = to_input(films, 64)
    assert tuple(ready.shape) == (2, 1, 64, 64)
    assert ready[0].unique().tolist() == pytest.approx([-2.0])
    assert ready[1].flatten().tolist() == pytest.approx([2.0] * 64 * 64)


def test_the_likeliest_presentation(encoder: FilmEncoder, stored: NDArray[np.uint8]) -> None:
    with torch.no_grad():
        encoder.network.presentation.bias.copy_(torch.tensor([0.0, 0.0, 0.0, 99.0, 0.0]))
    assert presentation_of(encoder.read_stored(stored[:1])[0]) == "inverted"


def test_squeezing_keeps_the_whole_field() -> None:
    film = np.zeros((512, 384), np.float32)
    film[:256] = 1.0
    small = squeeze(film)
    assert (small.shape, small.dtype) == ((256, 256), np.uint8)
    assert (small[:126] == 255).all()
    assert (small[130:] == 0).all()


def test_stretching_maps_the_percentiles_to_the_whole_range() -> None:
    ramp = np.tile(np.arange(50, 178, dtype=np.uint8).repeat(2), (256, 1))
    stretched = stretch(ramp)
    assert (stretched.min(), stretched.max(), stretched.dtype) == (0.0, 1.0, np.float32)
    assert stretched[0, 128] == pytest.approx(64 / 127, abs=0.01)
    assert stretch(np.full((256, 256), 80, np.uint8)).tolist() == np.zeros((256, 256)).tolist()
