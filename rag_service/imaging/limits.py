"""What one film may cost to read."""

from __future__ import annotations

from dataclasses import dataclass

from rag_service.errors import DecodeFailed, FilmTooLarge, UnsupportedFilm

_MIB = 1024 * 1024


@dataclass(frozen=True)
class Limits:
    """Bounds on one film; those on bytes and pixels are checked before anything is decoded.

    `max_bytes` counts the file's bytes, `max_pixels` rows x columns (64 Mpx), `max_memory_bytes` the growth of the
    decoding process's address space, `max_cpu_seconds` its processor time; `min_side` is in pixels. Memory and
    processor time bind in the child process only (see `decode_pool`).
    """

    max_bytes: int = 100 * _MIB
    max_pixels: int = 64_000_000
    max_memory_bytes: int = 1024 * _MIB
    max_cpu_seconds: int = 10
    min_side: int = 64

    def __post_init__(self) -> None:
        if min(self.max_bytes, self.max_pixels, self.max_memory_bytes, self.max_cpu_seconds, self.min_side) < 1:
            raise ValueError(f"limits are positive: {self}")

    def check_bytes(self, count: int) -> None:
        """Raise FilmTooLarge for a file of more than `max_bytes` bytes."""
        if count > self.max_bytes:
            raise FilmTooLarge(f"the file has {count} bytes, at most {self.max_bytes} are accepted")

    def check_size(self, rows: int, columns: int) -> None:
        """Judge the size a header declares: DecodeFailed (empty), FilmTooLarge, or UnsupportedFilm (too small)."""
        if rows < 1 or columns < 1:
            raise DecodeFailed(f"the header declares an empty image of {rows} x {columns} pixels")
        if rows * columns > self.max_pixels:
            raise FilmTooLarge(f"{rows} x {columns} pixels declared, at most {self.max_pixels} are accepted")
        if min(rows, columns) < self.min_side:
            raise UnsupportedFilm(f"{rows} x {columns} pixels, each side needs at least {self.min_side}")
