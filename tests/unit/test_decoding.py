"""How the decoder may write: whatever its weights are, what it writes ends, repeats nothing and reads by the grammar."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from rag_service.models.decoder_network import Batch, DecoderNetwork, DecoderShape
from rag_service.models.decoding import LONGEST, MAX_BOXES, MAX_WORDS, Form, SentenceForm, generate
from rag_service.models.vocabulary import BEGIN, BOX, BOX_END, END, PAD, Vocabulary, train_bpe
from rag_service.report.grammar import read

VOCABULARY = Vocabulary(train_bpe(["The heart is enlarged.", "No pneumothorax.", "Left effusion."] * 9, 300))
SHAPE = DecoderShape(sees={"film": (2, 8), "place": (1, 4)}, width=16, hidden=16, heads=2, layers=1)
FORMS = (Form(3, True), Form(0, False), Form(4, True))
TWO_SLOTS = Form(2, True)


def network(seed: int, scale: float = 1.0) -> DecoderNetwork:
    torch.manual_seed(seed)
    made = DecoderNetwork(SHAPE, VOCABULARY).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(scale)
    return made


def batch(seed: int = 0, count: int = 3) -> Batch:
    torch.manual_seed(seed)
    return Batch(
        films={k: torch.randn(count, n, w) for k, (n, w) in SHAPE.sees.items()},
        seen={k: torch.ones(count, dtype=torch.bool) for k in SHAPE.sees},
        words=torch.randint(0, VOCABULARY.words, (count, 7)),
        segments=torch.zeros(count, 7, dtype=torch.long),
    )


def obsessed(word: int) -> DecoderNetwork:
    """A network that wants nothing but one word."""
    made = network(0)
    with torch.no_grad():
        shared = made.language.get_input_embeddings().weight
        shared.fill_(0.01)
        shared[word] = 50.0
    return made


@pytest.mark.parametrize("beams", [1, 4])
@pytest.mark.parametrize(("seed", "scale"), [(0, 1.0), (1, 1.0), (2, 30.0), (3, -5.0), (4, 0.0), (5, 1e8)])
def test_random_weights_write_by_the_grammar(seed: int, scale: float, beams: int) -> None:
    found = generate(network(seed, scale), VOCABULARY, batch(seed), FORMS, beams)
    assert [len(each) for each in found] == [beams] * 3
    for each, form in zip(found, FORMS, strict=True):
        for text, _ in each:
            (phrase,) = read(text)
            assert set(phrase.slots) <= set(range(1, form.slots + 1))
            assert phrase.boxes is None or (form.placed and len(phrase.boxes) <= MAX_BOXES)
            assert len(VOCABULARY.read(phrase.text, 1000)) <= 2 * MAX_WORDS
        assert [s for _, s in each] == sorted((s for _, s in each), reverse=True)


@pytest.mark.parametrize(
    "word", [VOCABULARY.read("heart", 1)[0], VOCABULARY.mark(BOX), VOCABULARY.mark(PAD), VOCABULARY.cite(1)]
)
def test_a_network_that_wants_one_word_for_ever_comes_to_an_end(word: int) -> None:
    for text, _ in (each[0] for each in generate(obsessed(word), VOCABULARY, batch(), FORMS, 1)):
        assert len(read(text)) == 1


def test_numbers_that_are_none_still_leave_something_to_write() -> None:
    form = SentenceForm(VOCABULARY, [Form(0, False)], 1)
    scores = form(torch.tensor([[VOCABULARY.mark(BEGIN)]]), torch.full((1, len(VOCABULARY)), torch.nan))
    assert torch.isfinite(scores).sum() == sum(VOCABULARY.opening)


def test_no_two_words_stand_beside_each_other_twice_whatever_is_wanted() -> None:
    form = SentenceForm(VOCABULARY, [Form(2, False)], 1)
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        # Few words are wanted, so that repetition is all that the network knows.
        wanted = torch.randperm(VOCABULARY.words, generator=generator)[:3]
        written: list[int] = []
        while not written or written[-1] != VOCABULARY.mark(END):
            scores = torch.zeros(len(VOCABULARY))
            scores[wanted] = 5.0
            scores[[VOCABULARY.mark(END), VOCABULARY.cite(1), VOCABULARY.cite(2)]] = -5.0
            allowed = form(torch.tensor([[VOCABULARY.mark(BEGIN), *written]]), scores[None])[0]
            written.append(int(allowed.argmax()))
        words = [w for w in written if w < VOCABULARY.words]
        pairs = list(pairwise(words))
        assert len(pairs) == len(set(pairs))
        assert all(a != b for a, b in pairs)
        assert len(words) == MAX_WORDS
        assert len(written) <= LONGEST


def following(*written: int, form: Form = TWO_SLOTS) -> set[int]:
    return {i for i, may in enumerate(SentenceForm(VOCABULARY, [form], 1).following(written, form).tolist()) if may}


def test_what_may_follow_what() -> None:
    mark, heart = VOCABULARY.mark, VOCABULARY.read("heart", 1)[0]
    ends = {mark(BOX), VOCABULARY.cite(1), VOCABULARY.cite(2), mark(END)}
    assert ends <= following(heart)
    assert heart not in following(heart)
    assert following(heart, form=Form(0, False)) & {mark(BOX), VOCABULARY.cite(1)} == set()
    assert following(heart, mark(BOX)) == {mark(f"<x{i}>") for i in range(99)}
    assert following(heart, mark(BOX), mark("<x97>")) == {mark(f"<y{i}>") for i in range(99)}
    assert following(heart, mark(BOX), mark("<x97>"), mark("<y3>")) == {mark("<x98>"), mark("<x99>")}
    assert following(heart, mark(BOX), mark("<x97>"), mark("<y98>"), mark("<x99>")) == {mark("<y99>")}
    left = Form(2, True, left=45)
    assert following(heart, mark(BOX), form=left) == {mark(f"<x{i}>") for i in range(45, 99)}
    right = Form(2, True, right=54)
    assert following(heart, mark(BOX), form=right) == {mark(f"<x{i}>") for i in range(54)}
    assert following(heart, mark(BOX), mark("<x52>"), mark("<y3>"), form=right) == {mark("<x53>"), mark("<x54>")}
    box = (mark(BOX), mark("<x1>"), mark("<y1>"), mark("<x2>"), mark("<y2>"), mark(BOX_END))
    assert following(heart, *box[:-1]) == {mark(BOX_END)}
    assert following(heart, *box) == ends
    assert following(heart, *box, *box, *box) == ends - {mark(BOX)}
    assert following(heart, VOCABULARY.cite(1)) == {VOCABULARY.cite(2), mark(END)}
    assert following(heart, VOCABULARY.cite(2)) == {mark(END)}
    assert following(heart, mark(END)) == following(heart, mark(END), mark(PAD)) == {mark(PAD)}


def test_tasks_written_together_are_written_as_alone() -> None:
    made, tasks = network(7), batch(7)
    together = generate(made, VOCABULARY, tasks, FORMS, 4)
    for i, form in enumerate(FORMS):
        alone = Batch(
            {k: t[i : i + 1] for k, t in tasks.films.items()}, {k: t[i : i + 1] for k, t in tasks.seen.items()},
            tasks.words[i : i + 1], tasks.segments[i : i + 1],
        )  # fmt: skip
        assert generate(made, VOCABULARY, alone, [form], 4)[0][0][0] == together[i][0][0]


def test_beams_are_other_words_and_not_other_boxes_or_slots() -> None:
    for each in generate(network(11), VOCABULARY, batch(), FORMS, 4):
        texts = [read(text)[0].text for text, _ in each]
        assert len(set(texts)) == 4


def test_of_marks_only_the_likeliest_may_follow() -> None:
    heart, end, cite = VOCABULARY.read("heart", 1)[0], VOCABULARY.mark(END), VOCABULARY.cite(1)
    scores = torch.zeros(1, len(VOCABULARY))
    scores[0, end], scores[0, cite] = 1.0, 2.0
    form = SentenceForm(VOCABULARY, [TWO_SLOTS], 1)
    found = form(torch.tensor([[VOCABULARY.mark(BEGIN), heart]]), scores)[0]
    assert torch.isfinite(found[VOCABULARY.words :]).nonzero().flatten().tolist() == [cite - VOCABULARY.words]
    assert torch.isfinite(found[: VOCABULARY.words]).sum() > 1


def test_twice_is_the_same() -> None:
    assert generate(network(3), VOCABULARY, batch(), FORMS, 4) == generate(network(3), VOCABULARY, batch(), FORMS, 4)
