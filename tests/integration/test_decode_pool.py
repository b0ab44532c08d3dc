"""Decoding in a limited child process: same films, same refusals, and nothing a file does reaches this process."""

from __future__ import annotations

import io
import os
import signal
import struct
import sys
import threading
import time
import warnings
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    ComputedRadiographyImageStorage,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

from rag_service.errors import Busy, DecodeFailed, FilmError, FilmTooLarge, NotAnImage, ServiceError, UnsupportedFilm
from rag_service.imaging.decode import decode
from rag_service.imaging.decode_child import answer, serve
from rag_service.imaging.decode_pool import DecodePool
from rag_service.imaging.limits import Limits
from rag_service.imaging.normalise import to_stored
from rag_service.imaging.wire import pack_start, read_start

MIB = 1024 * 1024


def gradient(rows: int = 96, columns: int = 80, top: int = 4095) -> NDArray[np.uint16]:
    y, x = np.mgrid[0:rows, 0:columns]
    return ((y / rows + x / columns + 0.05 * np.sin(x)) / 2.1 * top).clip(0, top).astype(np.uint16)


def png(stored: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(stored).save(buffer, "PNG")
    return buffer.getvalue()


def dicom(syntax: UID, codestream: bytes | None = None) -> bytes:
    """A small MONOCHROME1 CR film; `codestream` takes the place of what the codec would have written."""
    stored = gradient() if syntax != JPEGBaseline8Bit else (gradient() // 16).astype(np.uint8)
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SOPClassUID = ComputedRadiographyImageStorage
    made.SOPInstanceUID = "1.2.826.0.1.3680043.8.498.1"
    made.Modality, made.ViewPosition, made.PixelSpacing = "CR", "PA", [0.2, 0.1]
    made.set_pixel_data(stored, "MONOCHROME1", 8 if stored.dtype == np.uint8 else 12)
    if codestream is not None:
        made.file_meta.TransferSyntaxUID = syntax
        made.PixelData = encapsulate([codestream])
        made["PixelData"].is_undefined_length = True
    elif syntax != ExplicitVRLittleEndian:
        made.compress(syntax, generate_instance_uid=False)
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcmwrite(buffer, made, enforce_file_format=True)
    return buffer.getvalue()


def dicom_jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray((gradient() // 16).astype(np.uint8)).save(buffer, "JPEG")
    return dicom(JPEGBaseline8Bit, buffer.getvalue())


def rle(segment: bytes) -> bytes:
    """An RLE film of two segments, the one decoded first being `segment`."""
    return dicom(RLELossless, struct.pack("<3I", 2, 64, 66) + bytes(52) + b"\x81\x00" + segment)


def bomb_png(side: int) -> bytes:
    """side x side zeros: about a thousandth of that in the file."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(side + 1)) for _ in range(side)) + packer.flush()
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


GOOD = png((gradient() // 16).astype(np.uint8))


def peak_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith("VmPeak")).split()[1]) * 1024


@pytest.fixture(scope="module")
def shared() -> Iterator[DecodePool]:
    """A pool for the tests that leave its child alive."""
    with DecodePool() as pool:
        yield pool


@pytest.mark.parametrize("syntax", [None, ExplicitVRLittleEndian, RLELossless, JPEGLSLossless, JPEG2000Lossless])
def test_the_child_gives_the_same_film(shared: DecodePool, syntax: UID | None) -> None:
    content = GOOD if syntax is None else dicom(syntax)
    here = decode(content)
    there = decode(content, pool=shared)
    np.testing.assert_array_equal(there.pixels, here.pixels)
    assert (there.frame, there.digest, there.media_type, there.view, there.notes) == (
        here.frame,
        here.digest,
        here.media_type,
        here.view,
        here.notes,
    )
    assert not there.pixels.flags.writeable


def test_refusals_come_back_typed_and_the_child_stays(shared: DecodePool) -> None:
    decode(GOOD, pool=shared)
    before = shared.worker_pids()
    for content, error in [(b"", NotAnImage), (b"words" * 99, NotAnImage), (b"GIF89a" * 40, UnsupportedFilm)]:
        with pytest.raises(error, match="accepted are single-frame CR"):
            decode(content, pool=shared)
    with pytest.raises(FilmTooLarge, match="bytes"):
        decode(GOOD, Limits(max_bytes=10), pool=shared)
    with pytest.raises(FilmTooLarge, match="pixels"):
        decode(GOOD, Limits(max_pixels=100), pool=shared)
    assert shared.worker_pids() == before


def test_a_child_killed_while_it_decodes_costs_its_film_only() -> None:
    with DecodePool() as pool, ThreadPoolExecutor(1) as threads:
        decode(GOOD, pool=pool)
        (victim,) = pool.worker_pids()
        os.kill(victim, signal.SIGSTOP)
        hostile = threads.submit(decode, GOOD, Limits(), pool=pool)
        time.sleep(0.1)
        os.kill(victim, signal.SIGKILL)
        with pytest.raises(DecodeFailed, match="did not survive"):
            hostile.result(timeout=10)
        assert decode(GOOD, pool=pool).frame.rows == 96
        assert victim not in pool.worker_pids()


def test_a_child_that_died_idle_costs_no_film() -> None:
    with DecodePool() as pool:
        decode(GOOD, pool=pool)
        os.kill(pool.worker_pids()[0], signal.SIGKILL)
        time.sleep(0.1)
        assert decode(GOOD, pool=pool).frame.rows == 96


def test_a_child_that_hangs_is_stopped_and_replaced() -> None:
    with DecodePool(timeout_seconds=1.0) as pool:
        pool_ready(pool)
        (victim,) = pool.worker_pids()
        os.kill(victim, signal.SIGSTOP)
        started = time.monotonic()
        with pytest.raises(DecodeFailed, match="too long"):
            decode(GOOD, pool=pool)
        assert time.monotonic() - started < 5.0
        assert decode(GOOD, pool=pool).frame.rows == 96
        assert victim not in pool.worker_pids()


def pool_ready(pool: DecodePool) -> None:
    decode(GOOD, pool=pool)


def test_threads_that_find_no_idle_child_get_busy() -> None:
    with DecodePool(timeout_seconds=0.4) as pool, ThreadPoolExecutor(5) as threads:
        pool_ready(pool)
        os.kill(pool.worker_pids()[0], signal.SIGSTOP)
        pending = [threads.submit(decode, GOOD, Limits(), pool=pool) for _ in range(5)]
        raised = [film.exception(timeout=20) for film in pending]
    assert any(isinstance(error, Busy) and error.retry_after_seconds == 1 for error in raised)
    assert sum(isinstance(error, DecodeFailed) for error in raised) == 1


def test_a_memory_bomb_is_contained() -> None:
    tight = Limits(max_memory_bytes=32 * MIB)
    with DecodePool() as pool:
        decode(GOOD, tight, pool=pool)
        usual = peak_bytes(pool.worker_pids()[0])
        with pytest.raises(FilmTooLarge, match="memory"):
            decode(bomb_png(7900), tight, pool=pool)
        with pytest.raises(FilmError):
            decode(rle(b"\x81\x00" * 1_500_000), tight, pool=pool)
        assert peak_bytes(pool.worker_pids()[0]) < usual + 64 * MIB
        assert decode(GOOD, tight, pool=pool).frame.rows == 96


def test_a_film_over_its_processor_time_is_stopped() -> None:
    with DecodePool() as pool:
        with pytest.raises(FilmTooLarge, match="processor time"):
            decode(rle(b"\x00\x01" * 30_000_000), Limits(max_cpu_seconds=1), pool=pool)
        assert decode(GOOD, pool=pool).frame.rows == 96


def test_many_threads_share_two_children() -> None:
    films = [png(np.roll((gradient() // 16).astype(np.uint8), shift, axis=0)) for shift in range(12)]
    with DecodePool(workers=2) as pool, ThreadPoolExecutor(6) as threads:
        assert len(pool.worker_pids()) == 2
        answers = list(threads.map(lambda content: decode(content, pool=pool), films * 4))
    for content, film in zip(films * 4, answers, strict=True):
        np.testing.assert_array_equal(film.pixels, decode(content).pixels)


def test_mutated_codestreams_are_films_or_film_errors() -> None:
    whole = [dicom(JPEGLSLossless), dicom(JPEG2000Lossless), dicom(RLELossless), dicom_jpeg()]
    random = np.random.default_rng(20)
    outcomes: dict[str, int] = {}
    with DecodePool(timeout_seconds=5.0) as pool:
        for turn in range(240):
            content = bytearray(whole[turn % len(whole)])
            for place in random.integers(132, len(content), random.integers(1, 5)):
                content[place] = random.integers(0, 256)
            try:
                film = decode(bytes(content), Limits(max_cpu_seconds=2, max_pixels=MIB), pool=pool)
            except FilmError as refusal:
                outcomes[refusal.code] = outcomes.get(refusal.code, 0) + 1
            else:
                outcomes["film"] = outcomes.get("film", 0) + 1
                assert np.isfinite(film.pixels).all()
    assert sum(outcomes.values()) == 240
    assert outcomes["film"] > 20


def test_the_child_gets_no_secrets_and_no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY_KEY", "b7e1")
    with DecodePool() as pool:
        pool_ready(pool)
        (pid,) = pool.worker_pids()
        assert b"CANARY" not in Path(f"/proc/{pid}/environ").read_bytes()
        assert "torch" not in Path(f"/proc/{pid}/maps").read_text(encoding="utf-8")


def test_closing_ends_every_child_and_what_it_was_decoding() -> None:
    pool = DecodePool(workers=2)
    with pytest.raises(RuntimeError, match="not started"):
        decode(GOOD, pool=pool)
    pool.start()
    with pytest.raises(RuntimeError, match="already started"):
        pool.start()
    pool_ready(pool)
    pids = pool.worker_pids()
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(decode, GOOD, Limits(), pool=pool)
        time.sleep(0.1)
        pool.close()
        assert isinstance(waiting.exception(timeout=10), ServiceError)
    pool.close()
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    with pytest.raises(RuntimeError, match="closed"):
        decode(GOOD, pool=pool)


def test_a_child_that_cannot_start_is_a_service_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with DecodePool() as pool, pytest.raises(ServiceError, match="could not be started"):
        decode(GOOD, pool=pool)


def test_an_answer_out_of_form_is_decode_failed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A child that took over its own pipes can lie, but only as far as a typed refusal."""
    fake = tmp_path / "child"
    answers = [b"[1]", b'{"rows": 3, "columns": 2}', b'{"error": "no such code", "message": "m"}', b"\xff\xff"]
    for said in answers:
        frames = pack_start({"ready": True}, 0) + struct.pack(">IQ", len(said), 0) + said
        (tmp_path / "frames").write_bytes(frames)
        fake.write_text(f"#!/bin/sh\ncat {tmp_path}/frames\nexec sleep 5\n", encoding="ascii")
        fake.chmod(0o700)
        monkeypatch.setattr(sys, "executable", str(fake))
        with DecodePool() as pool, pytest.raises(DecodeFailed):
            decode(GOOD, pool=pool)


def test_the_child_loop_answers_until_its_requests_end() -> None:
    limits = {"max_memory_bytes": 2048 * MIB}
    requests = pack_start(limits, len(GOOD)) + GOOD + pack_start(limits, 4) + b"word"
    answers = io.BytesIO()
    serve(io.BufferedReader(io.BytesIO(requests)), answers)
    answers.seek(0)
    assert read_start(answers.read) == ({"ready": True}, 0)
    header, body_bytes = read_start(answers.read)
    assert (header["rows"], header["columns"], body_bytes) == (96, 80, 96 * 80 * 4)
    pixels = np.frombuffer(answers.read(body_bytes), dtype=np.float32).reshape(96, 80)
    np.testing.assert_array_equal(pixels, decode(GOOD).pixels)
    header, body_bytes = read_start(answers.read)
    assert (header["error"], body_bytes) == ("not_an_image", 0)
    with pytest.raises(EOFError):
        serve(io.BufferedReader(io.BytesIO(requests[:-1])), io.BytesIO())


def test_a_film_squeezed_by_the_child_is_what_the_parent_would_have_squeezed(
    shared: DecodePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    squeezed = shared.decode_squeezed(GOOD, Limits())
    assert (squeezed.shape, squeezed.dtype) == ((256, 256), np.uint8)
    np.testing.assert_array_equal(squeezed, to_stored(decode(GOOD).pixels))
    with pytest.raises(NotAnImage, match="not a known image"):
        shared.decode_squeezed(b"word", Limits())
    monkeypatch.setattr(DecodePool, "_answer", lambda *_, **__: ({}, bytearray(7)))
    with pytest.raises(DecodeFailed, match="no readable answer"):
        shared.decode_squeezed(GOOD, Limits())


def test_the_child_squeezes_when_asked() -> None:
    header, pixels = answer(GOOD, Limits(), squeezed=True)
    assert (header["rows"], pixels.shape, pixels.dtype) == (96, (256, 256), np.uint8)


@pytest.mark.parametrize("frame", [struct.pack(">IQ", 1 << 30, 0), struct.pack(">IQ", 3, 0) + b"[1]"])
def test_a_frame_out_of_form_is_refused(frame: bytes) -> None:
    with pytest.raises(ValueError, match="frame header"):
        read_start(io.BytesIO(frame).read)


def test_a_pool_needs_a_worker_and_a_timeout() -> None:
    with pytest.raises(ValueError, match="worker"):
        DecodePool(workers=0)
    with pytest.raises(ValueError, match="timeout"):
        DecodePool(timeout_seconds=0)


def test_a_warm_child_adds_little_to_a_film_of_a_megapixel(shared: DecodePool) -> None:
    content = png((gradient(1024, 1024) // 16).astype(np.uint8))

    def fastest(pool: DecodePool | None) -> float:
        seconds = []
        for _ in range(15):
            started = time.perf_counter()
            decode(content, pool=pool)
            seconds.append(time.perf_counter() - started)
        return min(seconds)

    assert fastest(shared) - fastest(None) < 0.015


def test_no_thread_is_left_behind() -> None:
    before = threading.active_count()
    with DecodePool() as pool:
        pool_ready(pool)
    assert threading.active_count() == before
