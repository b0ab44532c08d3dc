"""What LangChain asks of a retriever, of ours over a real service: the checks of its standard tests, and a few of our own."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.documents import Document
from langchain_core.language_models import FakeListChatModel
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnablePassthrough

from indexer import starter
from indexer.summary import Summary
from knowledge_base.cases import to_point
from knowledge_base.memory import MemoryStore
from knowledge_base.records import Case
from knowledge_base.schema import CASES
from rag_service import wiring
from rag_service.calibration import Calibration
from rag_service.errors import BadRequest, StoreUnavailable
from rag_service.gate import Gate
from rag_service.langchain_retriever import CaseRetriever
from rag_service.models.encoder import FilmEncoder
from rag_service.reader import Reader
from rag_service.report.labeler import Labeler
from rag_service.report.sentences import read_case_sentences
from rag_service.requests import SearchRequest
from rag_service.service import RadiographService

if TYPE_CHECKING:
    from tests.integration.conftest import HashedWords

LABELER = Labeler()
REPORTS = {
    "public": (
        "The heart is enlarged.",
        "Small left pleural effusion.",
        "No pneumothorax is seen.",
        "There is a right pleural effusion.",
    ),
    "hospital-1": ("Large left pleural effusion.",),
    "hospital-2": ("Bilateral pleural effusions.",),
}


def a_case(tenant: str, number: int, said: str) -> Case:
    text = f"FINDINGS: {said}"
    return Case("local", f"{tenant}-{number}", f"p{number}", text, read_case_sentences(text, LABELER), tenant)


@pytest.fixture
def service(
    tiny_encoder: FilmEncoder, calibration: Calibration, words: HashedWords, open_gate: Callable[[str, int], Gate]
) -> RadiographService:
    plan, store = wiring.layout(tiny_encoder.record.id, tiny_encoder.axes), MemoryStore()
    wiring.open_collections(store, plan)
    list(starter.add_passages(store, plan.guidelines, words, Summary()))
    cases = [a_case(tenant, i, said) for tenant, texts in REPORTS.items() for i, said in enumerate(texts)]
    vectors = words.encode([c.text for c in cases])
    store.upsert(CASES, [to_point(c, plan.cases, text_vector=v) for c, v in zip(cases, vectors, strict=True)])
    reader = Reader(tiny_encoder, calibration, open_gate(tiny_encoder.record.id, 4))
    return RadiographService(reader, wiring.build_memory(store, tiny_encoder, words))  # type: ignore[arg-type]


@pytest.fixture
def retriever(service: RadiographService) -> CaseRetriever:
    return CaseRetriever(service=service)


def cases_of(found: list[Document]) -> list[str]:
    return [d.page_content for d in found if d.metadata["kind"] == "case"]


# --- the standard tests


def test_invoke_returns_documents(retriever: CaseRetriever) -> None:
    assert isinstance(retriever, BaseRetriever)
    found = retriever.invoke("pleural effusion")
    assert found and all(isinstance(d, Document) for d in found)
    assert set(cases_of(found)[:2]) == {
        "FINDINGS: Small left pleural effusion.",
        "FINDINGS: There is a right pleural effusion.",
    }


def test_ainvoke_returns_the_same_documents(retriever: CaseRetriever) -> None:
    assert asyncio.run(retriever.ainvoke("pleural effusion")) == retriever.invoke("pleural effusion")


@pytest.mark.parametrize("limit", [1, 3])
def test_the_number_of_documents_by_constructor_and_by_call(service: RadiographService, limit: int) -> None:
    assert len(CaseRetriever(service=service, limit=limit, passages=False).invoke("effusion")) == limit
    assert len(CaseRetriever(service=service, passages=False).invoke("effusion", limit=limit)) == limit


# --- more of the interface


def test_batch_and_abatch_answer_each_query(retriever: CaseRetriever) -> None:
    asked = ["enlarged heart", "pneumothorax", "right effusion"]
    one_by_one = [retriever.invoke(q) for q in asked]
    assert retriever.batch(asked) == one_by_one
    assert asyncio.run(retriever.abatch(asked)) == one_by_one
    assert list(retriever.stream("pneumothorax")) == [retriever.invoke("pneumothorax")]


def test_documents_name_their_record_and_their_metadata_are_json(
    retriever: CaseRetriever, service: RadiographService
) -> None:
    found = retriever.invoke("left pleural effusion")
    first = found[0]
    assert service.case(UUID(first.id), "public").text == first.page_content
    assert json.loads(json.dumps(first.metadata)) == {
        "kind": "case",
        "score": first.metadata["score"],
        "labels": ["Pleural Effusion"],
    }
    kinds = [d.metadata["kind"] for d in found]
    assert kinds == ["case"] * kinds.count("case") + ["guideline"] * 3
    answered = service.search(SearchRequest(text="left pleural effusion")).cases
    assert [(d.id, d.metadata["score"]) for d in found if d.metadata["kind"] == "case"] == [
        (case.id, case.score) for case in answered
    ]


def test_a_tenant_sees_its_own_cases_and_the_public_ones(service: RadiographService) -> None:
    def seen(tenant: str) -> set[str]:
        return set(cases_of(CaseRetriever(service=service, tenant=tenant, limit=20).invoke("pleural effusion")))

    public = {f"FINDINGS: {said}" for said in REPORTS["public"]}
    assert seen("public") == public
    assert seen("hospital-1") == public | {"FINDINGS: Large left pleural effusion."}
    assert seen("hospital-2") == public | {"FINDINGS: Bilateral pleural effusions."}


@pytest.mark.parametrize(("query", "limit"), [("", 3), ("  \n", 3), ("edema", 0), ("edema", 51), ("x" * 4001, 3)])
def test_a_question_that_cannot_be_asked_is_an_error_with_a_name(
    retriever: CaseRetriever, query: str, limit: int
) -> None:
    with pytest.raises(BadRequest):
        retriever.invoke(query, limit=limit)
    with pytest.raises(BadRequest):
        asyncio.run(retriever.ainvoke(query, limit=limit))


def test_a_store_that_is_gone_is_no_empty_answer(retriever: CaseRetriever, service: RadiographService) -> None:
    service.close()
    with pytest.raises(StoreUnavailable):
        retriever.invoke("edema")


class Heard(BaseCallbackHandler):
    """Remembers what the callbacks were told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Any]] = []

    def on_retriever_start(self, serialized: Any, query: str, **more: Any) -> None:
        self.told.append(("start", (query, more["tags"], more["metadata"].get("ward"))))

    def on_retriever_end(self, documents: Any, **more: Any) -> None:
        self.told.append(("end", len(documents)))

    def on_retriever_error(self, error: BaseException, **more: Any) -> None:
        self.told.append(("error", type(error).__name__))


def test_callbacks_hear_of_the_start_the_end_and_errors_with_tags_and_metadata(service: RadiographService) -> None:
    heard = Heard()
    retriever = CaseRetriever(service=service, limit=2, passages=False, tags=["chest"], metadata={"ward": "7"})
    retriever.invoke("effusion", config={"callbacks": [heard], "tags": ["asked"]})
    with pytest.raises(BadRequest):
        retriever.invoke("", config={"callbacks": [heard]})
    kinds = [kind for kind, _ in heard.told]
    assert kinds == ["start", "end", "start", "error"]
    query, tags, ward = heard.told[0][1]
    assert (query, set(tags), ward) == ("effusion", {"asked", "chest"}, "7")
    assert heard.told[1][1] == 2 and heard.told[3][1] == "BadRequest"


def test_it_works_in_a_chain(retriever: CaseRetriever) -> None:
    def quoted(documents: list[Document]) -> str:
        return "\n".join(f"[{d.id}] {d.page_content}" for d in documents)

    prompt = ChatPromptTemplate.from_template("Cases:\n{cases}\nQuestion: {question}")
    asked = []

    class Model(FakeListChatModel):
        def _call(self, messages: Any, *rest: Any, **more: Any) -> str:
            asked.append(messages[0].content)
            return super()._call(messages, *rest, **more)

    inputs: Any = {"cases": retriever | quoted, "question": RunnablePassthrough()}
    chain = inputs | prompt | Model(responses=["An effusion, left."]) | StrOutputParser()
    assert chain.invoke("left effusion") == "An effusion, left."
    assert "FINDINGS: Small left pleural effusion." in asked[0] and asked[0].endswith("Question: left effusion")


def test_nothing_loads_langchain_or_llama_index_but_the_extra_itself() -> None:
    program = """
import sys
import api.app, eval.__main__, indexer.__main__, rag_service.__main__, rag_service.service, rag_service.wiring
def loaded():
    return sorted({m.split(".")[0] for m in sys.modules} & {"langchain", "langchain_core", "llama_index", "langsmith"})
before = loaded()
import rag_service.langchain_retriever
print(before, "langchain_core" in loaded(), "llama_index" in loaded())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[0] == "[] True False"
