"""What every writer keeps, whoever wrote it: the contract of `rag_service.report.writing.Writer`."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from rag_service.report.proposals import MOST, propose
from rag_service.report.writing import Candidate, Study, Task, Writer
from tests.contract.writer_suite import samples


class WriterConformance:
    """Inherit, and say how the writer is made in a folder of its own; twice made it is the same writer."""

    make: Callable[[Path], Writer]

    @pytest.fixture(scope="class")
    @classmethod
    def folder(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        return tmp_path_factory.mktemp("writer")

    @pytest.fixture(scope="class")
    @classmethod
    def writer(cls, folder: Path) -> Writer:
        return cls.make(folder)

    @pytest.fixture
    def study(self) -> Study:
        return samples.full_study()

    @pytest.fixture
    def tasks(self) -> tuple[Task, ...]:
        return samples.tasks()

    def test_its_id_is_stable_and_names_a_model_and_a_digest(self, writer: Writer, folder: Path) -> None:
        assert re.fullmatch(r"[\w.:/-]+@[\w.]+-[0-9a-f]{8,64}", writer.id)
        assert self.make(folder).id == writer.id

    def test_every_task_gets_a_handful_of_sentences_best_first(
        self, writer: Writer, study: Study, tasks: tuple[Task, ...]
    ) -> None:
        answered = writer.write(study, tasks)
        assert len(answered) == len(tasks)
        assert any(answered), "the sample is one that it can write of"
        for given, task in zip(answered, tasks, strict=True):
            assert len(given) <= MOST
            assert [c.score for c in given] == sorted((c.score for c in given), reverse=True)
            for candidate in given:
                _check(candidate, task)

    def test_the_same_study_gives_the_same(
        self, writer: Writer, folder: Path, study: Study, tasks: tuple[Task, ...]
    ) -> None:
        once = [tuple(given) for given in writer.write(study, tasks)]
        assert once == [tuple(given) for given in writer.write(study, tasks)]
        assert once == [tuple(given) for given in self.make(folder).write(study, tasks)]

    def test_nothing_is_said_where_nothing_is_asked(self, writer: Writer, study: Study) -> None:
        assert list(writer.write(study, ())) == []

    @pytest.mark.parametrize("text", samples.HOSTILE, ids=range(len(samples.HOSTILE)))
    def test_evidence_is_data(self, writer: Writer, study: Study, text: str) -> None:
        hostile = samples.hostile_tasks(text)
        proposals = propose(writer, study, hostile)
        assert len(proposals.by_task) == len(hostile)
        assert proposals.failure is None
        for given, task in zip(proposals.by_task, hostile, strict=True):
            for candidate in given:
                _check(candidate, task)

    @pytest.mark.parametrize("text", samples.HOSTILE, ids=range(len(samples.HOSTILE)))
    def test_words_of_the_request_are_data(self, writer: Writer, study: Study, text: str) -> None:
        asked = replace(study, prompt=text, indication=text, technique=text, comparison=text, prior_report=text)
        proposals = propose(writer, asked, samples.tasks())
        assert proposals.failure is None
        assert len(proposals.by_task) == 3


def _check(candidate: Candidate, task: Task) -> None:
    """A sentence on one line; slots that there are, each once, ascending; boxes or None, never none of them."""
    assert candidate.text.strip() == candidate.text != ""
    assert candidate.text.isprintable()
    assert list(candidate.slots) == sorted(set(candidate.slots) & set(range(1, len(task.slots) + 1)))
    assert candidate.boxes != ()
