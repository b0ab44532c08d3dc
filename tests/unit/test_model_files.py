"""Model files: what is exported is what is loaded, and nothing else ever is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file

from rag_service.errors import BadWeights
from rag_service.imaging.normalise import PREPROCESSING
from rag_service.models import text
from rag_service.models.catalogue import RECORD_FILE, ModelRecord, load_record, verified
from rag_service.models.encoder import FilmEncoder, load_encoder
from rag_service.models.network import FilmNetwork
from rag_service.models.starter import LISTING_FILE, VECTORS_FILE, StarterCases, load_starter, save_starter
from rag_service.models.text import load_text_encoder
from rag_service.training.export import WEIGHTS_FILE, export


@pytest.fixture
def network(make_network: Callable[[int], FilmNetwork]) -> FilmNetwork:
    return make_network(2)


@pytest.fixture
def shipped(network: FilmNetwork, tmp_path: Path) -> tuple[Path, ModelRecord]:
    """A folder with the exported network, and its record."""
    checkpoint = tmp_path / "checkpoint.pt"
    torch.save({"averaged": network.state_dict(), "step": 1}, checkpoint)
    folder = tmp_path / "weights"
    return folder, export(checkpoint, network.architecture, "3", folder)


def rewrite(folder: Path, record: ModelRecord, **changes: Any) -> None:
    (folder / RECORD_FILE).write_text(json.dumps(asdict(replace(record, **changes))))


def test_what_is_exported_is_loaded(
    shipped: tuple[Path, ModelRecord], network: FilmNetwork, stored: NDArray[np.uint8]
) -> None:
    folder, record = shipped
    loaded = load_encoder(folder)
    assert loaded.record == load_record(folder)
    assert (loaded.record.id, loaded.record.sha256) == (record.id, record.sha256)
    assert loaded.network.architecture == network.architecture
    for name, tensor in loaded.network.state_dict().items():
        original = network.state_dict()[name]
        halved = original.half() if original.ndim > 1 else original
        assert torch.equal(tensor.float(), halved.float())
    one, other = loaded.read_stored(stored[:1])[0], FilmEncoder(record, network).read_stored(stored[:1])[0]
    assert np.allclose(one.probabilities, other.probabilities, atol=5e-3)


def test_a_record_names_version_and_digest(shipped: tuple[Path, ModelRecord]) -> None:
    folder, record = shipped
    assert record.sha256 == hashlib.sha256((folder / WEIGHTS_FILE).read_bytes()).hexdigest()
    assert record.id == f"box-latent-resnet@3-{record.sha256[:8]}"
    assert record.preprocessing == PREPROCESSING == "squeeze256-p0.5-99.5@1"
    assert record.terms.startswith("Research use only; not a medical device.")
    assert verified(record, folder) == folder / WEIGHTS_FILE


def test_an_altered_byte_is_found(shipped: tuple[Path, ModelRecord]) -> None:
    folder, record = shipped
    content = bytearray((folder / WEIGHTS_FILE).read_bytes())
    content[-1] ^= 1
    (folder / WEIGHTS_FILE).write_bytes(content)
    with pytest.raises(
        BadWeights, match=rf"film-encoder\.safetensors: expected sha256 {record.sha256}, found [0-9a-f]"
    ):
        load_encoder(folder)


def test_a_truncated_file_is_found(shipped: tuple[Path, ModelRecord]) -> None:
    folder, record = shipped
    (folder / WEIGHTS_FILE).write_bytes((folder / WEIGHTS_FILE).read_bytes()[:1000])
    with pytest.raises(BadWeights, match=f"expected sha256 {record.sha256}"):
        load_encoder(folder)


def test_an_absent_file_is_named(shipped: tuple[Path, ModelRecord]) -> None:
    folder, record = shipped
    (folder / WEIGHTS_FILE).unlink()
    with pytest.raises(BadWeights, match=f"expected sha256 {record.sha256}, found no file"):
        load_encoder(folder)


@pytest.mark.parametrize(
    "name", ["film-encoder.pt", "film-encoder.bin", "../film-encoder.safetensors", "/etc/film-encoder.safetensors"]
)
def test_only_safetensors_in_the_folder_are_read(name: str, shipped: tuple[Path, ModelRecord]) -> None:
    folder, record = shipped
    rewrite(folder, record, file=name)
    with pytest.raises(
        BadWeights, match=rf"is no safetensors file in the model folder \(expected sha256 {record.sha256}"
    ):
        load_encoder(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"axes": 8},
        {"trunk": "resnet10t"},
        {"trunk": "no_such_trunk"},
        {"tags": ["normal"]},
        {"depth": 3},
        {"axes": "four"},
    ],
)
def test_weights_of_another_architecture_are_refused(change: dict[str, Any], shipped: tuple[Path, ModelRecord]) -> None:
    folder, record = shipped
    rewrite(folder, record, architecture={**record.architecture, **change})
    with pytest.raises(BadWeights, match=f"does not fit its architecture .expected sha256 {record.sha256}"):
        load_encoder(folder)


def test_a_record_without_an_architecture_is_refused(shipped: tuple[Path, ModelRecord]) -> None:
    folder, record = shipped
    rewrite(folder, record, architecture=None)
    with pytest.raises(BadWeights, match=f"expected sha256 {record.sha256}"):
        load_encoder(folder)


def test_a_file_with_the_right_digest_that_is_no_safetensors_is_refused(shipped: tuple[Path, ModelRecord]) -> None:
    folder, record = shipped
    (folder / WEIGHTS_FILE).write_bytes(b"\x80\x04pickled")
    digest = hashlib.sha256(b"\x80\x04pickled").hexdigest()
    rewrite(folder, record, sha256=digest)
    with pytest.raises(BadWeights, match=f"expected sha256 {digest}"):
        load_encoder(folder)


def test_weights_for_another_preprocessing_are_refused(shipped: tuple[Path, ModelRecord]) -> None:
    folder, record = shipped
    rewrite(folder, record, preprocessing="crop224@1")
    with pytest.raises(
        BadWeights, match=r"expects preprocessing crop224@1, this version does squeeze256-p0\.5-99\.5@1"
    ):
        load_encoder(folder)


@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b"{}", b'{"name": "x", "more": 1}', b"\xff"])
def test_a_malformed_record_is_refused(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / RECORD_FILE).write_bytes(content)
    with pytest.raises(BadWeights, match=r"film-encoder\.json is absent or malformed"):
        load_encoder(tmp_path)


STARTER = StarterCases(
    box_model="tiny@1-abababab",
    text_model="mini@1",
    studies=("CXR1", "CXR2"),
    boxes=np.array([[0.5, 1.0, 0.25, 0.5], [0.0, -1.0, 1.0, 2.0]], np.float32),
    texts=np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], np.float32),
)


def test_starter_cases_come_back(tmp_path: Path) -> None:
    save_starter(tmp_path, STARTER)
    loaded = load_starter(tmp_path, "tiny@1-abababab", "mini@1")
    assert loaded.studies == ("CXR1", "CXR2")
    assert loaded.boxes.tolist() == STARTER.boxes.tolist()
    assert loaded.texts.tolist() == STARTER.texts.tolist()
    assert loaded.boxes.dtype == loaded.texts.dtype == np.float32
    assert loaded.box(1).centre.tolist() == [0.0, -1.0]
    assert loaded.box(1).radius.tolist() == pytest.approx([3**0.5, 2 * 3**0.5])


@pytest.mark.parametrize("models", [("tiny@2-abababab", "mini@1"), ("tiny@1-abababab", "mini@2")])
def test_starter_cases_of_other_models_are_refused(models: tuple[str, str], tmp_path: Path) -> None:
    save_starter(tmp_path, STARTER)
    with pytest.raises(BadWeights, match=r"were made by .*tiny@1-abababab.*mini@1"):
        load_starter(tmp_path, *models)


def test_altered_starter_vectors_are_refused(tmp_path: Path) -> None:
    save_starter(tmp_path, STARTER)
    digest = json.loads((tmp_path / LISTING_FILE).read_text())["sha256"]
    (tmp_path / VECTORS_FILE).write_bytes((tmp_path / VECTORS_FILE).read_bytes() + b" ")
    with pytest.raises(BadWeights, match=f"expected sha256 {digest}, found"):
        load_starter(tmp_path, "tiny@1-abababab", "mini@1")


@pytest.mark.parametrize("content", [None, "", "[]", "7", "{}", '{"sha256": "ab"}'])
def test_a_malformed_starter_listing_is_refused(content: str | None, tmp_path: Path) -> None:
    save_starter(tmp_path, STARTER)
    (tmp_path / LISTING_FILE).unlink()
    if content is not None:
        (tmp_path / LISTING_FILE).write_text(content)
    with pytest.raises(BadWeights, match="absent or malformed"):
        load_starter(tmp_path, "tiny@1-abababab", "mini@1")


def relist(folder: Path, **changes: Any) -> None:
    listing = json.loads((folder / LISTING_FILE).read_text())
    digest = hashlib.sha256((folder / VECTORS_FILE).read_bytes()).hexdigest()
    (folder / LISTING_FILE).write_text(json.dumps({**listing, "sha256": digest, **changes}))


def test_starter_vectors_that_do_not_fit_their_listing_are_refused(tmp_path: Path) -> None:
    save_starter(tmp_path, STARTER)
    relist(tmp_path, studies=["CXR1"])
    with pytest.raises(BadWeights, match=r"lists 1 studies, .* holds 2"):
        load_starter(tmp_path, "tiny@1-abababab", "mini@1")
    save_file({"boxes": STARTER.boxes}, tmp_path / VECTORS_FILE)
    relist(tmp_path)
    with pytest.raises(BadWeights, match="is malformed"):
        load_starter(tmp_path, "tiny@1-abababab", "mini@1")
    (tmp_path / VECTORS_FILE).write_bytes(b"nothing")
    relist(tmp_path)
    with pytest.raises(BadWeights, match="is malformed"):
        load_starter(tmp_path, "tiny@1-abababab", "mini@1")


@pytest.mark.parametrize("content", [None, b"other weights"])
def test_other_text_weights_are_refused(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(BadWeights, match=f"expected sha256 {text.SHA256}"):
        load_text_encoder(tmp_path)


def test_texts_become_unit_vectors_by_meaning() -> None:
    vectors = load_text_encoder().encode(["pleural effusion", "fluid in the pleural space", "rib fracture"])
    assert (vectors.shape, vectors.dtype) == ((3, 384), np.float32)
    assert np.linalg.norm(vectors, axis=1).tolist() == pytest.approx([1.0] * 3, abs=1e-5)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2]
