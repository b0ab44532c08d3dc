"""A verification as a person wants to read it in a terminal: each sentence with its verdict, its citations, and the faults."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from rag_service.report.render import WIDTH
from rag_service.verifying import VerifiedSentence, VerifyAnswer


def render_verified(answer: VerifyAnswer) -> str:
    """The whole answer as text; a fault names its sentences by their numbers, from 1."""
    lines = [line for number, s in enumerate(answer.sentences, 1) for line in _sentence(number, s)]
    for fault, places in answer.checks.items():
        if places:
            lines.append(f"{fault}: sentences {', '.join(str(p + 1) for p in places)}")
    lines.append(f"statements of a finding without evidence: {answer.unsupported_positives}")
    return "\n".join(lines)


def _sentence(number: int, sentence: VerifiedSentence) -> Iterator[str]:
    yield _wrap(f"{number:2d}. {sentence.text}", 2)
    why = f" ({', '.join(sentence.reasons)})" if sentence.reasons else ""
    yield f"      {sentence.verdict}{why}"
    for citation in sentence.citations:
        state = "holds" if citation.holds else f"fails: {citation.reason}"
        yield _wrap(f"<- {citation.kind} {citation.id[:8]} {state}: “{citation.quote}”", 6)
    for found in sentence.found:
        yield _wrap(f"found {found.kind} {found.id[:8]}: “{found.quote}”", 6)


def _wrap(text: str, indent: int) -> str:
    return textwrap.fill(text, WIDTH, initial_indent=" " * indent, subsequent_indent=" " * (indent + 3))
