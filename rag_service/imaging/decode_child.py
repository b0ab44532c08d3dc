"""The process that runs codecs on bytes from strangers: `python -m rag_service.imaging.decode_child`.

It reads one request after another from standard input and answers on standard output (see `wire`): first a ready
frame, then a film or a typed refusal for each request, until standard input ends. A request may ask for the film as
encoders read it (`squeezed`), which is smaller. Before each request it sets its
own limits on address space and processor time. Linux only (RLIMIT_AS against /proc/self/statm).
"""

from __future__ import annotations

import logging
import math
import os
import resource
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from rag_service.errors import FilmError
from rag_service.imaging.decode import decode
from rag_service.imaging.film import Film
from rag_service.imaging.limits import Limits
from rag_service.imaging.normalise import to_stored
from rag_service.imaging.wire import pack_start, read_start

_NO_PIXELS = np.zeros((0, 0), dtype=np.float32)


def answer(
    content: bytes, limits: Limits, *, squeezed: bool = False
) -> tuple[dict[str, object], NDArray[np.float32] | NDArray[np.uint8]]:
    """Header and pixels of the answer to one request; a refusal has `error` and `message` and no pixels."""
    try:
        film = decode(content, limits)
    except FilmError as refusal:
        return {"error": refusal.code, "message": str(refusal)}, _NO_PIXELS
    return _describe(film), to_stored(film.pixels) if squeezed else film.pixels


def _describe(film: Film) -> dict[str, object]:
    return {
        "rows": film.frame.rows,
        "columns": film.frame.columns,
        "pixel_aspect": film.frame.pixel_aspect,
        "media_type": film.media_type,
        "view": film.view.value,
        "notes": list(film.notes),
        "subject": asdict(film.subject),
    }


def serve(requests: BufferedReader, answers: BinaryIO) -> None:
    """Answer requests until they end; a request cut short ends the service with EOFError."""

    def read_exactly(count: int) -> bytes:
        content = requests.read(count)
        if len(content) < count:
            raise EOFError("a request ends early")
        return content

    baseline = _address_space_bytes()
    _send(answers, {"ready": True}, _NO_PIXELS)
    while requests.peek(1):
        header, body_bytes = read_start(read_exactly)
        content = read_exactly(body_bytes)
        squeezed = bool(header.pop("squeezed", False))
        limits = Limits(**header)
        with _bound(limits, baseline + body_bytes):
            _send(answers, *answer(content, limits, squeezed=squeezed))


@contextmanager
def _bound(limits: Limits, baseline: int) -> Iterator[None]:
    """Bound the address space to `baseline` and the film's share, and the processor seconds from now on."""
    address_space, processor = resource.getrlimit(resource.RLIMIT_AS), resource.getrlimit(resource.RLIMIT_CPU)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    seconds = math.ceil(usage.ru_utime + usage.ru_stime) + limits.max_cpu_seconds
    resource.setrlimit(resource.RLIMIT_AS, (baseline + limits.max_memory_bytes, address_space[1]))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, processor[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, address_space)
        resource.setrlimit(resource.RLIMIT_CPU, processor)


def _address_space_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    return pages * resource.getpagesize()


def _send(answers: BinaryIO, header: dict[str, object], pixels: NDArray[np.float32] | NDArray[np.uint8]) -> None:
    answers.write(pack_start(header, pixels.nbytes))
    answers.write(pixels.data)
    answers.flush()


def main() -> None:
    """Silence everything that could repeat a file's text, then serve on the standard streams."""
    logging.disable()
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    requests, answers = os.dup(0), os.dup(1)
    os.dup2(os.open(os.devnull, os.O_RDWR), 1)
    with os.fdopen(requests, "rb") as incoming, os.fdopen(answers, "wb") as outgoing:
        serve(incoming, outgoing)


if __name__ == "__main__":
    main()
