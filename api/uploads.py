"""Uploads read under limits: in memory, never on disk, and no more of them than is allowed.

Starlette's own form parser is not used: it spools files without a limit of its own to disk, where a film must not lie.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from api.errors import UnsupportedUpload
from rag_service.errors import BadRequest, FilmTooLarge
from rag_service.requests import MAX_TEXT

FORM: Final = "multipart/form-data"
JSON: Final = "application/json"
RAW_FILMS: Final = ("application/dicom", "image/png", "image/jpeg")
FILM_PART: Final = "film"
LATERAL_PART: Final = "lateral"
PRIOR_PART: Final = "prior"
MAX_JSON_BYTES: Final = 1024 * 1024
MAX_FIELD_BYTES: Final = 4 * MAX_TEXT
"""UTF-8 needs at most four bytes for a character."""
_ENVELOPE_BYTES: Final = 64 * 1024
"""Boundaries and part headers of a form."""
_PLAIN_ENCODINGS: Final = frozenset({"binary", "8bit", "7bit"})


@dataclass(frozen=True)
class Form:
    """What a form held: the bytes of its films and its texts, by the names of the parts."""

    films: Mapping[str, bytes]
    texts: Mapping[str, str]


def media_type_of(request: Request) -> str:
    """The Content-Type without its parameters, in lower case; UnsupportedUpload for an encoded body."""
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise UnsupportedUpload("a body with a Content-Encoding is not read")
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def read_raw(request: Request, max_bytes: int) -> bytes:
    """The body as it is; FilmTooLarge past `max_bytes`, BadRequest when it is empty."""
    film = bytearray()
    async for chunk in _limited(request, max_bytes, max_bytes):
        film += chunk
    if not film:
        raise BadRequest("the film is empty")
    return bytes(film)


async def read_json(request: Request) -> object:
    """The body as JSON; BadRequest when it is none, or longer than MAX_JSON_BYTES."""
    try:
        return json.loads(b"".join([chunk async for chunk in _limited(request, MAX_JSON_BYTES, MAX_JSON_BYTES)]))
    except FilmTooLarge as error:
        raise BadRequest(str(error)) from None
    except (ValueError, RecursionError):
        raise BadRequest("the body is no JSON") from None


async def read_form(
    request: Request,
    films: frozenset[str],
    texts: frozenset[str],
    max_bytes: int,
    repeated: frozenset[str] = frozenset(),
) -> Form:
    """A form of at most one part for each name in `films`, of `max_bytes` each, and for each name in `texts`.

    Texts named in `repeated` may come several times; they are one text then, a line for each, under the limit of one.
    Raises BadRequest for a form that is malformed, cut short, empty in a film, repeats a part or has another one;
    FilmTooLarge for a film or a body over its limit.
    """
    whole = len(films) * max_bytes + len(texts) * MAX_FIELD_BYTES + _ENVELOPE_BYTES
    try:
        reader = _FormReader(_boundary(request), films, texts, max_bytes, repeated)
        async for chunk in _limited(request, whole, max_bytes):
            reader.feed(chunk)
        return reader.form()
    except FormParserError:
        raise BadRequest("the form is malformed") from None


async def _limited(request: Request, max_bytes: int, limit_told: int) -> AsyncIterator[bytes]:
    """The body's chunks; FilmTooLarge before the first where Content-Length tells, else as soon as it is passed."""
    too_large = FilmTooLarge(f"at most {limit_told} bytes are accepted")
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > max_bytes:
        raise too_large
    count = 0
    async for chunk in request.stream():
        count += len(chunk)
        if count > max_bytes:
            raise too_large
        yield chunk


def _boundary(request: Request) -> bytes:
    _, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary", b"")
    if not boundary:
        raise BadRequest("the form's Content-Type has no boundary")
    return boundary


class _FormReader:
    """Callbacks of one streaming parse; refuses a part as soon as its headers are known."""

    def __init__(
        self, boundary: bytes, films: frozenset[str], texts: frozenset[str], max_bytes: int, repeated: frozenset[str]
    ) -> None:
        self._films, self._names, self._repeated = films, films | texts, repeated
        self._max_bytes = max_bytes
        self._parts: dict[str, bytearray] = {}
        self._headers: dict[str, str] = {}
        self._field = self._value = b""
        self._name = ""
        self._ended = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._part_begins,
                "on_header_field": self._header_field,
                "on_header_value": self._header_value,
                "on_header_end": self._header_ends,
                "on_headers_finished": self._headers_end,
                "on_part_data": self._part_data,
                "on_end": self._form_ends,
            },
        )

    def feed(self, chunk: bytes) -> None:
        """The next bytes of the body."""
        if chunk:
            self._parser.write(chunk)

    def form(self) -> Form:
        """The parts, once the body has ended."""
        if not self._ended:
            raise BadRequest("the form is cut short")
        films = {n: bytes(part) for n, part in self._parts.items() if n in self._films}
        if empty := sorted(n for n, film in films.items() if not film):
            raise BadRequest(f"the {empty[0]} is empty")
        return Form(films, {n: _text(n, part) for n, part in self._parts.items() if n not in self._films})

    def _part_begins(self) -> None:
        self._headers = {}

    def _header_field(self, chunk: bytes, start: int, end: int) -> None:
        self._field += chunk[start:end]

    def _header_value(self, chunk: bytes, start: int, end: int) -> None:
        self._value += chunk[start:end]

    def _header_ends(self) -> None:
        self._headers[self._field.decode("latin-1").lower()] = self._value.decode("latin-1")
        self._field = self._value = b""

    def _headers_end(self) -> None:
        disposition, options = parse_options_header(self._headers.get("content-disposition"))
        name = options.get(b"name", b"").decode("latin-1")
        if disposition != b"form-data" or name not in self._names:
            raise BadRequest(f"a part's name is not one of {', '.join(sorted(self._names))}")
        if name in self._parts and name not in self._repeated:
            raise BadRequest(f"the part {name} is given more than once")
        if self._headers.get("content-transfer-encoding", "binary").strip().lower() not in _PLAIN_ENCODINGS:
            raise BadRequest(f"the part {name} has a transfer encoding that is not read")
        self._name = name
        self._parts[name] = self._parts[name] + b"\n" if name in self._parts else bytearray()

    def _part_data(self, chunk: bytes, start: int, end: int) -> None:
        part = self._parts[self._name]
        if self._name in self._films:
            if len(part) + end - start > self._max_bytes:
                raise FilmTooLarge(f"at most {self._max_bytes} bytes are accepted")
        elif len(part) + end - start > MAX_FIELD_BYTES:
            raise BadRequest(f"{self._name} is longer than {MAX_TEXT} characters")
        part += chunk[start:end]

    def _form_ends(self) -> None:
        self._ended = True


def _text(name: str, part: bytearray) -> str:
    try:
        return part.decode("utf-8")
    except UnicodeDecodeError:
        raise BadRequest(f"{name} is not UTF-8") from None
