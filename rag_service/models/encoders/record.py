"""What an encoder is: its record, the digests of its files, and the interface that every encoder has."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from rag_service.errors import BadWeights

SIDECAR: Final = "encoder.json"


@dataclass(frozen=True)
class EncoderRecord:
    """An encoder by name and version: how it is built, what it reads, what it gives, and on what terms.

    `side` is the input in pixels; grey levels in [0, 1] become (grey - mean) / std on each of len(mean) channels; `width` is
    D. `sha256` and `config_sha256` are None in the catalogue and known once a folder has been recorded.
    """

    name: str
    version: str
    loader: str
    weights: str
    config: str
    side: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    width: int
    terms: str
    source: str
    sha256: str | None = None
    config_sha256: str | None = None

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std) or len(self.mean) not in {1, 3} or min(self.std) <= 0:
            raise ValueError("mean and std name one channel or three, with positive spread")
        if self.side < 1 or self.width < 1:
            raise ValueError("side and width are positive")
        for file, ending in ((self.weights, ".safetensors"), (self.config, ".json")):
            if not file.endswith(ending) or Path(file).name != file:
                raise ValueError(f"{file} is no {ending} file in the encoder's folder")

    @property
    def id(self) -> str:
        """name@version-digest, as a film model's; "unrecorded" before a folder has been recorded."""
        return f"{self.name}@{self.version}-{self.sha256[:8] if self.sha256 else 'unrecorded'}"


@dataclass(frozen=True, eq=False)
class Features:
    """What an encoder sees in B films: `pooled` (B, D) float32 and `grid` (B, C, h, w), rows from top to bottom."""

    pooled: Tensor
    grid: Tensor


class FeatureExtractor(Protocol):
    """A frozen image encoder.

    Contract:
    - `record` names it; `record.width` is the width D of `pooled`.
    - `features` reads films (B, H, W): uint8, or float32 in [0, 1], squeezed and stretched as `imaging.normalise` does,
      brighter is denser; it resizes and normalises by the record itself.
    - The same films give the same features, alone or in a batch, to rounding.
    - Features are finite and as wide as the record says, or it raises BadWeights.
    """

    @property
    def record(self) -> EncoderRecord:
        """See the class."""
        ...

    def features(self, films: NDArray[np.uint8] | NDArray[np.float32]) -> Features:
        """See the class."""
        ...


def file_digest(path: Path) -> str:
    """SHA-256 of a file, or "no file"."""
    if not path.is_file():
        return "no file"
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_record(record: EncoderRecord, folder: Path) -> EncoderRecord:
    """Record a folder: write the digests of its files beside them. BadWeights when one is absent, or not as already stated."""
    found = replace(
        record,
        sha256=file_digest(folder / record.weights),
        config_sha256=file_digest(folder / record.config),
    )
    for file, stated, digest in (
        (record.weights, record.sha256, found.sha256),
        (record.config, record.config_sha256, found.config_sha256),
    ):
        if digest == "no file" or stated not in {None, digest}:
            raise BadWeights(f"{file} of {record.name}: expected sha256 {stated or 'of any kind'}, found {digest}")
    (folder / SIDECAR).write_text(json.dumps(asdict(found), indent=1) + "\n", "utf-8")
    return found


def read_record(name: str, folder: Path) -> EncoderRecord:
    """The record beside the files in `folder`. BadWeights when it is absent, malformed, or another encoder's."""
    try:
        raw = json.loads((folder / SIDECAR).read_text("utf-8"))
        record = EncoderRecord(**{**raw, "mean": tuple(raw["mean"]), "std": tuple(raw["std"])})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise BadWeights(
            f"{SIDECAR} is absent or malformed; run `python -m rag_service.training record --encoder {name} --model FOLDER`"
        ) from error
    if record.name != name:
        raise BadWeights(f"the folder holds {record.name}, not {name}")
    return record


def checked_config(record: EncoderRecord, folder: Path) -> dict[str, Any]:
    """The configuration, once it and the weights have the digests that the record states. BadWeights names those expected."""
    for file, expected in ((record.weights, record.sha256), (record.config, record.config_sha256)):
        if (found := file_digest(folder / file)) != expected:
            raise BadWeights(f"{file} of {record.name}: expected sha256 {expected}, found {found}")
    try:
        config = json.loads((folder / record.config).read_text("utf-8"))
    except ValueError as error:
        raise BadWeights(f"{record.config} of {record.name} is no JSON") from error
    if not isinstance(config, dict):
        raise BadWeights(f"{record.config} of {record.name} is no JSON object")
    return config
