"""Masks of lungs and heart: made whole, with their hulls; and the tokens that a writer sees of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from rag_service.imaging.film import Box
from rag_service.models.encoder import FilmEncoder
from rag_service.models.mask_tokens import mask_tokens
from rag_service.models.structures import StructureMasks

SIDE = 20


def chances(**boxes: tuple[int, int, int, int]) -> NDArray[np.float32]:
    """Structures as filled rectangles: top, bottom, left, right in cells."""
    found = np.zeros((3, SIDE, SIDE), np.float32)
    for channel, name in enumerate(("right", "left", "heart")):
        if name in boxes:
            top, bottom, left, right = boxes[name]
            found[channel, top:bottom, left:right] = 0.9
    return found


def test_of_two_pieces_the_larger_is_the_structure() -> None:
    apart = chances(right=(2, 12, 2, 8))
    apart[0, 15:17, 15:17] = 0.9
    masks = StructureMasks(apart)
    assert masks.area("right lung") == pytest.approx(60 / 400)
    assert masks.hull("right lung") == Box(0.1, 0.1, 0.4, 0.6)


def test_a_hole_belongs_to_the_structure() -> None:
    holed = chances(heart=(5, 15, 5, 15))
    holed[2, 8:10, 8:10] = 0.1
    assert StructureMasks(holed).area("heart") == pytest.approx(100 / 400)


def test_what_is_less_likely_than_not_is_not_seen() -> None:
    masks = StructureMasks(np.full((3, SIDE, SIDE), 0.49, np.float32))
    assert not masks.masks.any()
    assert masks.hull("heart") is None
    assert masks.area("heart") == 0.0


def test_the_heart_may_lie_over_a_lung() -> None:
    masks = StructureMasks(chances(left=(2, 18, 10, 18), heart=(8, 16, 6, 14)))
    assert masks.mask("left lung")[10, 12]
    assert masks.mask("heart")[10, 12]


@pytest.mark.parametrize("shape", [(2, 8, 8), (3, 8)])
def test_masks_are_of_three_structures(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"masks are \(3, S, S\)"):
        StructureMasks(np.zeros(shape, np.float32))


def test_a_token_is_the_mean_inside_the_mask_and_where_the_mask_lies(
    encoder: FilmEncoder, stored: NDArray[np.uint8]
) -> None:
    reading = encoder.read_stored(stored[:1])[0]
    maps = torch.zeros(2, 2, 2)
    maps[0, :, 1], maps[1, 1, :] = 4.0, 8.0
    local = np.array([[[1.0, 3.0], [1.0, 3.0]]], np.float32)
    plain = replace(reading, maps=maps, local=local, places=None)
    tokens = mask_tokens(plain, StructureMasks(chances(right=(0, 20, 0, 10), left=(10, 20, 10, 20))))
    assert tokens.shape == (3, 2 + 1 + 64)
    assert tokens[0, :3].tolist() == pytest.approx([0.0, 4.0, 1.0])  # the left half of the film
    assert tokens[1, :3].tolist() == pytest.approx([4.0, 8.0, 3.0])  # its lower right quarter
    assert tokens[1, 3:].reshape(8, 8)[4:, 4:].tolist() == [[1.0] * 4] * 4
    assert tokens[1, 3:].sum() == pytest.approx(16.0)
    assert not tokens[2].any()


def test_a_models_levels_are_all_in_the_token(encoder: FilmEncoder, stored: NDArray[np.uint8]) -> None:
    reading = encoder.read_stored(stored[:1])[0]
    assert reading.places is not None
    assert reading.local is None
    width = len(reading.maps) + len(reading.places) + 64
    assert mask_tokens(reading, StructureMasks(chances(heart=(5, 15, 5, 15)))).shape == (3, width)
