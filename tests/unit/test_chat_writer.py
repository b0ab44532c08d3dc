"""Chat models as writers: what they are shown, what of their answers is taken, and what becomes of one that fails."""

from __future__ import annotations

import json
from dataclasses import replace
from threading import Event
from typing import Any

import pytest
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage

from rag_service.errors import BadWeights
from rag_service.report.proposals import MOST, propose
from rag_service.report.writing import Candidate, WriterFailed
from rag_service.writers.chat import AT_ONCE, LONGEST, ChatWriter, load_chat_writer, question, sentences
from tests.contract.writer_suite import samples

SAID = "Small left pleural effusion."


def answer(*items: dict[str, Any]) -> str:
    return json.dumps({"sentences": list(items)})


def item(task: Any = 1, text: Any = SAID, slots: Any = (1,)) -> dict[str, Any]:
    return {"task": task, "text": text, "slots": list(slots) if isinstance(slots, tuple) else slots}


def model(*answers: str | Exception) -> GenericFakeChatModel:
    def given() -> Any:
        for one in answers:
            if isinstance(one, Exception):
                raise one
            yield AIMessage(one)

    return GenericFakeChatModel(messages=given())


def test_the_sentences_of_an_answer_go_to_their_tasks() -> None:
    text = answer(item(slots=(2, 1, 2)), item(2, "No pneumothorax.", ()), item(1, "Left effusion."))
    for given in (text, f"```json\n{text}\n```", f"```\n{text}\n```\n"):
        assert list(sentences(given, samples.tasks())) == [
            (Candidate(SAID, (1, 2)), Candidate("Left effusion.", (1,))),
            (Candidate("No pneumothorax.", ()),),
            (),
        ]


def test_a_task_gets_a_handful_and_no_sentence_twice() -> None:
    many = [item(text=f"Effusion {'small ' * n}on the left.") for n in range(8)]
    [given, *_] = sentences(answer(item(), item(), *many), samples.tasks())
    assert len(given) == MOST
    assert len(set(given)) == MOST


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Small left pleural effusion.",
        f"Here you are: {answer(item())}",
        json.dumps([item()]),
        json.dumps({"sentences": [item()], "note": ""}),
        json.dumps({"sentences": {"task": 1}}),
        answer(item(task=0)),
        answer(item(task=4)),
        answer(item(task=True)),
        answer(item(task="1")),
        answer(item(text="")),
        answer(item(text=7)),
        answer(item(text="Effusion.\nPneumothorax.")),
        answer(item(text="Effusion. " * 40)),
        answer(item(slots=(3,))),
        answer(item(slots="1")),
        answer(item(slots=([1],))),
        answer({"task": 1}),
        '{"sentences": ["<obj>Effusion.</obj>"]}',
        "[" * 100_000,
        answer(item()) + " " * LONGEST,
    ],
)
def test_an_answer_of_any_other_form_says_nothing(text: str) -> None:
    with pytest.raises(WriterFailed, match="malformed_answer"):
        sentences(text, samples.tasks())


def test_what_it_is_shown_is_data_between_marks_that_no_text_can_close() -> None:
    for text in samples.HOSTILE:
        (_, instruction), (_, asked) = question(samples.hostile_tasks(text))
        assert text not in instruction
        assert asked.startswith("<data>") and asked.endswith("</data>")
        assert asked.count("<") == 2
        shown = json.loads(asked.removeprefix("<data>").removesuffix("</data>"))
        assert [t["finding"] for t in shown["tasks"]] == ["Pleural Effusion", "Pneumothorax", "Fracture"]


def test_a_model_that_fails_or_hangs_costs_its_sentences_and_nothing_else() -> None:
    tasks, study = samples.tasks(), samples.study()
    failing = propose(ChatWriter(model(ValueError("Mrs Smith")), "fake:one"), study, tasks)
    assert failing.by_task == ((), (), ())
    assert failing.failure is not None
    assert failing.failure.endswith("ValueError")
    assert "Smith" not in failing.failure
    hung = Event()

    class Hanging:
        def invoke(self, _: object) -> object:
            hung.wait(20)
            raise RuntimeError

    late: Any = Hanging()
    writer = ChatWriter(late, "fake:one", seconds=0.05)
    try:
        failures = [propose(writer, study, tasks).failure for _ in range(AT_ONCE + 1)]
    finally:
        hung.set()
    assert failures == ["timeout"] * AT_ONCE + ["busy"]
    wrong = propose(ChatWriter(model("I cannot help with that."), "fake:one"), study, tasks)
    assert (wrong.by_task, wrong.failure) == (((), (), ()), "malformed_answer")


def test_a_model_that_cannot_be_had_names_what_is_needed() -> None:
    with pytest.raises(BadWeights, match="the extra `langchain`"):
        load_chat_writer("nobody:nothing")


def test_what_a_model_is_asked_is_traced_by_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even where the environment asks LangChain for it."""
    from langsmith.utils import tracing_is_enabled

    monkeypatch.setenv("LANGSMITH_TRACING", "true")
    traced = []

    class Watching:
        def invoke(self, _: object) -> AIMessage:
            traced.append(tracing_is_enabled())
            return AIMessage(answer())

    watching: Any = Watching()
    assert list(ChatWriter(watching, "fake:one").write(samples.study(), samples.tasks())) == [(), (), ()]
    assert traced == [False]


def test_nothing_is_asked_where_nothing_was_decided() -> None:
    undecided = replace(samples.tasks()[0], decision=replace(samples.tasks()[0].decision, polarity=None))
    assert list(ChatWriter(model(), "fake:one").write(samples.study(), (undecided,))) == [()]
    with pytest.raises(WriterFailed):
        sentences(answer(item()), (undecided,))


def test_a_model_is_named_as_langchain_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The provider's package is not installed; what it is asked for is."""
    asked = {}

    def made(name: str, **options: Any) -> Any:
        asked.update(options, name=name)
        return model(answer(item()))

    monkeypatch.setattr("langchain.chat_models.init_chat_model", made)
    writer = load_chat_writer("ollama:some-model")
    assert writer.id.startswith("ollama:some-model@1-")
    assert (asked["name"], asked["temperature"]) == ("ollama:some-model", 0)
    assert [len(given) for given in writer.write(samples.study(), samples.tasks())] == [1, 0, 0]
