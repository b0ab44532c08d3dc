"""Names for patients and studies that only the holder of the site's key can make again."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field

from rag_service.settings import SettingsError


class PseudonymKeyMissing(SettingsError):
    """A source with real identifiers was asked for, and there is no key to replace them with."""


@dataclass(frozen=True)
class Pseudonyms:
    """HMAC-SHA256 under the site's key: the same identifier always has the same pseudonym, and none can be guessed from it."""

    key: bytes = field(repr=False)

    @classmethod
    def of(cls, key: str | None) -> Pseudonyms:
        """Pseudonyms under the settings' key. PseudonymKeyMissing when there is none."""
        if not key:
            raise PseudonymKeyMissing(
                "RAG_PSEUDONYM_KEY is not set: patients of DICOM films cannot be given pseudonyms, nothing was indexed"
            )
        return cls(key.encode())

    def name(self, kind: str, identifier: str) -> str:
        """32 hexadecimal digits for an identifier of that kind ("PatientID", ...)."""
        return self._digest(kind, identifier).hex()

    def uid(self, kind: str, identifier: str) -> str:
        """A valid DICOM UID for one: 2.25. and the digest as a number (PS3.5 B.2)."""
        return f"2.25.{int.from_bytes(self._digest(kind, identifier), 'big')}"

    def _digest(self, kind: str, identifier: str) -> bytes:
        return hmac.digest(self.key, f"{kind}\0{identifier}".encode(), hashlib.sha256)[:16]
