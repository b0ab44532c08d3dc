"""A finding explained: by the service, as a picture, on the command line, and measured over a small folder."""

from __future__ import annotations

import json
from base64 import b64decode
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from eval import explanation_measures as measures
from eval import explanations, program
from eval.explanation_table import table
from knowledge_base.memory import MemoryStore
from rag_service import wiring
from rag_service.__main__ import main
from rag_service.datasets.nih import ReaderBox
from rag_service.errors import BadRequest, BadWeights
from rag_service.explain.explainer import Explainer
from rag_service.explain.explanation import from_values
from rag_service.explain.overlay import HEIGHT, NAMES, overlay
from rag_service.explain.superpixels import Superpixels
from rag_service.explain_request import ExplainRequest, Method
from rag_service.imaging.decode import decode
from rag_service.imaging.film import Film, Frame
from rag_service.models.box_fusion import BoxChoice
from rag_service.models.box_head import HeadedBackbone
from rag_service.models.encoder import FilmEncoder
from rag_service.models.network import Reading
from rag_service.models.region_network import QueryShape, RegionNetwork
from rag_service.models.region_queries import RegionQueries
from rag_service.reader import Reader
from rag_service.report.explained import ExplainAnswer
from rag_service.service import RadiographService
from rag_service.settings import Settings

SHAPLEY, LIME, GRAD_CAM, ATTENTION = Method.SHAPLEY, Method.LIME, Method.GRAD_CAM, Method.ATTENTION
QUARTERS = Superpixels(np.kron(np.array([[0, 1], [2, 3]]), np.ones((32, 32), np.int64)))


@pytest.fixture(scope="module")
def film(stored: NDArray[np.uint8]) -> bytes:
    out = BytesIO()
    Image.fromarray(stored[0]).save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def reader(whole_model: Path, film: bytes) -> Reader:
    """The whole tiny model, with region queries of random weights."""
    plain = wiring.build_reader(Settings(model_folder=str(whole_model)))
    seen = plain.encoder.read(decode(film))
    assert seen.late is not None
    shape = QueryShape(16, 8, 2, 1, len(seen.maps[0]), len(seen.maps), len(seen.late), len(seen.pooled))
    state = torch.get_rng_state()
    torch.manual_seed(3)
    network = RegionNetwork(shape).eval()
    with torch.no_grad():
        network.known.normal_()
    torch.set_rng_state(state)
    return replace(plain, queries=RegionQueries(plain.encoder.record.id, network, 1.0, BoxChoice(), "ab" * 32))


@pytest.fixture
def service(reader: Reader, words: Any) -> RadiographService:
    return RadiographService(reader, wiring.build_memory(MemoryStore(), reader.encoder, words))


def as_bytes(answer: ExplainAnswer) -> bytes:
    return json.dumps(answer.to_json(), sort_keys=True, allow_nan=False).encode()


def test_a_finding_is_explained_by_four_methods(service: RadiographService, film: bytes) -> None:
    answer = service.explain(ExplainRequest(film, "Lung Opacity", picture=True))
    assert [e.method for e in answer.explanations] == [GRAD_CAM, SHAPLEY, LIME, ATTENTION]
    assert answer.p is not None and 0.0 < answer.p < 1.0
    assert answer.log_odds is not None and answer.log_odds_blurred is not None
    shapley = answer.explanations[1]
    assert sum(shapley.values) == pytest.approx(answer.log_odds - answer.log_odds_blurred, abs=1e-9)
    assert shapley.fidelity is not None and shapley.fidelity > 0.5
    assert {len(e.values) for e in answer.explanations} == {len(answer.superpixels)}
    assert sum(s.area for s in answer.superpixels) == pytest.approx(1.0)
    assert [a.methods for a in answer.agreements][:2] == [(GRAD_CAM, SHAPLEY), (GRAD_CAM, LIME)]
    assert len(answer.agreements) == 6
    assert answer.provenance.queries == "ab" * 32
    with Image.open(BytesIO(b64decode(answer.picture or ""))) as image:
        assert (image.format, image.size) == ("PNG", (5 * 520 - 8, HEIGHT + 60))


def test_the_same_film_is_explained_in_the_same_way(service: RadiographService, film: bytes) -> None:
    asked = ExplainRequest(film, "Edema", (SHAPLEY, LIME))
    answer = service.explain(asked)
    assert as_bytes(answer) == as_bytes(service.explain(asked))
    assert answer.picture is None
    all_four = {e.method: e for e in service.explain(ExplainRequest(film, "Edema")).explanations}
    assert [all_four[e.method].values for e in answer.explanations] == [e.values for e in answer.explanations]


def test_a_film_that_is_turned_away_is_not_explained(
    service: RadiographService, film: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = service._reader
    monkeypatch.setattr(type(reader.gate), "judge", lambda *_: SimpleNamespace(reasons=("not_chest",)))
    answer = service.explain(ExplainRequest(film, "Edema", picture=True))
    assert (answer.abstain_reasons, answer.finding, answer.picture) == (("not_chest",), "Edema", None)
    assert (answer.explanations, answer.superpixels, answer.p) == ((), (), None)


def test_a_method_that_the_model_has_not_is_refused(reader: Reader, film: bytes) -> None:
    without = Explainer(reader.encoder)
    assert without.methods == (GRAD_CAM, SHAPLEY, LIME)
    picture = decode(film)
    with pytest.raises(BadWeights, match="no explanation by attention"):
        without.explain(picture, reader.encoder.read(picture), "Edema", [SHAPLEY, ATTENTION])


class Backbone(HeadedBackbone):
    """What a box head over another encoder offers: grey in the middle of the film is edema."""

    def __init__(self) -> None:
        self.findings = torch.nn.Linear(1, 14)

    def eval(self) -> Backbone:
        return self

    def read(self, stored: NDArray[np.uint8]) -> Reading:
        middle = torch.from_numpy(stored[:, 96:160, 96:160].mean((1, 2), keepdims=True)[:, :, 0] / 25.0).float()
        nothing = torch.zeros(len(stored), 1)
        return Reading(nothing[..., None, None], nothing, middle, nothing + 0.1, torch.zeros(len(stored), 5))

    def logits(self, points: torch.Tensor) -> torch.Tensor:
        return points.expand(*points.shape[:-1], 14)


def test_another_encoder_is_explained_by_occlusion_alone(reader: Reader) -> None:
    explainer = Explainer(FilmEncoder(reader.encoder.record, Backbone()), reader.queries)
    assert explainer.methods == (SHAPLEY, LIME)
    pixels = np.full((256, 256), 0.1, np.float32)
    pixels[104:152, 104:152] = 0.9
    picture = Film(pixels, Frame(256, 256), "00" * 32, "image/png")
    made = explainer.explain(picture, explainer.encoder.read(picture), "Lung Opacity")
    middle = np.zeros((64, 64), bool)
    middle[22:42, 22:42] = True
    for one in made.explanations:
        assert middle[one.map == 1.0].all()
    assert made.explanations[0].values.sum() == pytest.approx(made.film - made.blurred)


def test_the_maps_lie_over_the_film_side_by_side() -> None:
    picture = Film(np.full((64, 32), 0.5, np.float32), Frame(64, 32), "00" * 32, "image/png")
    values = np.array([1.0, 0.0, 0.0, 0.5])
    made = [from_values(m, "Lung Opacity", values, QUARTERS) for m in (SHAPLEY, LIME)]
    content = overlay(picture, "Lung Opacity", made)
    assert content == overlay(picture, "Lung Opacity", made)
    pixels = np.asarray(Image.open(BytesIO(content))).astype(int)
    assert pixels.shape == (HEIGHT + 60, 3 * 256 + 2 * 8, 3)
    assert pixels[34 + 10, 10].tolist() == [128, 128, 128]
    assert pixels[34 + 10, 264 + 10].tolist() == [204, 117, 51]  # the highest cell covers 0.6 of the film
    assert pixels[34 + 10, 528 + 250].tolist() == [128, 128, 128]
    painted = (pixels == (0, 220, 255)).all(2)
    assert painted[:, 264:520].any() and not painted[:, :256].any()
    assert set(NAMES) == set(Method)


def test_a_finding_is_explained_by_command(
    service: RadiographService,
    film: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "film.png").write_bytes(film)
    monkeypatch.setattr(wiring, "build_service", lambda _: service)
    command = ["explain", str(tmp_path / "film.png"), "--finding", "Edema", "--methods", "shapley,attention"]
    assert main([*command, "--picture", str(tmp_path / "maps.png")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Edema  p 0.") and ", of the blurred film " in lines[0]
    assert lines[1].startswith("shapley  fidelity ")
    assert lines[-1].startswith("shapley and attention: rank correlation ")
    assert (tmp_path / "maps.png").read_bytes().startswith(b"\x89PNG")
    assert main([*command, "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) >= {"superpixels", "explanations", "agreements", "log_odds"}
    assert main(["explain", str(tmp_path / "film.png"), "--finding", "gout"]) == 2
    assert "error [bad_request]: finding must be one of: " in capsys.readouterr().err
    monkeypatch.setattr(type(service._reader.gate), "judge", lambda *_: SimpleNamespace(reasons=("not_chest", "blank")))
    assert main(command) == 0
    assert capsys.readouterr().out == "not explained: not_chest, blank\n"


BOX = ReaderBox("a", "Edema", 0.0, 0.0, 0.5, 0.25)


def corner(value: float = 1.0) -> NDArray[np.float64]:
    """High in the upper left quarter."""
    places = np.zeros((64, 64))
    places[:32, :32] = value
    return places


def test_the_measures_of_a_map_by_hand() -> None:
    truth = measures.inside([BOX])
    assert truth.sum() == 32 * 16
    assert measures.inside([BOX, ReaderBox("a", "Edema", 0.5, 0.0, 1.0, 0.25)]).sum() == 64 * 16
    assert measures.pointing(corner(), truth) == 0.5  # half of the highest cells lie in the box
    assert measures.pointing(np.ones((64, 64)), truth) == 0.0
    assert measures.miou(corner(3.0), truth) == 0.5
    assert measures.miou(np.zeros((64, 64)), truth) == 0.0
    without = np.array([1.0] * 512 + [0.0] * 3072)
    assert measures.contrast(corner(), truth) == pytest.approx((1.0 - 512 / 3584) / without.std())
    assert measures.contrast(-corner(), truth) == pytest.approx(-(1.0 - 512 / 3584) / without.std())
    assert measures.contrast(np.ones((64, 64)), truth) is None


def test_taking_the_right_places_away_costs_the_score_early(stored: NDArray[np.uint8]) -> None:
    film = np.full((256, 256), 20, np.uint8)
    film[40:88, 40:88] = 250

    def scores(films: NDArray[np.uint8]) -> NDArray[np.float64]:
        return films[:, 40:88, 40:88].mean((1, 2)) / 10.0 - 18.0

    right, wrong = (measures.faithfulness(m, film, scores, 3) for m in (corner(), corner()[::-1, ::-1]))
    assert right[0] < wrong[0]
    assert right[1] > wrong[1]
    assert right == measures.faithfulness(corner(), film, scores, 3)
    assert min(*right, *wrong) >= 0.0 and max(*right, *wrong) <= 1.0


def test_controls_that_know_of_no_finding() -> None:
    middle = measures.centre()
    assert middle[31, 31] == middle.max() > 0.99
    assert middle[0, 0] == middle[63, 63] < 0.03
    step = np.zeros((256, 256), np.uint8)
    step[:, 128:] = 200
    assert set(measures.edges(step)[10].argsort()[-2:].tolist()) == {31, 32}


@pytest.fixture
def nih_folder(maker: Any) -> Path:
    """Three films of two patients with boxes, one of them with its markers."""
    lines = ["file,image,patient_id,view,age,sex,labels,source"]
    for number, (patient, source) in enumerate((("1", "original"), ("2", "markers_blacked_out"), ("2", "original"))):
        maker.film(f"images/{number}.png", number)
        lines.append(f"images/{number}.png,{number}.png,{patient},PA,50,M,Effusion,{source}")
    maker.table("images.csv", *lines)
    rows = [f"{n}.png,Effusion,{100 + 300 * n},600,200,300,NIH" for n in range(3)]
    maker.table("boxes_1024.csv", "image,finding,x,y,w,h,reader", *rows)
    return maker.folder  # type: ignore[no-any-return]


def test_the_class_prior_knows_nothing_of_its_own_patient(nih_folder: Path) -> None:
    asked = {one.row.path.stem: one for one in explanations.boxed(nih_folder, None, None, 7)}
    prior = explanations.class_priors(nih_folder)
    own = measures.inside(asked["0"].drawn)
    assert prior(asked["0"])[own].max() < 0.5  # of boxes of patient 2 none lies there
    assert prior(asked["1"])[own].max() > 0.5
    assert len(explanations.boxed(nih_folder, None, 2, 7)) == 2


def test_explanations_are_measured(nih_folder: Path, reader: Reader) -> None:
    result = explanations.measure(nih_folder, reader, None, None, 7)
    assert (result["n"], result["n_original"], result["sanity_films"]) == (3, 2, 3)
    named = ["grad_cam", "shapley", "lime", "attention", "place_map", *explanations.CONTROLS]
    assert list(result["maps"]) == named
    assert list(result["maps"]["lime"]) == ["pointing", "cnr", "miou", "deletion", "insertion"]
    assert result["shapley_sum_missed_by"] < 1e-9
    assert result["methods"]["shapley"]["fidelity"] > result["methods"]["grad_cam"]["fidelity"]
    assert result["methods"]["shapley"]["sanity_rank_correlation"] < 0.9
    assert result["pointing_per_finding"]["Pleural Effusion"]["n"] == 3
    pair = result["agreement"][3]
    assert pair["methods"] == ["shapley", "lime"] and pair["rank_correlation"]["mean"] > 0.2
    assert result["maps_original"]["centre"]["cnr"]["n"] == 2
    assert "films with their markers" in table(result)
    assert json.dumps(result, allow_nan=False)


def test_what_cannot_be_measured(nih_folder: Path, reader: Reader) -> None:
    other = replace(reader, encoder=FilmEncoder(reader.encoder.record, Backbone()))
    with pytest.raises(BadRequest, match="draws no maps"):
        explanations.measure(nih_folder, other, None, None, 7)


def test_explanations_by_command(
    nih_folder: Path,
    whole_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("RAG_MODEL_FOLDER", str(whole_model))
    out = tmp_path / "r.json"
    assert program.main(["explanations", str(nih_folder), "--limit", "1", "--seed", "3", "--json", str(out)]) == 0
    assert capsys.readouterr().out.startswith("1 findings with boxes, of films with their markers ")
    assert json.loads(out.read_text())["signature"]["queries"] is None
    (nih_folder / "boxes_1024.csv").write_text("image,finding,x,y,w,h,reader\n")
    assert program.main(["explanations", str(nih_folder)]) == 2
    assert "holds no reader box" in capsys.readouterr().err
