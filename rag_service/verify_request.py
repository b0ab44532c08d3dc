"""What a caller gives to be verified: sentences of a draft or a report and what they cite, checked where it is read.

Texts are data. Whatever they say, they are read by the labeler and compared; nothing in them is followed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from knowledge_base.findings import FINDINGS, Polarity
from knowledge_base.records import CaseSentence
from rag_service.errors import BadRequest
from rag_service.report.labeler import shared_labeler
from rag_service.report.sentences import REQUEST, read_case_sentences
from rag_service.requests import PUBLIC

MAX_SENTENCES: Final = 100
MAX_REPORT: Final = 20_000
"""Characters of a report."""
MAX_SENTENCE: Final = 1_000
MAX_CITATIONS: Final = 20
"""Of one sentence."""
KINDS: Final = ("case", "guideline", "prior")
IMPRESSION: Final = "impression"
FINDINGS_SECTION: Final = "findings"
_GIVEN: Final = ("text", "sentences", "findings")


@dataclass(frozen=True)
class Cited:
    """A citation as given: the record's kind and id, and the quote with where it stands in the record's text."""

    kind: str
    id: str
    quote: str
    span: tuple[int, int]


@dataclass(frozen=True)
class Claim:
    """A sentence to verify, as the labeler reads it, with what it cites; `label` and `polarity` where a draft says what it is."""

    sentence: CaseSentence
    citations: tuple[Cited, ...] = ()
    label: str | None = None
    polarity: Polarity | None = None


@dataclass(frozen=True)
class VerifyRequest:
    """Sentences to verify in the order of the report, on behalf of a tenant; with a `prior` film they may compare."""

    claims: tuple[Claim, ...]
    prior: bool = False
    tenant: str = PUBLIC

    def __post_init__(self) -> None:
        if not self.claims:
            raise BadRequest("there is no sentence to verify")
        if len(self.claims) > MAX_SENTENCES:
            raise BadRequest(f"at most {MAX_SENTENCES} sentences are verified at once")


def read_verify_request(body: object, tenant: str = PUBLIC) -> VerifyRequest:
    """From JSON: `text` (a report), `sentences` (texts, or objects with `text` and `citations`), or a draft as this service
    writes it, which has `findings`; beside one of them `impression` and `prior`. BadRequest for anything else.
    """
    if not isinstance(body, Mapping):
        raise BadRequest("the body is a JSON object")
    given = [name for name in _GIVEN if name in body]
    if len(given) != 1:
        raise BadRequest(f"the body has one of: {', '.join(_GIVEN)}")
    prior = body.get("prior", False)
    if not isinstance(prior, bool):
        raise BadRequest("prior is true or false")
    reader = {"text": _of_report, "sentences": _of_sentences, "findings": _of_draft}[given[0]]
    claims = [*reader(body[given[0]]), *_of_impression(body)]
    return VerifyRequest(tuple(claims), prior or _has_prior(body), tenant)


def _of_report(text: object) -> Iterator[Claim]:
    """Its sentences, less those that say why and how the film was made."""
    read = read_case_sentences(_text("text", text, MAX_REPORT), shared_labeler())
    yield from (Claim(s) for s in read if s.section not in REQUEST)


def _of_sentences(given: object) -> Iterator[Claim]:
    for item in _list("sentences", given, MAX_SENTENCES):
        if isinstance(item, str):
            yield Claim(_sentence(item))
        else:
            entry = _object("a sentence", item)
            yield Claim(_sentence(entry.get("text")), _citations(entry))


def _of_draft(given: object) -> Iterator[Claim]:
    for item in _list("findings", given, MAX_SENTENCES):
        entry = _object("a finding", item)
        text = entry.get("sentence_en") or entry.get("sentence")
        yield Claim(_sentence(text), _citations(entry), _label(entry), _polarity(entry))


def _of_impression(body: Mapping[str, Any]) -> Iterator[Claim]:
    """The sentences of an impression, less the lists that this service puts at its end."""
    text = body.get("impression_en") or body.get("impression")
    if text is None:
        return
    read = read_case_sentences(_text("impression", text, MAX_REPORT), shared_labeler())
    for sentence in read:
        if not sentence.text.startswith(("Look for:", "Not assessed:")):
            yield Claim(CaseSentence(sentence.text, sentence.span, IMPRESSION, sentence.mentions))


def _has_prior(body: Mapping[str, Any]) -> bool:
    """Whether a draft was made with a prior film."""
    provenance = body.get("provenance")
    return isinstance(provenance, Mapping) and provenance.get("prior") is not None


def _citations(entry: Mapping[str, Any]) -> tuple[Cited, ...]:
    return tuple(_cited(c) for c in _list("citations", entry.get("citations", []), MAX_CITATIONS))


def _cited(item: object) -> Cited:
    entry = _object("a citation", item)
    kind, span = entry.get("kind"), entry.get("span")
    if kind not in KINDS:
        raise BadRequest(f"the kind of a citation is one of: {', '.join(KINDS)}")
    ends = _list("span", span, 2)
    if len(ends) != 2 or not all(type(e) is int and 0 <= e <= 10**9 for e in ends):
        raise BadRequest("span is two whole numbers, the start and the end of the quote")
    quote = _text("quote", entry.get("quote"), MAX_REPORT)
    return Cited(kind, _text("id", entry.get("id"), 64), quote, (ends[0], ends[1]))


def _label(entry: Mapping[str, Any]) -> str | None:
    label = entry.get("label")
    if label is not None and label not in FINDINGS:
        raise BadRequest(f"label is one of: {', '.join(FINDINGS)}")
    return label


def _polarity(entry: Mapping[str, Any]) -> Polarity | None:
    polarity = entry.get("polarity")
    if polarity is None:
        return None
    if not isinstance(polarity, str) or polarity not in set(Polarity):
        raise BadRequest(f"polarity is one of: {', '.join(Polarity)}")
    return Polarity(polarity)


def _sentence(text: object) -> CaseSentence:
    checked = _text("a sentence", text, MAX_SENTENCE)
    return CaseSentence(checked, (0, len(checked)), FINDINGS_SECTION, shared_labeler().read(checked))


def _text(name: str, value: object, most: int) -> str:
    if not isinstance(value, str) or not value.strip():
        raise BadRequest(f"{name} is a text that is not empty")
    if len(value) > most:
        raise BadRequest(f"{name} is longer than {most} characters")
    if "\x00" in value or any(0xD800 <= ord(c) <= 0xDFFF for c in value):
        raise BadRequest(f"{name} holds characters that are no text")
    return value


def _list(name: str, value: object, most: int) -> Sequence[Any]:
    if not isinstance(value, list):
        raise BadRequest(f"{name} is a list")
    if len(value) > most:
        raise BadRequest(f"{name} has more than {most} entries")
    return value


def _object(name: str, value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise BadRequest(f"{name} is an object")
    return value
