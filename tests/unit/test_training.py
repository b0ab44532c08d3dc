"""The training program on films of noise: losses by hand, augmentation by its generator, and the whole run in seconds."""

from __future__ import annotations

import csv
import io
import json
import math
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from knowledge_base.findings import FINDINGS
from rag_service.calibration import Reliability, load_calibration
from rag_service.datasets.films import Split, split_of
from rag_service.gate import load_gate
from rag_service.models import text
from rag_service.models.concepts import load_concepts
from rag_service.models.encoder import load_encoder
from rag_service.models.network import PRESENTATIONS, Architecture
from rag_service.models.starter import load_starter
from rag_service.training import __main__ as program
from rag_service.training import augment, concepts, corpus, loop, losses
from rag_service.training.corpus import DOMAINS, SOURCES, UNKNOWN, Corpus, PlaceTargets, build, stored_film
from rag_service.training.loop import Plan, Trainer, text_vectors
from rag_service.training.sparse_autoencoder import Recipe
from rag_service.views import load_views

PLAN = Plan(steps=3, batch=8, shifted=2, stages=((1.0, 64),))


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Four axes and a small trunk for every plan; torch's own generator is put back afterwards."""

    def architecture(_: Plan, tags: tuple[str, ...]) -> Architecture:
        return Architecture("test_resnet", 64, 4, joint_width=8, place_width=8, tags=tags, domains=DOMAINS)

    monkeypatch.setattr(Plan, "architecture", architecture)
    state = torch.get_rng_state()
    yield
    torch.set_rng_state(state)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_unknown_targets_do_not_count() -> None:
    logits = torch.tensor([[0.0, 99.0], [math.log(3.0), 0.0]])
    targets = torch.tensor([[1, -1], [0, -1]], dtype=torch.int8)
    # -ln 0.5 and -ln(1 - 0.75), over two known targets.
    assert losses.masked_bce(logits, targets).item() == pytest.approx((math.log(2) + math.log(4)) / 2)
    assert losses.masked_bce(logits, torch.full((2, 2), -1)).item() == 0.0


def test_containment_counts_what_sticks_out_of_the_box() -> None:
    centre, radius = torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0, 0.5]])
    assert losses.containment(centre, radius, torch.tensor([[0.9, 1.5]])).item() == 0.0
    assert losses.containment(centre, radius, torch.tensor([[3.0, 0.0]])).item() == pytest.approx((2.0 + 0.5) / 2)


def test_films_with_the_same_findings_want_to_be_near() -> None:
    labels = torch.full((4, 14), 0)
    labels[:2, 2], labels[2:, 5] = 1, 1
    together = torch.tensor([[0.0], [0.0], [9.0], [9.0]])
    apart = torch.tensor([[0.0], [9.0], [0.0], [9.0]])
    assert losses.neighbours(together, labels).item() < losses.neighbours(apart, labels).item()
    # Equally far from all three others, one of them shares the finding: -ln(1/3).
    assert losses.neighbours(torch.zeros(4, 1), labels).item() == pytest.approx(math.log(3))


def test_fewer_than_four_films_with_a_finding_have_no_neighbours() -> None:
    centre = torch.rand(6, 4, requires_grad=True)
    loss = losses.neighbours(centre, torch.tensor([[1] * 14] * 3 + [[0] * 14] * 2 + [[-1] * 14]))
    loss.backward()
    assert loss.item() == 0.0
    assert centre.grad is not None
    assert not centre.grad.any()


def test_captions_pull_a_film_to_its_own_text() -> None:
    raw = torch.eye(3)
    right = losses.captions(torch.eye(3), torch.eye(3), raw)
    wrong = losses.captions(torch.eye(3), torch.eye(3).roll(1, 0), raw)
    assert 0.0 <= right.item() < 0.1 < wrong.item()
    same = losses.captions(torch.eye(3), torch.eye(3), torch.ones(3, 3) / 3**0.5)
    assert math.isfinite(same.item())
    assert math.isfinite(losses.captions(torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(2, 4)).item())


def test_without_captions_and_copies_nothing_is_lost() -> None:
    nothing = torch.zeros(0, 4)
    assert losses.captions(nothing, nothing, torch.zeros(0, 384)).item() == 0.0
    assert losses.containment(nothing, nothing, nothing).item() == 0.0


def films(count: int = 16, side: int = 96) -> Tensor:
    return torch.rand(count, 1, side, side, generator=seeded(9))


def augmented(batch: Tensor, seed: int) -> Tensor:
    strength, generator = augment.Strength(), seeded(seed)
    moved = augment.resample(batch, augment.geometry(len(batch), strength, generator), 64)
    return augment.occlusion(augment.acquisition(moved, strength, generator), strength, generator)


def test_augmentation_follows_its_generator() -> None:
    batch = films()
    once, again, other = augmented(batch, 1), augmented(batch, 1), augmented(batch, 2)
    assert tuple(once.shape) == (16, 1, 64, 64)
    assert torch.equal(once, again)
    assert not torch.equal(once, other)
    assert torch.equal(batch, films())
    assert (once.min() >= 0.0, once.max() <= 1.0) == (True, True)


def test_films_are_never_mirrored_or_upside_down() -> None:
    batch = torch.zeros(64, 1, 96, 96)
    batch[:, :, :, :48] += 0.6
    batch[:, :, :48] += 0.3
    for seed in range(4):
        out = augmented(batch, seed)
        assert (out[..., :32].mean((1, 2, 3)) > out[..., 32:].mean((1, 2, 3))).all()
        assert (out[:, :, :32].mean((1, 2, 3)) > out[:, :, 32:].mean((1, 2, 3))).all()


def test_geometry_without_strength_only_resamples() -> None:
    still = augment.Strength(rotation_degrees=0.0, zoom=0.0, aspect=0.0, shift=0.0)
    batch = films(2, 64)
    assert torch.allclose(augment.resample(batch, augment.geometry(2, still, seeded()), 64), batch, atol=1e-5)


def test_turning_a_round_spot_leaves_it_round() -> None:
    turned = augment.Strength(rotation_degrees=40.0, zoom=0.0, aspect=0.0, shift=0.0)
    across = torch.linspace(-1, 1, 64)
    spot = torch.exp(-(across[None] ** 2 + across[:, None] ** 2) / 0.1).expand(8, 1, 64, 64)
    assert torch.allclose(augment.resample(spot, augment.geometry(8, turned, seeded()), 64), spot, atol=0.02)


def test_acquisition_without_strength_changes_nothing() -> None:
    same = replace(augment.Strength(), log_gamma=0.0, window=0.0, noise=0.0, blur_share=0.0)
    assert torch.allclose(augment.acquisition(films(), same, seeded()), films(), atol=1e-5)


def test_occlusion_paints_squares_near_the_edges_and_borders() -> None:
    grey = torch.full((64, 1, 100, 100), 0.5)
    squares = augment.occlusion(grey, augment.Strength(square_share=1.0, border_share=0.0), seeded(1))
    painted = squares != 0.5
    assert squares.unique().tolist() == pytest.approx([0.0, 0.5, 0.9])
    assert (painted.sum((1, 2, 3)) >= 16).all()
    assert (painted.sum((1, 2, 3)) <= 14 * 14).all()
    assert not painted[:, :, 40:60, 40:60].any()
    borders = augment.occlusion(grey, augment.Strength(square_share=0.0, border_share=1.0), seeded(1))
    edges = [(b[0] == 0).nonzero().unique(dim=0).shape[0] for b in borders]
    assert all(100 <= n <= 1000 for n in edges)
    assert torch.equal(augment.occlusion(grey, augment.Strength(square_share=0.0, border_share=0.0), seeded()), grey)
    assert (grey == 0.5).all()


def test_a_plan_grows_the_films_and_lets_the_rate_fall() -> None:
    plan = Plan(steps=100, stages=((0.5, 128), (0.3, 160), (0.2, 192)), warmup=0.1, learning_rate=1.0)
    assert [plan.side(s) for s in (0, 49, 50, 79, 80, 99, 100)] == [128, 128, 160, 160, 192, 192, 192]
    assert [plan.rate(s) for s in (0, 4, 9)] == pytest.approx([0.1, 0.5, 1.0])
    assert plan.rate(55) == pytest.approx(0.01 + 0.99 * 0.5)
    assert plan.rate(100) == pytest.approx(0.01)
    assert all(abs(sum(share for share, _ in p.stages) - 1.0) < 1e-9 for p in loop.PLANS.values())


def noise_corpus(count: int = 12) -> Corpus:
    """Every source a batch draws from, all for training: frontal and lateral films, and one of each other kind."""
    rng = np.random.default_rng(2)
    kinds = [("openi", "frontal")] * (count - 6) + [
        ("openi", "lateral"), ("nih", "frontal"), ("nih", "frontal"), ("cohen", "frontal"), ("rocov2", None),
        ("not_chest", "not_chest"),
    ]  # fmt: skip
    labels = rng.integers(0, 2, (count, 14)).astype(np.int8)
    labels[-2:] = UNKNOWN
    outline = np.zeros((64, 64), np.uint8)
    outline[16:48, 8:24] = 1
    return Corpus(
        films=rng.integers(0, 256, (count, 256, 256), np.uint8),
        labels=labels,
        tags=rng.integers(-1, 2, (count, 2)).astype(np.int8),
        tag_names=("normal", "lung"),
        presentation=np.array([UNKNOWN if p is None else PRESENTATIONS.index(p) for _, p in kinds], np.int8),
        projection=np.array([i % 2 if s == "nih" else UNKNOWN for i, (s, _) in enumerate(kinds)], np.int8),
        source=np.array([SOURCES.index(s) for s, _ in kinds], np.int8),
        domain=np.array([DOMAINS.index("openi/lateral" if p == "lateral" else s) for s, p in kinds], np.int8),
        split=np.array([Split.TRAIN.value] * count),
        texts=tuple("lungs" if i % 2 else "" for i in range(count)),
        studies=tuple(map(str, range(count))),
        places={i: PlaceTargets({2: outline, 14: outline}) for i, (s, _) in enumerate(kinds) if s == "nih"},
    )


def vectors_of(texts: Sequence[str]) -> NDArray[np.float32]:
    found = np.zeros((len(texts), 384), np.float32)
    for row, words in zip(found, texts, strict=True):
        row[len(words) % 384] = 1.0
    return found


def trainer(folder: Path, plan: Plan = PLAN) -> Trainer:
    films_ = noise_corpus()
    told = np.array([[bool(t)] for t in films_.texts])
    return Trainer(films_, vectors_of(films_.texts) * told.astype(np.float32), plan, folder)


def test_a_run_learns_saves_and_goes_on(tmp_path: Path) -> None:
    first = trainer(tmp_path)
    before = {k: v.clone() for k, v in first.network.state_dict().items()}
    first.run()
    assert first.step == 3
    assert any(not torch.equal(before[k], v) for k, v in first.network.state_dict().items())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint.pt", "log.jsonl"]
    again = trainer(tmp_path)
    again.run()
    assert again.step == 3
    for one, other in zip(first.averaged.state_dict().values(), again.averaged.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(
        again.averaged.state_dict()["findings.weight"], again.network.state_dict()["findings.weight"]
    )


def test_the_same_seed_gives_the_same_weights(tmp_path: Path) -> None:
    runs = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        runs.append(trainer(tmp_path / name, replace(PLAN, steps=2)))
        runs[-1].run()
    for one, other in zip(runs[0].network.parameters(), runs[1].network.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_checkpoint_of_another_plan_is_refused(tmp_path: Path) -> None:
    trainer(tmp_path, replace(PLAN, steps=1)).run()
    with pytest.raises(ValueError, match=r"checkpoint\.pt belongs to another plan"):
        trainer(tmp_path, replace(PLAN, steps=2)).run()


def test_a_second_leg_begins_with_the_averaged_weights_of_the_first(tmp_path: Path) -> None:
    first = trainer(tmp_path, replace(PLAN, steps=1))
    first.run()
    second = trainer(tmp_path / "new")
    second.start_from(tmp_path / "checkpoint.pt")
    for network in (second.network, second.averaged):
        assert torch.equal(network.findings.weight, first.averaged.findings.weight)


def test_progress_is_logged(tmp_path: Path) -> None:
    quick = trainer(tmp_path, replace(PLAN, steps=20, batch=4, shifted=1))
    quick.step = 19
    quick.run()
    line, validation = (tmp_path / "log.jsonl").read_text().splitlines()
    logged = json.loads(line)
    assert json.loads(validation)["macro_auroc"] is None  # no film of this corpus is for calibration
    assert (logged["step"], logged["side"]) == (20, 64)
    assert {k for k in logged if k not in {"step", "side", "seconds", "total"}} == set(loop._WEIGHTS)
    assert all(math.isfinite(v) for v in logged.values())


def test_spoilt_films_lose_their_findings(tmp_path: Path) -> None:
    batch = trainer(tmp_path, replace(PLAN, batch=64, turned_share=0.5, inverted_share=0.5))._batch()
    kinds = batch.presentation.tolist()
    assert {PRESENTATIONS.index("rotated"), PRESENTATIONS.index("inverted")} <= set(kinds)
    assert PRESENTATIONS.index("frontal") not in kinds
    spoilt = (batch.presentation == PRESENTATIONS.index("rotated")) | (
        batch.presentation == PRESENTATIONS.index("inverted")
    )
    assert (batch.labels[spoilt] == UNKNOWN).all()
    assert (batch.projection[spoilt] == UNKNOWN).all()
    assert not batch.texts[spoilt].any()
    assert not spoilt[batch.placed].any()


def test_texts_are_encoded_once(tmp_path: Path) -> None:
    asked: list[list[str]] = []

    def encode(texts: Sequence[str]) -> NDArray[np.float32]:
        asked.append(list(texts))
        return vectors_of(texts)

    first = text_vectors(("a", "", "bcd"), encode, tmp_path)
    assert [np.flatnonzero(row).tolist() for row in first] == [[1], [], [3]]
    assert text_vectors(("a", "", "bcd"), encode, tmp_path).tolist() == first.tolist()
    assert asked == [["a", "bcd"]]
    assert text_vectors(("a",), encode, tmp_path).shape == (1, 384)


def names(source: str, split: Split, count: int, stem: str) -> list[str]:
    """Patients that the fixed hash puts into a split."""
    return [n for n in (f"{stem}{i}" for i in range(1000)) if split_of(source, n) is split][:count]


def table(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    for seed, row in enumerate(rows):
        grey = np.random.default_rng(seed).integers(0, 255, (70, 60), np.uint8)
        Image.fromarray(grey).save(path.parent / row["file"])


def write_openi(folder: Path) -> None:
    studies = [s for split, n in ((Split.TRAIN, 8), (Split.CALIBRATION, 6)) for s in names("openi", split, n, "CXR")]
    rows = [{"file": f"{s}.png", "image_id": s, "study_id": s, "projection": "Frontal"} for s in studies]
    rows.append({"file": "side.png", "image_id": "x", "study_id": studies[0], "projection": "Lateral"})
    table(folder / "images.csv", rows)
    with tarfile.open(folder / "NLMCXR_reports.tgz", "w:gz") as tar:
        for index, study in enumerate(studies):
            tag = "Cardiomegaly/mild" if index % 2 else "normal"
            told = "" if index == 1 else f"<AbstractText Label='FINDINGS'>Film {study}.</AbstractText>"
            xml = f"<eCitation><uId id='{study}'/>{told}<major>{tag}</major></eCitation>".encode()
            member = tarfile.TarInfo(f"{study}.xml")
            member.size = len(xml)
            tar.addfile(member, io.BytesIO(xml))


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A folder in the shared layout, five sources, films of noise."""
    folder = tmp_path / "data"
    write_openi(folder / "openi")
    patients = names("nih", Split.TRAIN, 3, "n") + names("nih", Split.CALIBRATION, 2, "n")
    nih = {"view": "PA", "age": "60", "sex": "F", "labels": "Effusion|Mass", "rsna_opacity": ""}
    table(
        folder / "nih" / "images.csv",
        [{"file": f"{p}.png", "image": f"{p}.png", "patient_id": p, **nih} for p in patients],
    )
    sick = {"finding": "COVID-19", "view": "PA", "sex": "M"}
    table(
        folder / "cohen" / "metadata.csv",
        [{"file": f"{p}.png", "patientid": p, **sick} for p in names("cohen", Split.TRAIN, 2, "c")],
    )
    captions = {"r1": "A left pleural effusion.", "r2": "A film.", "r3": "A film."}
    table(folder / "rocov2" / "captions.csv", [{"file": f"{p}.png", "caption": c} for p, c in captions.items()])
    table(folder / "not_chest" / "captions.csv", [{"file": f"{p}.png"} for p in ("b1", "b2", "b3")])
    return folder


def test_a_corpus_is_every_film_of_every_source(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "MIN_TAG_FILMS", 3)
    built = build(shared, tmp_path / "cache")
    assert built.films.shape == (15 + 5 + 2 + 3 + 3, 256, 256)
    assert built.tag_names == ("cardiomegaly", "normal")
    assert [len(built.rows(Split.TRAIN, s)) for s in ("openi", "nih", "cohen")] == [9, 3, 2]
    assert len(built.rows(Split.CALIBRATION, "openi", "frontal")) == 6
    assert len(built.rows(Split.TRAIN, "openi", "lateral")) == 1
    assert len(built.rows(Split.TRAIN)) + len(built.rows(Split.CALIBRATION)) + len(built.rows(Split.TEST)) == 28
    openi = built.rows(Split.TRAIN, "openi", "frontal")
    assert built.labels[openi[:2]].tolist() == [
        [int(f == "No Finding") for f in FINDINGS], [int(f == "Cardiomegaly") for f in FINDINGS],
    ]  # fmt: skip
    assert built.tags[openi[:2]].tolist() == [[0, 1], [1, 0]]
    nih = built.rows(Split.TRAIN, "nih")[0]
    known = {f: int(v) for f, v in zip(FINDINGS, built.labels[nih], strict=True)}
    assert (known["Pleural Effusion"], known["Lung Lesion"], known["Edema"], known["Fracture"]) == (1, 1, 0, UNKNOWN)
    assert built.tags[nih].tolist() == [UNKNOWN, UNKNOWN]
    roco = np.flatnonzero(built.source == SOURCES.index("rocov2"))
    effusion = FINDINGS.index("Pleural Effusion")
    assert built.labels[roco, effusion].tolist() == [1, UNKNOWN, UNKNOWN]
    assert built.labels[roco[0], [0, 2]].tolist() == [0, 0]  # what the caption leaves out
    assert (built.labels[roco[1:]] == UNKNOWN).all()
    assert (built.presentation[roco] == UNKNOWN).all()
    assert [built.texts[i] for i in roco] == ["A left pleural effusion.", "A film.", "A film."]
    assert built.domain[[0, 8]].tolist() == [DOMAINS.index("openi")] * 2
    assert (built.domain == DOMAINS.index("openi/lateral")).sum() == 1
    assert built.projection[built.rows(Split.TRAIN, "nih")].tolist() == [0, 0, 0]
    assert built.films[0].tolist() == stored_film(shared / "openi" / f"{built.studies[0]}.png").tolist()


def test_a_corpus_is_packed_once(shared: Path, tmp_path: Path) -> None:
    first = build(shared, tmp_path / "cache")
    pack = (tmp_path / "cache" / "films.npy").stat().st_mtime_ns
    again = build(shared, tmp_path / "cache")
    assert (tmp_path / "cache" / "films.npy").stat().st_mtime_ns == pack
    assert np.array_equal(first.films, again.films)
    (shared / "not_chest" / "b3.png").unlink()
    assert len(build(shared, tmp_path / "cache").films) == len(first.films) - 1


class Words:
    """In place of the text encoder."""

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return vectors_of(texts)


def test_the_whole_program(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "MIN_TAG_FILMS", 3)
    monkeypatch.setattr(program, "load_text_encoder", Words)
    monkeypatch.setattr(concepts, "MIN_TERM_FILMS", 3)
    monkeypatch.setattr(program, "Recipe", lambda: Recipe(steps=20))
    monkeypatch.setitem(loop.PLANS, "scratch", PLAN)
    asked: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    work, out = tmp_path / "work", tmp_path / "weights"
    common = ["--data", str(shared), "--work", str(work), "--out", str(out), "--seed", "5"]
    assert program.main(["pretrain", *common, "--steps", "1", "--threads", "1"]) == 0
    trunk = work / "pretrain-5" / "pretrained.pt"
    assert program.main(["encoder", *common, "--steps", "2", "--initial", str(trunk)]) == 0
    assert program.main(["pack", *common, "--steps", "2", "--version", "9"]) == 0
    assert asked == [1]
    encoder = load_encoder(out)
    assert encoder.record.id.startswith("box-latent-resnet@9-")
    calibration = load_calibration(out, encoder.record.id)
    assert calibration.sample == "openi/calibration: 6 frontal films"
    assert all(
        e.calibrator.kind == "platt" and e.reliability is not Reliability.RELIABLE
        for e in calibration.findings.values()
    )
    assert calibration.findings["Cardiomegaly"].films == 6
    assert len(calibration.axis_names) == 4
    assert {n.rpartition(" ")[0] for n in calibration.axis_names} <= {*FINDINGS, "cardiomegaly", "normal"}
    limits = load_gate(out, encoder.record.id).thresholds.presentation
    assert set(limits) == set(PRESENTATIONS) - {"frontal"}
    assert all(0.2 <= limit <= 1.0 for limit in limits.values())
    views = load_views(out, encoder.record.id)
    assert views is not None and views.sample == "openi/calibration: 0 studies with both views"
    assert {(v.frontal, v.lateral, v.offset) for v in views.findings.values()} == {(1.0, 0.0, 0.0)}
    starter = load_starter(out, encoder.record.id, text.NAME)
    assert len(starter.studies) == 13
    assert list(starter.studies) == sorted(starter.studies)
    assert starter.boxes.shape == (13, 8)
    named = load_concepts(out, encoder.record.id)
    assert named is not None
    assert {n.term for n in named.names} <= {*FINDINGS, "cardiomegaly", "normal"}
    figures = tmp_path / "speed.json"
    figures.write_text('{"seconds": 1.5}')
    assert program.main(["card", *common, "--figures", str(figures), "--note", "A trial run."]) == 0
    card = (out / "MODEL_CARD.md").read_text()
    assert card.startswith(f"# {encoder.record.id}\n")
    assert "A trial run." in card
    assert "| seconds | 1.500 |  |" in card
    again = ["encoder", *common[:-2], "--plan", "scratch", "--seed", "6", "--steps", "1"]
    assert program.main([*again, "--initial", str(work / "encoder-5" / "checkpoint.pt")]) == 0
