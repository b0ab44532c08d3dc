"""What can go wrong in the knowledge base, as one tree. No message carries patient text.

StoreError                     something the store was asked for could not be done
 ├─ StoreUnavailable           it does not answer, died, or took longer than its budget (carries retry_after_seconds)
 ├─ StoreInUse                 another process holds the embedded index (carries pid)
 ├─ StoreProtocolError         it answered something that is not an answer, or refused the request as malformed
 ├─ CollectionMissing          no such collection has been made
 ├─ ManifestMismatch           the collection was made by other models (names field and remedy)
 ├─ DamagedRecordError         a record fails its checksum
 ├─ BadArchive                 an exported knowledge base is damaged, cut short, of another program or version
 └─ DiskLow                    writing would eat into the disk reserve, or the disk ran full
"""

from __future__ import annotations


class StoreError(Exception):
    """Base of the tree."""


class StoreUnavailable(StoreError):
    """The store does not answer in time; trying again after `retry_after_seconds` may help."""

    def __init__(self, reason: str, retry_after_seconds: int = 2) -> None:
        super().__init__(reason)
        self.retry_after_seconds = retry_after_seconds


class StoreInUse(StoreError):
    """The embedded index has one opener at a time, and process `pid` is it (0 when the owner did not say)."""

    def __init__(self, path: str, pid: int) -> None:
        super().__init__(f"{path} is in use by pid {pid}")
        self.path = path
        self.pid = pid


class StoreProtocolError(StoreError):
    """The store's answer cannot be read, or it calls the request malformed."""


class CollectionMissing(StoreError):
    """The collection named has not been created in this store."""

    def __init__(self, collection: str) -> None:
        super().__init__(f"there is no collection {collection!r} in this store: run `python -m indexer add`")
        self.collection = collection


class ManifestMismatch(StoreError):
    """The collection was made with other models, preprocessing, labeler or layout than the ones running."""

    def __init__(self, collection: str, field: str, stored: object, running: object) -> None:
        self.collection = collection
        self.field = field
        self.stored = stored
        self.running = running
        self.remedy = "python -m indexer migrate"
        super().__init__(
            f"collection {collection!r} was made with {field} {stored}, this program runs {running}: "
            f"bring it over with `{self.remedy}`"
        )


class DamagedRecordError(StoreError):
    """A stored record fails its checksum or cannot be read back: it is not evidence."""


class BadArchive(StoreError):
    """The file is no exported knowledge base that may be read: nothing of it was taken over."""


class DiskLow(StoreError):
    """Free disk space is below the reserve (or ran out); what was acknowledged before is kept."""
