"""A model folder that is not what it was written as: refused by name, through every door, and never answered with other weights."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file, save_file

from api.app import create_app
from api.settings import ApiSettings
from knowledge_base.memory import MemoryStore
from rag_service import sealed, wiring
from rag_service.__main__ import main
from rag_service.errors import BadWeights
from rag_service.models.encoder import FilmEncoder
from rag_service.settings import ENVIRONMENT, Settings

Damage = Callable[[Path], object]
WEIGHTS, RECORD, CALIBRATION = "film-encoder.safetensors", "film-encoder.json", "calibration.json"
GATE, REFERENCE = "gate.json", "gate.safetensors"
HUGE_HEADER = struct.pack("<Q", 1 << 62) + b"{}"
PICKLE = b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x07pickled\x94."
DIGEST = "expected sha256 [0-9a-f]{64}"


def absent(path: Path) -> None:
    path.unlink()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def altered(path: Path) -> None:
    """One bit of the last tensor, or of a record's last digit."""
    content = bytearray(path.read_bytes())
    last = max(i for i, byte in enumerate(content) if chr(byte).isdigit()) if path.suffix == ".json" else -1
    content[last] ^= 1
    path.write_bytes(content)


def pickled(path: Path) -> None:
    path.write_bytes(PICKLE)


def huge_header(path: Path) -> None:
    path.write_bytes(HUGE_HEADER)


def recorded(damage: Damage) -> Damage:
    """The damage, and a record that vouches for it: the digest alone is no proof of what a file holds."""

    def apply(path: Path) -> None:
        damage(path)
        record = path.with_name(RECORD)
        entry = json.loads(record.read_text())
        record.write_text(json.dumps({**entry, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}))

    return apply


def other_architecture(path: Path) -> None:
    save_file({k: v for k, v in load_file(path).items() if not k.startswith("findings")}, path)


def not_finite(value: float) -> Damage:
    def apply(path: Path) -> None:
        tensors = load_file(path)
        tensors["findings.bias"][0] = value
        save_file(tensors, path)

    return apply


def resealed(change: Callable[[dict[str, Any]], object]) -> Damage:
    def apply(path: Path) -> None:
        content = sealed.read(path)
        change(content)
        sealed.write(path, content)

    return apply


CASES: list[tuple[str, Damage, str]] = [
    *((WEIGHTS, damage, f"{WEIGHTS}: {DIGEST}, found") for damage in (absent, cut, altered, pickled, huge_header)),
    *(
        (WEIGHTS, recorded(damage), rf"{WEIGHTS} does not fit its architecture \({DIGEST}\)")
        for damage in (cut, pickled, huge_header, other_architecture)
    ),
    *(
        (WEIGHTS, recorded(not_finite(value)), rf"{WEIGHTS} holds numbers that are not finite \({DIGEST}\)")
        for value in (float("nan"), float("inf"))
    ),
    *((RECORD, damage, f"{RECORD} is absent or malformed") for damage in (absent, cut, pickled)),
    *((CALIBRATION, damage, f"{CALIBRATION} is absent or malformed") for damage in (absent, cut, pickled)),
    (CALIBRATION, altered, f"{CALIBRATION}: {DIGEST}, found"),
    (CALIBRATION, resealed(lambda c: c.update(model="other@1")), f"{CALIBRATION} belongs to other@1"),
    *((GATE, damage, f"{GATE} is absent or malformed") for damage in (absent, cut, pickled)),
    (GATE, altered, f"{GATE}: {DIGEST}, found"),
    (GATE, resealed(lambda c: c.update(model="other@1")), f"{GATE} belongs to other@1"),
    (GATE, resealed(lambda c: c.update(reference="ab" * 32)), f"{REFERENCE}: expected sha256 {'ab' * 32}, found"),
    *((REFERENCE, damage, f"{REFERENCE}: {DIGEST}, found") for damage in (absent, cut, altered, pickled, huge_header)),
]


@pytest.fixture
def folder(whole_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole_model, tmp_path / "model"))


@pytest.mark.parametrize(("file", "damage", "said"), CASES)
def test_a_damaged_model_folder_is_refused_by_name(file: str, damage: Damage, said: str, folder: Path) -> None:
    settings = Settings(model_folder=str(folder))
    assert wiring.build_reader(settings).encoder.record.sha256 == json.loads((folder / RECORD).read_text())["sha256"]
    damage(folder / file)
    with pytest.raises(BadWeights, match=said.replace(".", r"\.")):
        wiring.build_reader(settings)


class NoPool:
    """In place of the decoder's process."""

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def start(self) -> None:
        """Nothing to start."""

    def decode(self, data: bytes, limits: Any) -> Any:
        from rag_service.imaging.decode import decode

        return decode(data, limits)

    def close(self) -> None:
        """Nothing to close."""


@pytest.fixture
def unbuilt(folder: Path, monkeypatch: pytest.MonkeyPatch, words: Any) -> Settings:
    """Settings of a service over the folder, its store and decoder light."""
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAG_MODEL_FOLDER", str(folder))
    monkeypatch.setattr(wiring, "DecodePool", NoPool)
    monkeypatch.setattr(wiring, "EdgeStore", lambda *_, **__: MemoryStore())
    monkeypatch.setattr(wiring, "load_text_encoder", lambda: words)
    return Settings(model_folder=str(folder))


@pytest.fixture
def film(tmp_path: Path, stored: NDArray[np.uint8]) -> str:
    out = io.BytesIO()
    Image.fromarray(stored[0]).save(out, "PNG")
    (tmp_path / "film.png").write_bytes(out.getvalue())
    return str(tmp_path / "film.png")


DOORS = [
    CASES[0],
    CASES[1],
    CASES[3],
    CASES[8],
    CASES[9],
    (GATE, cut, "gate.json"),
    (CALIBRATION, altered, "calibration.json"),
]


@pytest.mark.parametrize(("file", "damage", "_said"), DOORS)
def test_the_command_line_ends_with_3(
    file: str,
    damage: Damage,
    _said: str,
    folder: Path,
    unbuilt: Settings,
    film: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    damage(folder / file)
    assert main(["draft", film]) == 3
    out = capsys.readouterr()
    assert out.out == ""
    assert out.err.startswith(f"error [bad_weights]: {file}")


@pytest.mark.parametrize(("file", "damage", "_said"), DOORS[:3])
def test_the_api_is_alive_but_not_ready(
    file: str, damage: Damage, _said: str, folder: Path, unbuilt: Settings, film: str
) -> None:
    damage(folder / file)
    app = create_app(lambda: wiring.build_service(unbuilt), ApiSettings())
    with TestClient(app, base_url="http://127.0.0.1") as client:
        until = time.monotonic() + 20
        while client.get("/readyz").json()["components"] != {"service": "bad_weights"} and time.monotonic() < until:
            time.sleep(0.02)
        ready = client.get("/readyz")
        assert (ready.status_code, ready.json()["components"]) == (503, {"service": "bad_weights"})
        answer = client.post("/v1/reports", files={"film": ("film.png", Path(film).read_bytes())})
        assert (answer.status_code, answer.json()["code"]) == (503, "bad_weights")
        assert client.get("/livez").status_code == 200


USED = ("trunk.conv1.0.weight", "trunk.layer4.0.bn2.bias", "pool.power", "norm.weight", "norm.bias",
        "box_centre.bias", "box_radius.bias", "findings.bias", "presentation.bias")  # fmt: skip


@pytest.mark.parametrize("name", USED)
def test_what_is_not_finite_never_leaves_the_encoder(
    name: str, encoder: FilmEncoder, make_network: Any, stored: NDArray[np.uint8]
) -> None:
    network = make_network(0)
    with torch.no_grad():
        dict(network.named_parameters())[name].flatten()[0].fill_(float("nan"))
    broken = FilmEncoder(encoder.record, network)
    with pytest.raises(BadWeights, match="produced numbers that are not finite"):
        broken.read_stored(stored[:1])
