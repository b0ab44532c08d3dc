"""A tiny film model, a text encoder without weights, and small folders of films: all made here."""

from __future__ import annotations

import hashlib
import io
import shutil
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from knowledge_base.findings import FINDINGS
from rag_service.calibration import Calibration, FindingCalibration, Reliability, Tiers
from rag_service.calibrators import Platt
from rag_service.gate import Gate
from rag_service.models.encoder import FilmEncoder, load_encoder
from rag_service.models.network import FilmNetwork
from rag_service.training.export import export


@dataclass
class HashedWords:
    """Unit vectors (n, 384) that depend on the text alone; `asked` remembers what was encoded."""

    asked: list[str] = field(default_factory=list)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.asked += texts
        seeds = [int.from_bytes(hashlib.sha256(t.encode()).digest()[:8], "big") for t in texts]
        vectors = np.stack([np.random.default_rng(s).normal(size=384) for s in seeds])
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@dataclass(frozen=True)
class Maker:
    """Writes films and collections into a folder."""

    folder: Path

    def film(self, name: str, seed: int) -> Path:
        """A PNG of noise over a slope, different for each seed."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        slope = np.linspace(0, 160, 80)[None] + np.linspace(0, 40, 72)[:, None]
        noise = np.random.default_rng(seed).uniform(0, 55, (72, 80))
        Image.fromarray((slope + noise).astype(np.uint8)).save(path)
        return path

    def openi(self, studies: Mapping[str, tuple[str, str, tuple[str, ...]]]) -> Path:
        """Studies by id as (findings, indication, tags), one frontal film each, in the shared layout."""
        table = "file,image_id,study_id,projection\n"
        with tarfile.open(self.folder / "NLMCXR_reports.tgz", "w:gz") as tar:
            for number, (study, (findings, indication, tags)) in enumerate(studies.items()):
                majors = "".join(f"<major>{t}</major>" for t in tags)
                told = f"<AbstractText Label='INDICATION'>{indication}</AbstractText>"
                body = f"{told}<AbstractText Label='FINDINGS'>{findings}</AbstractText>{majors}"
                xml = f"<eCitation><uId id='{study}'/>{body}</eCitation>".encode()
                member = tarfile.TarInfo(f"{study}.xml")
                member.size = len(xml)
                tar.addfile(member, io.BytesIO(xml))
                self.film(f"films/{study}.png", number)
                table += f"films/{study}.png,{study}_1,{study},Frontal\n"
        (self.folder / "images.csv").write_text(table)
        return self.folder

    def table(self, name: str, *lines: str) -> Path:
        """A text file of these lines."""
        path = self.folder / name
        path.write_text("".join(f"{line}\n" for line in lines), "utf-8")
        return path


@pytest.fixture
def maker(tmp_path: Path) -> Maker:
    """Makes a collection in a folder of its own."""
    folder = tmp_path / "collection"
    folder.mkdir()
    return Maker(folder)


@pytest.fixture
def words() -> HashedWords:
    """A text encoder that needs no weights."""
    return HashedWords()


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory, make_network: Callable[[int], FilmNetwork]) -> Path:
    """A model folder with an exported random network. No calibration, no gate."""
    folder = tmp_path_factory.mktemp("tiny-model")
    network = make_network(5)
    torch.save({"averaged": network.state_dict()}, folder / "checkpoint.pt")
    export(folder / "checkpoint.pt", network.architecture, "0", folder)
    (folder / "checkpoint.pt").unlink()
    return folder


@pytest.fixture(scope="session")
def tiny_encoder(tiny_model: Path) -> FilmEncoder:
    """The encoder of `tiny_model`."""
    return load_encoder(tiny_model)


def even_calibration(model: str, reliability: Reliability = Reliability.RELIABLE) -> Calibration:
    """Calibrated p is the raw score; stated from 0.75, possible from 0.4, denied to 0.35."""
    entry = FindingCalibration(
        calibrator=Platt(1.0, 0.0), state=0.75, possible=0.4, flag=0.4, accurate=0.5, deny=0.35,
        reliability=reliability, positives=20, films=40, auroc=0.8,
        scores=tuple(i / 40 for i in range(40)), outcomes=(0,) * 20 + (1,) * 20,
    )  # fmt: skip
    names = dict.fromkeys(FINDINGS, entry)
    return Calibration(model, names, Tiers(0.75, 0.5, 1.0, 1.0, 9.0), ("Edema",) * 4, "made by hand")


@pytest.fixture(scope="session")
def calibration(tiny_encoder: FilmEncoder) -> Calibration:
    """A calibration of the tiny model that changes no score."""
    return even_calibration(tiny_encoder.record.id)


@pytest.fixture(scope="session")
def whole_model(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_model: Path,
    tiny_encoder: FilmEncoder,
    open_gate: Callable[[str, int], Gate],
) -> Path:
    """A model folder with everything a reader of films needs: the tiny network, its calibration, its gate."""
    folder = tmp_path_factory.mktemp("whole-model")
    for part in tiny_model.iterdir():
        shutil.copy(part, folder)
    width = tiny_encoder.network.box_centre.in_features
    model = tiny_encoder.record.id
    open_gate(model, width).save(folder)
    even_calibration(model).save(folder)
    return folder
