"""The writers of the catalogue and a chat model, each behind the whole suite: tiny models of the same classes, made here."""

from __future__ import annotations

from pathlib import Path

from langchain_core.language_models import FakeListChatModel

from rag_service.report.writing import Writer
from rag_service.writers import maira2, medgemma
from rag_service.writers.catalogue import CATALOGUE, MAIRA_2, MEDGEMMA
from rag_service.writers.chat import ChatWriter
from rag_service.writers.load import load_writer
from rag_service.writers.record import SIDECAR, write_record
from tests.contract.writer_suite import samples, tiny
from tests.contract.writer_suite.conformance import WriterConformance

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
