"""What an indication tells is learned beside the film's own score, and the ridge is chosen on other studies."""

import numpy as np

from rag_service.indication import IndicationShift
from rag_service.training.indication import RIDGES, Told, fit_shift


def _studies(count: int, seed: int) -> Told:
    """Of half of them the indication says "line", and those have devices three times out of four; the films tell nothing."""
    rng = np.random.default_rng(seed)
    said = rng.random(count) < 0.5
    labels = np.zeros((count, 14), np.int8)
    labels[:, 13] = rng.random(count) < np.where(said, 0.75, 0.1)
    return Told(np.full((count, 14), -1.0), labels, tuple("line check" if s else "cough check" for s in said))


def test_the_word_that_goes_with_a_finding_gets_the_weight() -> None:
    shift, lines = fit_shift("film@1", _studies(400, 1), _studies(200, 2))
    assert isinstance(shift, IndicationShift)
    assert shift.words == ("check", "cough", "line")
    assert shift.shift("line")[13] > 0.5 > 0 > shift.shift("cough")[13]
    assert abs(shift.shift("line")[:13]).max() < 0.2
    assert len(lines) == 1 + len(RIDGES)
    alone, *ridges = (float(line.rsplit(" ", 1)[1]) for line in lines)
    assert min(ridges) < alone
