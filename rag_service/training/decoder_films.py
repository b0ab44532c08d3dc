"""The films that the decoder learns from, as it looks at them: read once for a film model, then taken from the cache."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from tqdm import trange

from knowledge_base.records import digest
from rag_service.models.decoder_sight import FilmTokens, Sight
from rag_service.models.encoder import FilmEncoder
from rag_service.training.corpus import Corpus

_READ_AT_ONCE: Final = 16
_PLACES: Final = "places"

Floats = NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class FilmBank:
    """Films by corpus row: `tokens` (n, count, width) by kind, and `places` (n, 14, h * w), both float16 on the shelf."""

    at: Mapping[int, int]
    tokens: Mapping[str, Floats]
    places: Floats

    def film(self, row: int) -> FilmTokens:
        """The tokens of a film by its row."""
        index = self.at[row]
        tokens = {kind: all_of[index].astype(np.float32) for kind, all_of in self.tokens.items()}
        return FilmTokens(tokens, self.places[index].astype(np.float32))

    def box(self, row: int) -> Floats:
        """[c ; r/sqrt(3)] of a film, (2d,)."""
        box: Floats = self.film(row).tokens["box"][0]
        return box


def read_films(encoder: FilmEncoder, sight: Sight, corpus: Corpus, rows: NDArray[np.int64], cache: Path) -> FilmBank:
    """The films of these rows."""
    made_of = [encoder.record.id, sight.digests, len(corpus.texts), rows.tolist()]
    kept = cache / f"decoder-films-{digest(made_of)[:16]}.npz"
    if not kept.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        found: list[FilmTokens] = []
        for start in trange(0, len(rows), _READ_AT_ONCE, desc="reading films", unit="batch"):
            stored = corpus.films[rows[start : start + _READ_AT_ONCE]]
            found += sight.look_stored(stored, encoder.read_stored(stored))
        made: dict[str, Any] = {kind: np.stack([f.tokens[kind] for f in found]) for kind in found[0].tokens}
        made[_PLACES] = np.stack([f.places for f in found])
        np.savez(kept, **{name: a.astype(np.float16) for name, a in made.items()})
    with np.load(kept, allow_pickle=False) as arrays:
        tokens = {name: arrays[name] for name in arrays.files if name != _PLACES}
        return FilmBank({row: i for i, row in enumerate(rows.tolist())}, tokens, arrays[_PLACES])
