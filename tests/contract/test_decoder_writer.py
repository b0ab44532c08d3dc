"""The built-in writer behind the whole suite: a tiny decoder of the same class, made here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from knowledge_base.findings import FINDINGS
from rag_service.models.decoder import LISTING_FILE, save_decoder
from rag_service.models.decoder_network import DecoderShape
from rag_service.models.decoder_sight import Sight
from rag_service.report.writing import Study, Task, Writer
from rag_service.writers.decoder import Blind, DecoderWriter, load_decoder_writer
from tests.contract.writer_suite import samples
from tests.contract.writer_suite.conformance import WriterConformance
from tests.unit.tiny_decoder import MODEL, VOCABULARY, network

SEES = {k: (len(t), t.shape[1]) for k, t in Sight().look(samples.film(), samples.reading()).of(FINDINGS[0]).items()}
SHAPE = DecoderShape(sees=SEES, width=16, hidden=16, heads=2, layers=1)


def make_decoder(folder: Path) -> Writer:
    if not (folder / LISTING_FILE).exists():
        save_decoder(folder, MODEL, VOCABULARY, network(0, SHAPE), Sight(), {"version": "1", "sample": "none"})
    writer = load_decoder_writer(folder, MODEL)
    assert writer is not None
    return writer


class TestDecoder(WriterConformance):
    """The grounded decoder."""

    make = staticmethod(make_decoder)

    def test_a_task_about_which_nothing_was_decided_gets_nothing(
        self, writer: Writer, study: Study, tasks: tuple[Task, ...]
    ) -> None:
        silent = replace(tasks[0], decision=replace(tasks[0].decision, polarity=None))
        nothing, something = writer.write(study, (silent, tasks[1]))
        assert not nothing
        assert something
        assert list(writer.write(study, (silent,))) == [()]

    @pytest.mark.parametrize("blind", Blind)
    def test_what_it_is_made_not_to_see_is_in_its_name(self, writer: Writer, folder: Path, blind: Blind) -> None:
        blinded = blinded_writer(folder, blind)
        name, version = writer.id.split("@")
        assert blinded.id == f"{name}-without-{blind}@{version}"

    def test_without_evidence_nothing_is_cited_and_evidence_changes_nothing(
        self, folder: Path, study: Study, tasks: tuple[Task, ...]
    ) -> None:
        writer = blinded_writer(folder, Blind.EVIDENCE)
        given = writer.write(study, tasks)
        assert all(c.slots == () for each in given for c in each)
        assert given == writer.write(study, tuple(replace(t, slots=()) for t in tasks))

    def test_without_the_film_nothing_is_placed(self, folder: Path, study: Study, tasks: tuple[Task, ...]) -> None:
        given = blinded_writer(folder, Blind.FILM).write(study, tasks)
        assert all(c.boxes is None for each in given for c in each)

    def test_a_denied_finding_is_not_placed(self, writer: Writer, study: Study, tasks: tuple[Task, ...]) -> None:
        assert all(c.boxes is None for c in writer.write(study, tasks)[1])


def blinded_writer(folder: Path, *blind: Blind) -> DecoderWriter:
    found = load_decoder_writer(folder, MODEL, frozenset(blind))
    assert found is not None
    return found


def test_a_folder_without_a_decoder_has_no_writer(tmp_path: Path) -> None:
    assert load_decoder_writer(tmp_path, MODEL) is None
