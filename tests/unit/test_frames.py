"""Frames of the embedded engine's pipe."""

from __future__ import annotations

import struct
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledge_base.frames import MAX_FRAME, FrameError, Words, decode_header, encode, float_words, hit_words, lengths


@given(st.dictionaries(st.text(), st.one_of(st.none(), st.integers(), st.text())), st.binary(max_size=64))
def test_a_frame_comes_back_as_it_was_sent(header: dict[str, object], block: bytes) -> None:
    frame = encode(header, block)
    size, rest = lengths(frame[:8])
    assert decode_header(frame[8 : 8 + size]) == header
    assert frame[8 + size :] == block
    assert rest == len(block)


def test_what_is_no_frame_is_refused() -> None:
    with pytest.raises(FrameError, match="over the limit"):
        lengths(struct.pack("<II", MAX_FRAME, 1))
    for body in (b"", b"{", b"\xff", b"[1]", b"3"):
        with pytest.raises(FrameError, match="header of a frame"):
            decode_header(body)
    with pytest.raises(ValueError, match="JSON compliant"):
        encode({"score": float("nan")})


def test_hits_come_back_as_they_were_sent_and_nothing_else_is_taken_for_them() -> None:
    one, other = UUID(int=7), UUID(int=2**128 - 1)
    lists = [[(one, 0.5), (other, -1.25)], [], [(other, 3.0)]]
    block = b"".join(map(hit_words, lists))
    assert Words(block).hits([2, 0, 1]) == lists
    assert Words(b"").hits([]) == []
    with pytest.raises(FrameError, match="longer"):
        Words(block).hits([2, 0])
    with pytest.raises(FrameError, match="shorter"):
        Words(block).hits([2, 0, 2])


def test_words_are_read_in_turn_and_never_past_the_end() -> None:
    words = Words(float_words([0.5, -2.0]) + np.array([7, 4_294_967_295], np.uint32).tobytes())
    assert words.floats(2) == [0.5, -2.0]
    assert words.integers(1) == [7]
    assert words.integers(1) == [4_294_967_295]
    with pytest.raises(FrameError, match="shorter"):
        words.floats(1)
