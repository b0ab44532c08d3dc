"""The key every /v1 route asks for where one is set."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Awaitable, Callable
from typing import Annotated, Final

from fastapi import Security
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from api.errors import Unauthorised

_BEARER: Final = HTTPBearer(auto_error=False, scheme_name="bearer", description="The key set as RAG_API_KEY.")
_HEADER: Final = APIKeyHeader(name="X-API-Key", auto_error=False, scheme_name="header", description="The same key.")
Guard = Callable[[HTTPAuthorizationCredentials | None, str | None], Awaitable[None]]


def key_guard(key: str) -> Guard:
    """A dependency that raises `Unauthorised` unless every credential given is `key` and at least one is given."""
    expected = _digest(key)

    async def guard(
        bearer: Annotated[HTTPAuthorizationCredentials | None, Security(_BEARER)],
        header: Annotated[str | None, Security(_HEADER)],
    ) -> None:
        given = [text for text in (bearer.credentials if bearer else None, header) if text is not None]
        # Digests have one length, so neither the key's length nor a common prefix shows in the time taken.
        right = [hmac.compare_digest(_digest(text), expected) for text in given]
        if not right or not all(right):
            raise Unauthorised("send the key as 'Authorization: Bearer KEY' or as 'X-API-Key: KEY'")

    return guard


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
