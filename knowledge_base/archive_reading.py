"""A knowledge base as one file: how it is checked and read back. See `archive` for the format.

Nothing is unpacked to the disk, and no member is read beyond what the listing and the limits here allow.
"""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load

from knowledge_base.archive import (
    COMMENT,
    FORMAT,
    LISTING,
    PART,
    TOMBSTONES,
    VERSION,
    Part,
    digest_of,
    words_digest,
    words_of,
)
from knowledge_base.errors import BadArchive, StoreProtocolError
from knowledge_base.records import digest
from knowledge_base.schema import CollectionSchema, IndexManifest
from knowledge_base.store import VECTORS_SHA256, Point, intact, vectors_digest

_MAX_LISTING: Final = 256 << 20
_MAX_MEMBER: Final = 256 << 20
_PART_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,100}/[0-9]{6,9}")
_UNREADABLE: Final = (
    zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, SafetensorError,
    ValueError, TypeError, KeyError, AttributeError,
)  # fmt: skip
"""What reading a file of somebody else's making can raise; a RecursionError (JSON too deep) is a RuntimeError."""


T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Archive:
    """A checked listing: what the file says it holds. Its parts are checked as they are read."""

    path: Path
    collections: Mapping[str, tuple[CollectionSchema, IndexManifest]]
    parts: tuple[Part, ...]
    withdrawals_sha256: str

    def points(self, collection: str) -> int:
        """How many points of a collection the file holds."""
        return sum(p.points for p in self.parts if p.collection == collection)

    def read(self) -> Iterator[tuple[Part, list[Point]]]:
        """Every part with its points, BM25 vectors included. Raises `BadArchive` when a part is not what is listed."""
        with zipfile.ZipFile(self.path) as file:
            for part in self.parts:
                schema = self.collections[part.collection][0]
                yield part, _guarded(part.name, partial(_read_part, file, part, schema))

    def same_words(self, part: Part, points: Sequence[Point]) -> bool:
        """Whether the running tokenizer makes the BM25 vectors that the part's maker had."""
        return words_digest(self.collections[part.collection][0], points) == part.words_sha256

    def tombstones(self) -> list[tuple[str, UUID]]:
        """Tenant and case of each withdrawal. Raises `BadArchive`."""
        with zipfile.ZipFile(self.path) as file:
            return _guarded(TOMBSTONES, partial(_read_tombstones, file, self.withdrawals_sha256))


def open_archive(path: Path) -> Archive:
    """Check the whole file's digest, then its listing. Raises `BadArchive`; nothing else is read from the file."""
    _guarded("signature", partial(_check_signature, path))
    return _guarded(LISTING, partial(_read_listing, path))


def _guarded(what: str, read: Callable[[], T]) -> T:
    try:
        return read()
    except (*_UNREADABLE, StoreProtocolError) as error:
        raise BadArchive(f"the archive's {what} cannot be read") from error


def _check_signature(path: Path) -> None:
    size = path.stat().st_size - COMMENT - 2
    with path.open("rb") as file:
        file.seek(max(0, size))
        tail = file.read()
    if size < 0 or tail[:2] != COMMENT.to_bytes(2, "little"):
        raise BadArchive("the file is no exported knowledge base, or it was cut short")
    if tail[2:].decode("ascii", "replace") != digest_of(path, size):
        raise BadArchive("the archive fails its checksum: it was damaged after it was written")


def _read_listing(path: Path) -> Archive:
    with zipfile.ZipFile(path) as file:
        told = json.loads(_member(file, LISTING, _MAX_LISTING))
        if not isinstance(told, dict) or told.get("format") != FORMAT:
            raise BadArchive("the file is no exported knowledge base")
        if told.get("version") != VERSION:
            raise BadArchive(f"the archive has format version {told.get('version')!r}, this program reads {VERSION}")
        if told.pop("sha256") != digest(told):
            raise BadArchive("the archive's listing fails its checksum")
        collections = [_collection(c) for c in told["collections"]]
        archive = Archive(
            path,
            {schema.name: (schema, manifest) for schema, manifest in collections},
            tuple(_part(p) for p in told["parts"]),
            told["withdrawals_sha256"],
        )
        _check_members(file, archive)
    return archive


def _collection(told: Mapping[str, Any]) -> tuple[CollectionSchema, IndexManifest]:
    return CollectionSchema.from_json(told["schema"]), IndexManifest.from_json(told["manifest"])


def _part(told: Mapping[str, Any]) -> Part:
    if set(told) != {f.name for f in fields(Part)}:
        raise BadArchive("the archive lists a part in an unknown form")
    part = Part(**told)
    if not _PART_NAME.fullmatch(part.name) or part.name.split("/")[0] != part.collection:
        raise BadArchive("the archive lists a part whose name is none of ours")
    if isinstance(part.points, bool) or not isinstance(part.points, int) or not 1 <= part.points <= PART:
        raise BadArchive(f"part {part.name} lists an impossible number of points")
    return part


def _check_members(file: zipfile.ZipFile, archive: Archive) -> None:
    """The file's members are those listed, each once, and the parts belong to collections that are listed."""
    if unknown := {p.collection for p in archive.parts} - set(archive.collections):
        raise BadArchive(f"the archive has parts of {sorted(unknown)}, which it does not list")
    listed = [f"{p.name}.{kind}" for p in archive.parts for kind in ("jsonl", "safetensors")]
    if sorted(file.namelist()) != sorted([*listed, TOMBSTONES, LISTING]):
        raise BadArchive("the archive holds other files than it lists")


def _member(file: zipfile.ZipFile, name: str, limit: int = _MAX_MEMBER) -> bytes:
    """A member's bytes, no more than it declares and the limit allows."""
    member = file.getinfo(name)
    if member.file_size > limit:
        raise BadArchive(f"the archive's {name} is larger than any this program writes")
    with file.open(member) as stream:
        return stream.read(limit + 1)


def _signed(file: zipfile.ZipFile, name: str, sha256: str) -> bytes:
    content = _member(file, name)
    if hashlib.sha256(content).hexdigest() != sha256:
        raise BadArchive(f"the archive's {name} fails its checksum")
    return content


def _read_part(file: zipfile.ZipFile, part: Part, schema: CollectionSchema) -> list[Point]:
    rows = [json.loads(r) for r in _signed(file, f"{part.name}.jsonl", part.payload_sha256).splitlines()]
    tensors = load(_signed(file, f"{part.name}.safetensors", part.vectors_sha256))
    if len(rows) != part.points:
        raise BadArchive(f"part {part.name} holds {len(rows)} points and lists {part.points}")
    columns = {name: iter(_column(name, tensors[name], schema)) for name in tensors}
    points = [_point(row, columns, schema) for row in rows]
    if any(next(column, None) is not None for column in columns.values()):
        raise BadArchive(f"part {part.name} holds more vectors than its points have")
    return points


def _column(name: str, tensor: NDArray[Any], schema: CollectionSchema) -> NDArray[np.float32]:
    if tensor.dtype != np.float32 or tensor.ndim != 2 or tensor.shape[1] != schema.dense[name].size:
        raise BadArchive(f"the archive's vectors {name!r} are {tensor.dtype} of shape {tensor.shape}")
    return tensor


def _point(
    row: Mapping[str, Any], columns: Mapping[str, Iterator[NDArray[np.float32]]], schema: CollectionSchema
) -> Point:
    """A point of a line, its vectors the next of their columns; raises `BadArchive` when its own checksums fail."""
    identity, payload = UUID(row["id"]), row["payload"]
    vectors = {name: next(columns[name], np.zeros(0, np.float32)) for name in row["vectors"]}
    if not intact(payload) or payload[VECTORS_SHA256] != vectors_digest(vectors):
        raise BadArchive(f"record {identity} of the archive fails its checksum")
    return Point(identity, vectors, words_of(schema, payload), payload)


def _read_tombstones(file: zipfile.ZipFile, sha256: str) -> list[tuple[str, UUID]]:
    rows = [json.loads(r) for r in _signed(file, TOMBSTONES, sha256).splitlines()]
    return [(str(tenant), UUID(case)) for tenant, case in rows]
