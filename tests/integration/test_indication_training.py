"""What an indication tells is learned beside the film's own score, and the ridge is chosen on other studies."""

import numpy as np

from rag_service.training.indication import RIDGES, Told, fit_shift


def _studies(count: int, seed: int) -> Told:
    """Of half of them the indication says "line", which makes devices likelier by three logits on the same film."""
    rng = np.random.default_rng(seed)
    said, film = rng.random(count) < 0.5, rng.normal(-1.0, 1.5, count)
    labels = np.zeros((count, 14), np.int8)
    labels[:, 13] = rng.random(count) < 1 / (1 + np.exp(-(film + np.where(said, 1.5, -1.5))))
    logits = np.tile(film[:, None], (1, 14))
    return Told(logits, labels, tuple("line check" if s else "cough check" for s in said))


def test_the_word_that_goes_with_a_finding_gets_the_weight() -> None:
    shift, lines = fit_shift("film@1", _studies(400, 1), _studies(200, 2))
    assert shift.words == ("check", "cough", "line")
    assert shift.shift("line")[13] > 0.5
    assert shift.shift("cough")[13] < -0.5
    assert np.abs(shift.shift("line")[:13]).max() < 0.2
    assert len(lines) == 1 + len(RIDGES)
    alone, *ridges = (float(line.rsplit(" ", 1)[1]) for line in lines)
    assert min(ridges) < alone
