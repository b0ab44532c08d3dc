"""Region queries: geometry by hand, a tiny network asked by words and by a box, its files, and the shipped one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from knowledge_base.findings import FINDINGS
from knowledge_base.records import BoxLatent
from rag_service.errors import BadWeights
from rag_service.imaging.film import Box
from rag_service.models.box_fusion import BoxChoice
from rag_service.models.encoder import FilmReading
from rag_service.models.region_network import (
    QUERIES,
    STRUCTURES,
    TOKENS,
    FilmMaps,
    QueryShape,
    RegionNetwork,
    gaussian_shares,
    pool,
)
from rag_service.models.region_queries import (
    LISTING_FILE,
    WEIGHTS_FILE,
    RegionQueries,
    load_region_queries,
    maps_of,
    save_region_queries,
    shown,
)

SHAPE = QueryShape(width=16, text_width=8, heads=2, blocks=1, side=4, early=6, late=5, pooled=7)


class Text:
    """One unit vector a text, by its length."""

    def encode(self, texts: list[str]) -> np.ndarray:
        found = np.zeros((len(texts), 8), np.float32)
        found[np.arange(len(texts)), [len(t) % 8 for t in texts]] = 1.0
        return found


def a_reading(seed: int = 0) -> FilmReading:
    rng = np.random.default_rng(seed)
    return FilmReading(
        box=BoxLatent(np.zeros(2, np.float32), np.ones(2, np.float32)),
        probabilities=np.full(14, 0.5),
        spread=np.zeros(14),
        presentation=np.full(5, 0.2),
        pooled=rng.normal(size=7).astype(np.float32),
        maps=torch.from_numpy(rng.normal(size=(6, 4, 4)).astype(np.float32)),
        places=rng.uniform(0.1, 0.9, (17, 4, 4)).astype(np.float32),
        late=torch.from_numpy(rng.normal(size=(5, 2, 2)).astype(np.float32)),
    )


@pytest.fixture(scope="module")
def network() -> RegionNetwork:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        made = RegionNetwork(SHAPE).eval()
        torch.nn.init.normal_(made.known)
    return made


@pytest.fixture(scope="module")
def queries(network: RegionNetwork) -> RegionQueries:
    return RegionQueries("film@1", network, 2.0, BoxChoice(), "d")


def test_the_queries_are_fourteen_conditions_and_six_structures() -> None:
    assert (*FINDINGS, "cardiac", "left lung", "right lung", "mediastinum", "diaphragm", "spine") == QUERIES
    assert (len(STRUCTURES), TOKENS) == (6, 21)


def test_a_soft_box_is_one_at_its_middle_and_falls_off_as_a_gaussian() -> None:
    shares = gaussian_shares(torch.tensor([0.125, 0.125, 0.25, 0.5]), 4).view(4, 4)
    assert shares[0, 0] == 1.0
    assert shares[0, 1] == pytest.approx(np.exp(-1.0))  # one width aside
    assert shares[2, 0] == pytest.approx(np.exp(-1.0))  # one height below
    assert shares.argmax() == 0


def test_pooling_is_a_mean_under_the_box() -> None:
    places = torch.zeros(1, 16, 2)
    places[0, 5] = torch.tensor([3.0, -1.0])  # row 1, column 1
    found = pool(places, torch.tensor([[[0.375, 0.375, 0.01, 0.01]]]), 4)
    assert found[0, 0].tolist() == pytest.approx([3.0, -1.0])


def test_boxes_shown_are_those_that_count_and_say_something_new() -> None:
    boxes = np.array([[0.3, 0.3, 0.2, 0.2], [0.31, 0.3, 0.2, 0.2], [0.7, 0.7, 0.2, 0.2]], np.float32)
    found = shown(boxes, np.array([0.6, 0.9, 0.55], np.float32))
    assert [round(b.weight, 2) for b in found] == [0.9, 0.55] and found[0].x_min == pytest.approx(0.21)
    (only,) = shown(boxes, np.array([0.1, 0.2, 0.05], np.float32))
    assert only.weight == pytest.approx(0.2)
    (edge,) = shown(np.array([[1.0, 0.0, 0.0, 0.0]], np.float32), np.array([0.0], np.float32))
    assert 0.0 <= edge.x_min < edge.x_max <= 1.0 and edge.weight > 0


def test_a_query_sees_no_other_query(network: RegionNetwork) -> None:
    seen = network.look(maps_of([a_reading()]))
    alone = network.locate(seen, network.known[:1])
    among = network.locate(seen, network.known)
    assert torch.allclose(alone.boxes[0, 0], among.boxes[0, 0], atol=1e-5)
    assert torch.allclose(alone.features[0, 0], among.features[0, 0], atol=1e-5)


def test_words_are_answered(queries: RegionQueries) -> None:
    answer = queries.answer(a_reading(), "left effusion", Text())
    assert 1 <= len(answer.boxes) <= 3 and answer.presence is not None and 0.0 < answer.presence < 1.0
    assert answer.feature.shape == (16,) and answer.attention.shape == (4, 4)
    assert float(answer.attention.sum()) == pytest.approx(1.0, abs=1e-4)
    assert tuple(answer.likeness) == QUERIES and all(-1.0001 <= v <= 1.0001 for v in answer.likeness.values())
    assert answer.likeness[answer.nearest] == max(answer.likeness.values())
    other = queries.answer(a_reading(), "something else", Text())
    assert other.presence != answer.presence


def test_a_box_is_answered_with_what_lies_there(queries: RegionQueries) -> None:
    box = Box(np.float64(0.0), np.float64(0.0), np.float64(0.25), np.float64(0.25))
    answer = queries.answer(a_reading(), box, Text())
    assert answer.boxes == (box,) and answer.presence is None
    assert int(answer.attention.argmax()) == 0 and float(answer.attention.sum()) == pytest.approx(1.0)


def test_the_temperature_divides_the_logit(queries: RegionQueries) -> None:
    warm = queries.found(a_reading())["Edema"].presence
    plain = replace(queries, temperature=1.0).found(a_reading())["Edema"].presence
    assert warm is not None and plain is not None
    assert np.log(plain / (1 - plain)) == pytest.approx(2 * np.log(warm / (1 - warm)), rel=1e-4)


def test_tokens_are_the_film_and_the_queries_gated(queries: RegionQueries, network: RegionNetwork) -> None:
    tokens = queries.tokens(a_reading())
    assert tokens.shape == (TOKENS, queries.width) and tokens.dtype == np.float32
    seen = network.look(maps_of([a_reading()]))
    features = network.locate(seen, network.known).features
    gate = network.gated(seen, features).detach()
    assert 0.1 < float(gate) < 0.9
    assert torch.allclose(torch.from_numpy(tokens[0]), (gate * seen.whole)[0].detach(), atol=1e-5)
    assert torch.allclose(torch.from_numpy(tokens[1:]), ((1 - gate) * features[0]).detach(), atol=1e-5)


def test_boxes_are_joined_by_the_choice(queries: RegionQueries) -> None:
    answer = queries.found(a_reading())["Edema"]
    only = replace(queries, choice=BoxChoice(queries=0.0)).joined([Box(0.1, 0.1, 0.2, 0.2)], answer)
    assert [(b.x_min, b.y_max) for b in only] == [(pytest.approx(0.1), pytest.approx(0.2))]


def test_a_model_without_maps_cannot_be_asked(queries: RegionQueries) -> None:
    for bare in (replace(a_reading(), late=None), replace(a_reading(), places=None)):
        with pytest.raises(BadWeights, match="makes no maps"):
            queries.found(bare)


def test_files_read_back(tmp_path: Path, network: RegionNetwork) -> None:
    assert load_region_queries(tmp_path, "film@1") is None
    save_region_queries(tmp_path, "film@1", network, 1.5, BoxChoice(0.7, 1.1), "made up")
    found = load_region_queries(tmp_path, "film@1")
    assert found is not None and (found.temperature, found.choice) == (1.5, BoxChoice(0.7, 1.1))
    mine = RegionQueries("film@1", network, 1.5, BoxChoice(), "d").tokens(a_reading())
    assert np.allclose(found.tokens(a_reading()), mine, atol=0.05)  # float16
    with pytest.raises(BadWeights, match="made for film@1, the model is other"):
        load_region_queries(tmp_path, "other")


def test_damaged_files_are_refused(tmp_path: Path, network: RegionNetwork) -> None:
    save_region_queries(tmp_path, "film@1", network, 1.5, BoxChoice(), "made up")
    listing = (tmp_path / LISTING_FILE).read_text()
    (tmp_path / LISTING_FILE).write_text(listing.replace("1.5", "2.5"))
    with pytest.raises(BadWeights, match="altered or malformed"):
        load_region_queries(tmp_path, "film@1")
    (tmp_path / LISTING_FILE).write_text(listing)
    content = bytearray((tmp_path / WEIGHTS_FILE).read_bytes())
    content[-1] ^= 1
    (tmp_path / WEIGHTS_FILE).write_bytes(bytes(content))
    with pytest.raises(BadWeights, match="expected sha256"):
        load_region_queries(tmp_path, "film@1")


def test_weights_that_do_not_fit_or_are_not_finite_are_refused(tmp_path: Path, network: RegionNetwork) -> None:
    broken = RegionNetwork(SHAPE)
    broken.load_state_dict(network.state_dict())
    broken.shape = replace(SHAPE, width=32)
    save_region_queries(tmp_path, "film@1", broken, 1.0, BoxChoice(), "")
    with pytest.raises(BadWeights, match="do not fit each other"):
        load_region_queries(tmp_path, "film@1")
    broken.shape = SHAPE
    for temperature, value in ((1.0, float("nan")), (0.0, 0.0)):
        with torch.no_grad():
            broken.known[0, 0] = value
        save_region_queries(tmp_path, "film@1", broken, temperature, BoxChoice(), "")
        with pytest.raises(BadWeights, match="not finite"):
            load_region_queries(tmp_path, "film@1")


def test_maps_are_stacked_as_the_network_takes_them() -> None:
    maps = maps_of([a_reading(0), a_reading(1)])
    assert isinstance(maps, FilmMaps)
    assert [t.shape for t in (maps.early, maps.late, maps.places, maps.pooled)] == [
        (2, 6, 4, 4), (2, 5, 2, 2), (2, 17, 4, 4), (2, 7)
    ]  # fmt: skip
    chance = a_reading(1).places
    assert chance is not None and float(torch.sigmoid(maps.places[1, 3, 2, 1])) == pytest.approx(
        float(chance[3, 2, 1]), abs=1e-5
    )


def test_the_listing_says_what_it_belongs_to(tmp_path: Path, network: RegionNetwork) -> None:
    save_region_queries(tmp_path, "film@1", network, 1.5, BoxChoice(), "12 films")
    listing = json.loads((tmp_path / LISTING_FILE).read_text())
    assert (listing["model"], listing["sample"], listing["queries"]) == ("film@1", "12 films", list(QUERIES))
