"""A knowledge base as one file: how it is written.

A zip file (PKWARE APPNOTE 6.3) that any tool can look into. For each part of up to PART points of one tenant there are
two members: `<collection>/<number>.jsonl`, a line {"id", "payload", "vectors"} for each point, and
`<collection>/<number>.safetensors`, whose tensor NAME holds, in that order, the float32 vectors of the points whose line
lists NAME. `withdrawals.jsonl` has a line [tenant, case] for each tombstone. `manifest.json` comes last: format and
version, each collection's layout and models, each part's size and digests, and the digest of all that. The comment of
the zip file is the SHA-256 of every byte before it and its length: no bit of the file can change unseen.

BM25 vectors are not in the file: they follow from a point's text, and must fit the running tokenizer. Each part has
their digest, so that a reader knows whether it makes the same ones.

The same knowledge base always gives the same bytes: the file holds no time and no name of a machine.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from knowledge_base.bm25 import document_vector
from knowledge_base.pages import all_pages, check_page
from knowledge_base.places import sync_folder
from knowledge_base.records import digest
from knowledge_base.schema import CollectionSchema, IndexManifest
from knowledge_base.store import KnowledgeStore, Page, Point, SparseVector
from knowledge_base.withdrawals import tombstones

FORMAT: Final = "chest-film-second-reader/knowledge-base"
VERSION: Final = 1
PART: Final = 256
"""Points in a part, at most."""
LISTING: Final = "manifest.json"
TOMBSTONES: Final = "withdrawals.jsonl"
COMMENT: Final = 64
"""Length of the zip file's comment: a SHA-256 in hex."""
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)
_CHUNK: Final = 1 << 20


@dataclass(frozen=True)
class Part:
    """A part of a collection: how many points, and the SHA-256 of its two members and of its BM25 vectors."""

    name: str
    collection: str
    points: int
    payload_sha256: str
    vectors_sha256: str
    words_sha256: str


def export(
    store: KnowledgeStore, collections: Sequence[tuple[CollectionSchema, IndexManifest]], path: Path
) -> Iterator[int]:
    """Write the opened `collections`, all tenants, to `path`; yields how many points each part had.

    The file takes its name when it is complete and on the disk: a kill leaves none, or the one before. Raises
    `DamagedRecordError` when a record fails a checksum, and what the store raises.
    """
    beside = path.with_name(f".{path.name}.part")
    try:
        yield from _write(store, collections, beside)
        _sign(beside)
        beside.replace(path)
        sync_folder(path.parent)
    finally:
        beside.unlink(missing_ok=True)


def _write(
    store: KnowledgeStore, collections: Sequence[tuple[CollectionSchema, IndexManifest]], path: Path
) -> Iterator[int]:
    parts: list[Part] = []
    with zipfile.ZipFile(path, "w") as file:
        for schema, _ in collections:
            for number, page in enumerate(_full(all_pages(store, schema, limit=PART))):
                parts.append(_write_part(file, schema, f"{schema.name}/{number:06d}", page))
                yield len(page.points)
        stones = _lines([[tenant, str(case)] for tenant, cases in tombstones(store) for case in cases])
        _add(file, TOMBSTONES, stones, zipfile.ZIP_DEFLATED)
        listing = _listing(collections, parts, hashlib.sha256(stones).hexdigest())
        _add(file, LISTING, json.dumps(listing, indent=1).encode(), zipfile.ZIP_DEFLATED)


def _full(pages: Iterator[tuple[str, Page]]) -> Iterator[Page]:
    """The pages that hold points, each checked."""
    for _, page in pages:
        check_page(page)
        if page.points:
            yield page


def _write_part(file: zipfile.ZipFile, schema: CollectionSchema, name: str, page: Page) -> Part:
    rows = [{"id": str(p.id), "payload": p.payload, "vectors": sorted(p.vectors)} for p in page.points]
    payload, vectors = _lines(rows), save(_stacked(page.points), None)
    _add(file, f"{name}.jsonl", payload, zipfile.ZIP_DEFLATED)
    _add(file, f"{name}.safetensors", vectors, zipfile.ZIP_STORED)
    return Part(
        name=name,
        collection=schema.name,
        points=len(page.points),
        payload_sha256=hashlib.sha256(payload).hexdigest(),
        vectors_sha256=hashlib.sha256(vectors).hexdigest(),
        words_sha256=words_digest(schema, page.points),
    )


def _stacked(points: Sequence[Point]) -> dict[str, NDArray[np.float32]]:
    names = sorted({n for p in points for n in p.vectors})
    return {n: np.stack([p.vectors[n] for p in points if n in p.vectors]) for n in names}


def words_of(schema: CollectionSchema, payload: Mapping[str, Any]) -> dict[str, SparseVector]:
    """The BM25 vectors of a stored payload, made from its text by the running tokenizer."""
    made = {n: document_vector(payload.get("text", ""), weights) for n, weights in schema.sparse.items()}
    return {n: v for n, v in made.items() if v is not None}


def words_digest(schema: CollectionSchema, points: Sequence[Point]) -> str:
    """SHA-256 (hex) of the points' BM25 vectors, as little-endian words."""
    sha = hashlib.sha256()
    for point in points:
        for name, vector in sorted(words_of(schema, point.payload).items()):
            sha.update(name.encode() + b"\0" + vector.indices.astype("<u4").tobytes())
            sha.update(vector.values.astype("<f4").tobytes())
    return sha.hexdigest()


def _listing(
    collections: Sequence[tuple[CollectionSchema, IndexManifest]], parts: Sequence[Part], stones: str
) -> dict[str, Any]:
    told = {
        "format": FORMAT,
        "version": VERSION,
        "collections": [{"schema": s.as_json(), "manifest": m.as_json()} for s, m in collections],
        "parts": [vars(p) for p in parts],
        "withdrawals_sha256": stones,
    }
    return {**told, "sha256": digest(told)}


def _lines(rows: Sequence[object]) -> bytes:
    return b"".join(json.dumps(r, ensure_ascii=False, sort_keys=True).encode() + b"\n" for r in rows)


def _add(file: zipfile.ZipFile, name: str, content: bytes, method: int) -> None:
    member = zipfile.ZipInfo(name, _EPOCH)
    member.compress_type = method
    file.writestr(member, content)


def _sign(path: Path) -> None:
    """Set the zip file's comment, whose length is its last two bytes while it has none."""
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        signature = digest_of(path, size - 2)
        file.seek(size - 2)
        file.write(COMMENT.to_bytes(2, "little") + signature.encode())
        file.flush()
        os.fsync(file.fileno())


def digest_of(path: Path, size: int) -> str:
    """SHA-256 (hex) of the first `size` bytes of a file."""
    sha, left = hashlib.sha256(), size
    with path.open("rb") as file:
        while left and (piece := file.read(min(left, _CHUNK))):
            sha.update(piece)
            left -= len(piece)
    return sha.hexdigest()
