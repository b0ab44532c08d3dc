"""The answer to a question about a film as a person wants to read it in a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from rag_service.report.draft import Answer, Citation, QueryAnswer


def render_query(found: QueryAnswer, source: Callable[[Citation], str]) -> str:
    """The answer as text. `source` names a citation's record for a reader."""
    if found.answer is None:
        return "\n".join(f"the film was not used: {reason}" for reason in found.abstain_reasons)
    lines = [*_answer(found.answer, source), *(f"similar place: case {c.id[:8]}" for c in found.similar_cases)]
    return "\n".join(lines)


def _answer(answer: Answer, source: Callable[[Citation], str]) -> Iterator[str]:
    yield answer.sentence or f"no sentence: {answer.reason}"
    about = [] if answer.label is None else [answer.label]
    yield "  ".join([*about, *([] if answer.p is None else [f"p {answer.p:.2f}"])])
    for box in answer.boxes or ():
        yield f"  box {box.x_min:.2f},{box.y_min:.2f},{box.x_max:.2f},{box.y_max:.2f}  weight {box.weight:.2f}"
    for citation in answer.citations:
        yield f"  <- {source(citation)}: “{citation.quote}”"
