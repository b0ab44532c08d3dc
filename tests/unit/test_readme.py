"""The commands the README shows are commands that exist, and the retriever for LangChain answers as documented."""

from __future__ import annotations

import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest

from eval.program import parser as eval_parser
from indexer.__main__ import _parser as indexer_parser
from rag_service.__main__ import _parser as service_parser
from rag_service.langchain_retriever import CaseRetriever
from rag_service.report.draft import Citation, SimilarCase
from rag_service.training import heads
from rag_service.training.__main__ import _parser as training_parser

ROOT = Path(__file__).parents[2]
PARSERS = {
    "rag_service": service_parser,
    "indexer": indexer_parser,
    "eval": eval_parser,
    "rag_service.training": training_parser,
}
PREFIX = ".venv/bin/python -m "


def shown() -> list[list[str]]:
    lines = [line.strip() for line in (ROOT / "README.md").read_text("utf-8").splitlines()]
    return [shlex.split(line.removeprefix(PREFIX), comments=True) for line in lines if line.startswith(PREFIX)]


@pytest.mark.parametrize("command", shown(), ids=" ".join)
def test_a_command_of_the_readme_is_understood(command: list[str]) -> None:
    module, *arguments = [word.strip("[]") for word in command]
    if module == "rag_service.training" and arguments[0] in {"record", "box-head"}:
        assert heads._parser().parse_args(arguments).task == arguments[0]
        return
    alternatives = [a for a in arguments if a != "|"]
    if "|" in arguments:  # "stats | verify | ids" stands for three commands
        assert [PARSERS[module]().parse_args([a]).command for a in alternatives] == alternatives
    else:
        assert PARSERS[module]().parse_args(arguments) is not None


def test_readme_shows_every_door() -> None:
    assert {c[0] for c in shown()} == set(PARSERS)
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for target in ("demo", "test", "serve"):
        assert f"make {target}" in (ROOT / "README.md").read_text("utf-8")
        assert f"\n{target}:" in makefile


def test_the_retriever_gives_cases_then_passages() -> None:
    case = SimilarCase("c1", 0.5, None, ("Edema",), "Mild edema.", None)
    passage = Citation("guideline", "g1", "A point.", (0, 8), 0.1, True)
    asked = []

    def search(request: object) -> object:
        asked.append(request)
        return SimpleNamespace(cases=(case,), passages=(passage,))

    found = CaseRetriever(service=SimpleNamespace(search=search), limit=3).invoke("edema")
    assert [(d.id, d.page_content, d.metadata["kind"]) for d in found] == [
        ("c1", "Mild edema.", "case"),
        ("g1", "A point.", "guideline"),
    ]
    assert (asked[0].text, asked[0].limit) == ("edema", 3)  # type: ignore[attr-defined]
