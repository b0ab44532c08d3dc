"""The writers of the catalogue and a chat model, each behind the whole suite: tiny models of the same classes, made here."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from langchain_core.language_models import FakeListChatModel

from rag_service.models.encoder import FilmEncoder, load_encoder
from rag_service.report.writing import Study, Writer
from rag_service.settings import Settings
from rag_service.writers import maira2, medgemma
from rag_service.writers.catalogue import CATALOGUE, MAIRA_2, MEDGEMMA
from rag_service.writers.chat import ChatWriter
from rag_service.writers.decoder import load_decoder_writer
from rag_service.writers.load import load_writer
from rag_service.writers.record import SIDECAR, write_record
from tests.contract.writer_suite import samples, tiny
from tests.contract.writer_suite.conformance import WriterConformance

WEIGHTS = Path(Settings().model_folder)
MAIRA_ANSWER = (
    "<obj>Small left pleural effusion.<box><x50><y50><x90><y70></box></obj><obj>No pneumothorax or rib fracture.</obj>"
)
CHAT_ANSWER = (
    '{"sentences": [{"task": 1, "text": "Small left pleural effusion.", "slots": [2, 1]},'
    ' {"task": 2, "text": "No pneumothorax.", "slots": [1]}]}'
)
GEMMA_ANSWER = "Small left pleural effusion. No pneumothorax."


def make_maira2(folder: Path) -> Writer:
    if not (folder / SIDECAR).exists():
        tiny.maira2(folder, MAIRA_ANSWER, maira2.question(samples.full_study()))
        write_record(CATALOGUE[MAIRA_2], folder)
    return load_writer(MAIRA_2, folder)


def make_medgemma(folder: Path) -> Writer:
    if not (folder / SIDECAR).exists():
        tiny.gemma3(folder, GEMMA_ANSWER, medgemma.question(samples.full_study()))
        write_record(CATALOGUE[MEDGEMMA], folder)
    return load_writer(MEDGEMMA, folder)


def make_chat(_: Path) -> Writer:
    return ChatWriter(FakeListChatModel(responses=[CHAT_ANSWER]), "fake:list")


class TestMaira2(WriterConformance):
    """MAIRA-2's classes and grammar."""

    make = staticmethod(make_maira2)


class TestMedGemma(WriterConformance):
    """MedGemma's classes."""

    make = staticmethod(make_medgemma)


class TestChat(WriterConformance):
    """A chat model that always answers the same."""

    make = staticmethod(make_chat)


class TestBuiltIn(WriterConformance):
    """The shipped decoder, which reads the film's own features."""

    @staticmethod
    def make(_: Path) -> Writer:
        writer = load_decoder_writer(WEIGHTS, encoder().record.id)
        assert writer is not None
        return writer

    @pytest.fixture
    def study(self) -> Study:
        asked = samples.full_study()
        return replace(asked, reading=encoder().read(asked.film))


@cache
def encoder() -> FilmEncoder:
    return load_encoder(WEIGHTS)
