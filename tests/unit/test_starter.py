"""The starter cases: a pack of vectors is read back only when it is whole and made by the running models."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from rag_service.errors import BadWeights
from rag_service.models.starter import StarterCases, load_starter, save_starter

BOX, TEXT = "film@1-abcd", "mini@2"
CASES = StarterCases(
    box_model=BOX,
    text_model=TEXT,
    studies=("CXR1", "CXR2", "CXR3"),
    boxes=np.array([[1, 2, 0.5, 0.25], [3, 4, 1, 2], [-1, -2, 4, 0.125]], np.float32),
    texts=np.array([[1, 0, 0], [0, 1, 0], [0, 0.5, -0.5]], np.float32),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_starter(tmp_path, CASES)
    return tmp_path


def relist(folder: Path, **changed: Any) -> None:
    """Change the listing, its digest included when the vectors were changed."""
    listing = json.loads((folder / "starter.json").read_text())
    listing["sha256"] = hashlib.sha256((folder / "starter.safetensors").read_bytes()).hexdigest()
    kept = {k: v for k, v in (listing | changed).items() if v is not None}
    (folder / "starter.json").write_text(json.dumps(kept))


def test_what_is_saved_is_read_back(folder: Path) -> None:
    found = load_starter(folder, BOX, TEXT)
    assert (found.box_model, found.text_model, found.studies) == (BOX, TEXT, ("CXR1", "CXR2", "CXR3"))
    assert found.boxes.dtype == found.texts.dtype == np.float32
    np.testing.assert_array_equal(found.boxes, CASES.boxes)
    np.testing.assert_array_equal(found.texts, CASES.texts)
    box = found.box(1)
    np.testing.assert_allclose(box.centre, [3, 4])
    np.testing.assert_allclose(box.radius, [3**0.5, 2 * 3**0.5], rtol=1e-6)


def test_vectors_are_rounded_to_half_precision(tmp_path: Path) -> None:
    boxes = np.array([[1.0001, 1, 1, 1]], np.float32)
    save_starter(tmp_path, StarterCases(BOX, TEXT, ("CXR1",), boxes, CASES.texts[:1]))
    assert load_starter(tmp_path, BOX, TEXT).boxes.tolist() == [[1.0, 1.0, 1.0, 1.0]]


@pytest.mark.parametrize("name", ["starter.json", "starter.safetensors"])
def test_an_absent_file_is_bad_weights(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(BadWeights, match="absent or malformed"):
        load_starter(folder, BOX, TEXT)


@pytest.mark.parametrize("listing", [b"", b"{", b"[]", b"7", b"null", b"{}", b"\xff\xfe", b'{"sha256": "0"}'])
def test_a_malformed_listing_is_bad_weights(folder: Path, listing: bytes) -> None:
    (folder / "starter.json").write_bytes(listing)
    with pytest.raises(BadWeights, match="absent or malformed"):
        load_starter(folder, BOX, TEXT)


@pytest.mark.parametrize("key", ["box_model", "text_model", "studies"])
def test_a_listing_that_lacks_a_key_is_bad_weights(folder: Path, key: str) -> None:
    relist(folder, **{key: None})
    with pytest.raises(BadWeights, match="absent or malformed"):
        load_starter(folder, BOX, TEXT)


def test_altered_vectors_are_bad_weights(folder: Path) -> None:
    path = folder / "starter.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(BadWeights, match=r"starter\.safetensors: expected sha256 [0-9a-f]{64}, found [0-9a-f]{64}"):
        load_starter(folder, BOX, TEXT)


@pytest.mark.parametrize(("box", "text"), [("film@2-abcd", TEXT), (BOX, "mini@3"), (TEXT, BOX)])
def test_cases_of_other_models_are_bad_weights(folder: Path, box: str, text: str) -> None:
    with pytest.raises(BadWeights, match="were made by"):
        load_starter(folder, box, text)


def test_vectors_that_are_no_safetensors_are_bad_weights(folder: Path) -> None:
    (folder / "starter.safetensors").write_bytes(b"nothing of the kind")
    relist(folder)
    with pytest.raises(BadWeights, match=r"starter\.safetensors is malformed"):
        load_starter(folder, BOX, TEXT)


def test_vectors_that_lack_an_array_are_bad_weights(folder: Path) -> None:
    save_file({"boxes": CASES.boxes}, folder / "starter.safetensors")
    relist(folder)
    with pytest.raises(BadWeights, match=r"starter\.safetensors is malformed"):
        load_starter(folder, BOX, TEXT)


def test_a_listing_of_another_length_is_bad_weights(folder: Path) -> None:
    relist(folder, studies=["CXR1", "CXR2"])
    with pytest.raises(BadWeights, match=r"lists 2 studies, starter\.safetensors holds 3"):
        load_starter(folder, BOX, TEXT)
