"""A box head over another encoder: trained on features, packed with the encoder, and served as any film model is."""

from __future__ import annotations

import csv
import io
import json
import math
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from rag_service import torchvision_ops
from rag_service.calibration import load_calibration
from rag_service.datasets.films import Split, split_of
from rag_service.errors import BadWeights
from rag_service.models.box_head import BACKBONE_FOLDER, BoxHead, HeadedBackbone, HeadShape
from rag_service.models.catalogue import RECORD_FILE, load_record
from rag_service.models.encoder import load_encoder
from rag_service.models.encoders import catalogue
from rag_service.models.encoders.record import SIDECAR, EncoderRecord, Features
from rag_service.models.network import FilmNetwork
from rag_service.settings import Settings
from rag_service.training import __main__ as program
from rag_service.training import augment, heads
from rag_service.training.box_head import WEIGHTS_FILE, Bank, HeadPlan, held_loss, pack, train_head
from rag_service.training.export import export
from rag_service.training.features import FeatureCache, Inverted, OtherDevice, Turned
from rag_service.wiring import build_reader

RECORD = EncoderRecord(
    "six", "1", "none", "w.safetensors", "c.json", 8, (0.5,), (0.5,), 6, "none", "made here", "ab" * 32
)


class SixNumbers:
    """A `FeatureExtractor`: six percentiles of grey; `seen` counts films."""

    def __init__(self) -> None:
        self.record, self.seen = RECORD, 0

    def features(self, films: NDArray[Any]) -> Features:
        self.seen += len(films)
        grey = films.reshape(len(films), -1) / (255.0 if films.dtype == np.uint8 else 1.0)
        pooled = torch.from_numpy(np.percentile(grey, (1, 20, 40, 60, 80, 99), axis=1).T).float()
        return Features(pooled, torch.from_numpy(films[:, None, ::64, ::64].astype(np.float32)))


def bank(count: int, seed: int, jitter: float = 0.1) -> Bank:
    """Films whose second finding shows in their first feature; copies move along the last feature alone."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(count, 6, generator=generator)
    copies = features.repeat(2, 1, 1)
    copies[..., 5] += jitter * torch.randn(2, count, generator=generator)
    labels = torch.full((count, 14), -1, dtype=torch.int8)
    labels[:, 1] = (features[:, 0] > 0).to(torch.int8)
    return Bank(features, copies, labels, torch.zeros(count, dtype=torch.long))


PLAN = HeadPlan(epochs=8, batch=64, axes=4, learning_rate=2e-2)


def test_a_head_learns_what_the_features_show() -> None:
    train, held = bank(400, 1), bank(100, 2)
    head = train_head(train, held, PLAN)
    with torch.no_grad():
        right = (head.logits(head(held.features).centre)[:, 1] > 0) == (held.labels[:, 1] == 1)
    assert right.float().mean() > 0.75
    assert held_loss(head, held) < 0.5
    assert not head.training
    assert torch.allclose(head.mean, train.features.mean(0))


def test_the_same_seed_gives_the_same_head_and_another_seed_another() -> None:
    train, held = bank(80, 1), bank(40, 2)
    before = torch.get_rng_state()
    one, again, other = (train_head(train, held, replace(PLAN, epochs=2, seed=s)) for s in (3, 3, 4))
    for a, b in zip(one.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(one.findings.weight, other.findings.weight)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_epoch_with_the_least_held_back_loss_is_kept() -> None:
    train, held = bank(80, 1), bank(40, 2)
    held.labels[:, 1] = 1 - held.labels[:, 1]  # the more it learns, the worse it does there
    late = train_head(train, held, PLAN)
    early = train_head(train, held, replace(PLAN, epochs=1))
    assert held_loss(late, held) < 2 * held_loss(early, held)


def test_copies_must_fall_into_the_box() -> None:
    train, held = bank(200, 1, jitter=4.0), bank(50, 2, jitter=4.0)

    def outside(head: BoxHead) -> float:
        with torch.no_grad():
            box, copy = head(held.features), head(held.copies[0])
        return float(((copy.centre - box.centre).abs() > box.radius).float().mean())

    loose = train_head(train, held, replace(PLAN, contained=False))
    assert outside(train_head(train, held, PLAN)) < 0.8 * outside(loose)


def test_pixel_augmentation_shows_the_copies_as_films() -> None:
    train, held = bank(80, 1, jitter=4.0), bank(40, 2)
    point = replace(PLAN, epochs=2, box=False, contained=False)
    plain, shown = (train_head(train, held, replace(point, shown_shifted=s)) for s in (False, True))
    assert not torch.equal(plain.box_centre.weight, shown.box_centre.weight)
    without = replace(train, copies=train.copies[:0])
    same = train_head(without, held, point)
    assert torch.equal(plain.box_centre.weight, same.box_centre.weight)


def test_features_are_computed_once(tmp_path: Path, stored: NDArray[np.uint8]) -> None:
    extractor = SixNumbers()
    cache = FeatureCache(extractor, tmp_path / "features")
    rows = np.array([4, 0, 2])
    first = cache.pooled(stored, rows)
    assert (first.shape, first.dtype, extractor.seen) == ((3, 6), np.float32, 3)
    assert np.array_equal(cache.pooled(stored, rows), first)
    assert extractor.seen == 3
    assert np.allclose(first[1], extractor.features(stored[:1]).pooled.numpy()[0])
    weak, strong = (OtherDevice(replace(augment.Strength(), log_gamma=g), 1) for g in (0.1, 2.0))
    changed = [cache.pooled(stored, rows, c) for c in (weak, strong, replace(weak, seed=2), Inverted())]
    assert len({c.tobytes() for c in (*changed, first)}) == 5
    assert np.allclose(changed[3], 1 - first[:, ::-1], atol=0.01)
    assert len(list((tmp_path / "features").iterdir())) == 5
    assert cache.pooled(stored, rows[:0]).shape == (0, 6)


def test_films_are_turned_by_quarters_in_turn() -> None:
    films = np.zeros((3, 256, 256), np.uint8)
    films[:, 0, 255] = 9  # top right
    turned = Turned()(films, 0)
    assert [tuple(np.argwhere(f)[0]) for f in turned] == [(0, 0), (255, 0), (255, 255)]
    assert np.array_equal(Turned()(films[1:], 1), turned[1:])


def studies(split: Split, count: int) -> list[str]:
    return [n for n in (f"CXR{i}" for i in range(1000)) if split_of("openi", n) is split][:count]


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """Open-i alone in the shared layout, films of noise; every other study has a large heart."""
    folder = tmp_path / "data" / "openi"
    folder.mkdir(parents=True)
    names = [*studies(Split.TRAIN, 14), *studies(Split.CALIBRATION, 8)]
    with (folder / "images.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "image_id", "study_id", "projection"])
        writer.writerows([f"{n}.png", n, n, "Frontal"] for n in names)
    with tarfile.open(folder / "NLMCXR_reports.tgz", "w:gz") as tar:
        for index, name in enumerate(names):
            grey = np.random.default_rng(index).integers(0, 255, (70, 60), np.uint8)
            Image.fromarray(grey).save(folder / f"{name}.png")
            tag = "Cardiomegaly/mild" if index % 2 else "normal"
            text = f"<AbstractText Label='FINDINGS'>Film {name}.</AbstractText>"
            xml = f"<eCitation><uId id='{name}'/>{text}<major>{tag}</major></eCitation>".encode()
            member = tarfile.TarInfo(f"{name}.xml")
            member.size = len(xml)
            tar.addfile(member, io.BytesIO(xml))
    return folder.parent


class Words:
    """In place of the text encoder."""

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.tile(np.eye(1, 384, dtype=np.float32), (len(texts), 1))


@pytest.fixture
def dino(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a tiny DINOv2, and a catalogue that knows its size."""
    torchvision_ops.declare()
    from transformers import Dinov2Config, Dinov2Model

    small = replace(catalogue.CATALOGUE["rad-dino"], side=28, width=16)
    monkeypatch.setitem(catalogue.CATALOGUE, "rad-dino", small)
    config = Dinov2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14, mlp_ratio=2
    )
    with torch.random.fork_rng():
        torch.manual_seed(1)
        Dinov2Model(config).save_pretrained(tmp_path / "dino")
    return tmp_path / "dino"


def test_one_command_puts_a_box_over_another_encoder(
    dino: Path, shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stored: NDArray[np.uint8]
) -> None:
    monkeypatch.setattr(heads, "load_text_encoder", Words)
    out = tmp_path / "model"
    named = ["--encoder", "rad-dino", "--model", str(dino)]
    trained = [*named, "--data", str(shared), "--work", str(tmp_path / "work"), "--out", str(out), "--seed", "2"]
    assert program.main(["box-head", *trained]) == 3  # nobody has recorded the folder
    assert program.main(["record", *named, "--sha256", "0" * 64]) == 3
    assert program.main(["record", *named]) == 0
    assert program.main(["box-head", *trained]) == 0
    encoder = load_encoder(out)
    assert encoder.record.id.startswith("rad-dino-box@1-")
    assert (encoder.axes, encoder.finding_weights.shape) == (128, (14, 128))
    reading = encoder.read_stored(stored[:2])[1]
    assert (reading.pooled.shape, tuple(reading.maps.shape)) == ((16,), (16, 2, 2))
    assert (reading.box.radius > 0).all()
    assert math.isclose(reading.presentation.sum(), 1.0, abs_tol=1e-6)
    assert np.allclose(encoder.read_stored(stored[1:2])[0].probabilities, reading.probabilities, atol=1e-6)
    load_calibration(out, encoder.record.id)
    reader = build_reader(Settings(model_folder=str(out)))
    assert reader.encoder.record == encoder.record


@pytest.fixture
def packed(dino: Path, tmp_path: Path) -> Path:
    """A model folder: the tiny DINOv2 and an untrained head."""
    program.main(["record", "--encoder", "rad-dino", "--model", str(dino)])
    extractor = heads.load_extractor("rad-dino", dino)
    pack(BoxHead(HeadShape(16, 4)).eval(), extractor.record, dino, "2", tmp_path / "packed")
    return tmp_path / "packed"


def test_a_packed_folder_stands_alone(packed: Path) -> None:
    assert sorted(p.name for p in (packed / BACKBONE_FOLDER).iterdir()) == [
        "config.json", SIDECAR, "model.safetensors",
    ]  # fmt: skip
    record = load_record(packed)
    assert record.id == f"rad-dino-box@2-{record.sha256[:8]}"
    assert record.architecture["backbone"] == "rad-dino"
    assert isinstance(load_encoder(packed).network, HeadedBackbone)


@pytest.mark.parametrize("file", [WEIGHTS_FILE, f"{BACKBONE_FOLDER}/model.safetensors"])
def test_an_altered_head_or_encoder_is_refused(file: str, packed: Path) -> None:
    content = bytearray((packed / file).read_bytes())
    content[-1] ^= 1
    (packed / file).write_bytes(content)
    with pytest.raises(BadWeights, match=r"expected sha256 [0-9a-f]{64}, found [0-9a-f]{64}"):
        load_encoder(packed)


def rewrite(folder: Path, **architecture: Any) -> None:
    record = json.loads((folder / RECORD_FILE).read_text())
    record["architecture"].update(architecture)
    (folder / RECORD_FILE).write_text(json.dumps(record))


def test_a_head_over_another_encoder_is_refused(packed: Path) -> None:
    rewrite(packed, backbone_sha256="0" * 64)
    with pytest.raises(BadWeights, match=f"the encoder under rad-dino-box.*: expected sha256 {'0' * 64}, found"):
        load_encoder(packed)


@pytest.mark.parametrize("change", [{"axes": 5}, {"depth": 2}, {"width": "wide"}])
def test_a_head_of_another_shape_is_refused(change: dict[str, Any], packed: Path) -> None:
    rewrite(packed, **change)
    with pytest.raises(BadWeights, match=r"box-head\.safetensors does not fit its architecture"):
        load_encoder(packed)


def test_our_own_trunk_takes_a_box_head_too(
    tmp_path: Path, make_network: Callable[[int], FilmNetwork], stored: NDArray[np.uint8]
) -> None:
    network, source = make_network(3), tmp_path / "own"
    torch.save({"averaged": network.state_dict()}, tmp_path / "checkpoint.pt")
    export(tmp_path / "checkpoint.pt", network.architecture, "1", source)
    extractor = heads.load_extractor("box-latent", source)
    pack(BoxHead(HeadShape(extractor.record.width, 4)).eval(), extractor.record, source, "1", tmp_path / "packed")
    encoder = load_encoder(tmp_path / "packed")
    assert encoder.record.name == "box-latent-box"
    assert np.allclose(
        encoder.read_stored(stored[:1])[0].pooled, load_encoder(source).read_stored(stored[:1])[0].pooled, atol=1e-5
    )
