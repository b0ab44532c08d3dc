"""Pictures that are no upright frontal film: made by kind, the same for the same generator."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from rag_service.training import outliers
from rag_service.training.outliers import KINDS


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def films(count: int = 6, side: int = 48) -> Tensor:
    """Bright to the left, brighter still at the top: a film whose sides can be told apart."""
    batch = torch.rand(count, 1, side, side, generator=seeded(9)) * 0.2
    batch[..., : side // 2] += 0.5
    batch[:, :, : side // 4] += 0.3
    return batch


@pytest.mark.parametrize("name", [*KINDS])
def test_a_kind_keeps_shape_and_range_and_follows_its_generator(name: str) -> None:
    batch = films()
    once, again, other = (KINDS[name](batch, seeded(s)) for s in (1, 1, 2))
    assert once.shape == batch.shape
    assert (once.min() >= 0.0, once.max() <= 1.0) == (True, True)
    assert torch.equal(once, again)
    assert not torch.equal(once, other)
    assert torch.equal(batch, films())
    assert len({film.sum().item() for film in once}) == 6


def test_what_is_made_is_of_many_kinds_and_stretched() -> None:
    batch = films(64)
    made = outliers.make(batch, seeded(3))
    assert made.shape == batch.shape
    assert torch.equal(made, outliers.make(batch, seeded(3)))
    assert torch.isfinite(made).all()
    assert made.amin((1, 2, 3)).max() == 0.0
    assert made.amax((1, 2, 3)).min() == 1.0
    assert (made - batch).abs().mean((1, 2, 3)).min() > 0.01
    assert {len(torch.unique(m)) == 2 for m in made} == {
        True,
        False,
    }  # boards and pepper have two greys, the others more


def test_stretching_by_hand() -> None:
    ramp = torch.linspace(0.25, 0.75, 300).repeat(300, 1)[None, None]
    out = outliers.stretched(ramp)
    assert out[0, 0, 0, [0, -1]].tolist() == [0.0, 1.0]
    assert out[0, 0, 0, 150].item() == pytest.approx(0.5, abs=0.01)
    assert outliers.stretched(torch.full((1, 1, 9, 9), 0.4)).max().item() == 0.0


def test_turned_films_are_films_turned() -> None:
    batch = films(40, 8)
    out = outliers.turned(batch, seeded())
    turns = [
        [k for k in range(4) if torch.equal(torch.rot90(b, k, (1, 2)), o)] for b, o in zip(batch, out, strict=True)
    ]
    assert {k for (k,) in turns} == {1, 2, 3}


def test_an_inverted_film_is_its_negative() -> None:
    batch = films(2)
    assert torch.equal(outliers.inverted(batch, seeded()), 1 - batch)


def test_shuffling_keeps_what_the_tiles_hold() -> None:
    board = torch.zeros(1, 1, 840, 840)  # divides by every number of tiles, so nothing is resampled
    board[..., :420] = 1.0
    out = outliers.shuffled(board, seeded())
    assert not torch.equal(out, board)
    assert out.mean().item() == pytest.approx(0.5)


def test_natural_noise_is_smooth_and_white_noise_is_not() -> None:
    batch = torch.zeros(8, 1, 96, 96)

    def roughness(made: Tensor) -> float:
        return float((made.diff(dim=-1).abs().mean() / made.std()).item())

    assert roughness(outliers.natural(batch, seeded())) < 0.8 < roughness(outliers.uniform_noise(batch, seeded()))


def test_a_photograph_shows_the_film_smaller_than_the_picture() -> None:
    white = torch.ones(16, 1, 64, 64)
    black = torch.zeros(16, 1, 64, 64)
    changed = (outliers.photograph(white, seeded()) - outliers.photograph(black, seeded())).abs() > 0.05
    shown = changed.float().mean((1, 2, 3)).numpy()
    assert (shown > 0.15).all()
    assert (shown < 0.95).all()
    assert np.ptp(shown) > 0.05
