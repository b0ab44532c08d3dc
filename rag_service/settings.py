"""The only reader of the environment: one frozen object that refuses unknown names and bad values."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Final

PREFIX: Final = "RAG_"
BUILT_IN: Final = "built-in"
VERBATIM: Final = "verbatim"
LANGCHAIN: Final = "langchain:"
FROM_FOLDER: Final = frozenset({"maira-2", "medgemma"})
"""Writers whose files lie in a folder of their own."""
_TENANT: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


class SettingsError(ValueError):
    """A RAG_ variable that is unknown or cannot be read; the message names it and never shows its value."""


@dataclass(frozen=True)
class Settings:
    """Everything a deployment may choose. Each field is read from RAG_ plus its name in capitals."""

    store: str = "build/knowledge"
    """Folder of the embedded knowledge base, or the URL of a Qdrant server."""
    store_api_key: str | None = None
    store_grpc_port: int = 0
    """Port of the server's gRPC interface, which is then used for everything it can do; 0 means REST alone."""
    store_replicas: int = 1
    """Copies of every shard that a collection is made with."""
    store_shards: int = 0
    """Shards that a collection (or each tenant of it) is made with; 0 leaves it to the server."""
    store_shard_by_tenant: bool = False
    """Whether a collection is made with shards of its own for each tenant."""
    tenant: str = "public"
    """Whose cases are indexed, and on whose behalf is asked: a tenant sees its own cases and the public ones, nobody else's."""
    model_folder: str = str(Path(__file__).parent / "weights")
    site_calibration: str | None = None
    """File of `python -m eval recalibrate`: the site's own calibration, laid over the model's."""
    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 2
    queue: int = 8
    deadline_seconds: float = 30.0
    max_upload_mib: int = 100
    api_key: str | None = None
    torch_threads: int = 1
    """Per worker; 0 leaves torch's own choice. One is fastest where workers share cores: threads that wait, spin."""
    reserve_mib: int = 1024
    """Free disk below which nothing is indexed."""
    audit_log: str | None = None
    """Folder of the audit log; beside an embedded store, `<store>.audit`, and `build/audit` for a server, if not given."""
    pseudonym_key: str | None = None
    """The site's secret under which patients and studies of DICOM films get pseudonyms; lost, the same patient becomes another."""
    writer: str = "built-in"
    """Who words the findings: built-in, verbatim (cases alone), maira-2, medgemma, langchain:PROVIDER:MODEL."""
    writer_folder: str | None = None
    """Folder of the files and the record of maira-2 or medgemma."""

    @property
    def on_server(self) -> bool:
        """Whether the knowledge base is a Qdrant server's."""
        return self.store.startswith(("http://", "https://"))

    @property
    def audit_folder(self) -> str:
        """Where reads that leave a tenant's index are written down."""
        return self.audit_log or ("build/audit" if self.on_server else f"{self.store.rstrip('/')}.audit")

    @property
    def state_folder(self) -> str:
        """What this machine remembers of indexing for the tenant: beside an embedded store, under `build/state` for a server."""
        return f"{'build/state' if self.on_server else self.store.rstrip('/') + '.state'}/{self.tenant}"


ENVIRONMENT: Final[Mapping[str, str]] = {PREFIX + f.name.upper(): f.name for f in fields(Settings)}
"""Environment variable -> field of Settings."""


def _flag(text: str) -> bool:
    return {"true": True, "1": True, "false": False, "0": False}[text.lower()]


_PARSERS: Final[Mapping[str, Callable[[str], object]]] = {
    "int": int,
    "float": float,
    "bool": _flag,
    "str": str,
    "str | None": str,
}


def load(environment: Mapping[str, str] | None = None) -> Settings:
    """Settings from the environment (the process's own by default). SettingsError names the variable at fault."""
    given = {k: v for k, v in (os.environ if environment is None else environment).items() if k.startswith(PREFIX)}
    if unknown := sorted(set(given) - set(ENVIRONMENT)):
        raise SettingsError(f"unknown settings: {', '.join(unknown)}")
    kinds = {f.name: str(f.type) for f in fields(Settings)}
    chosen: dict[str, object] = {}
    for variable, text in given.items():
        name = ENVIRONMENT[variable]
        try:
            chosen[name] = _PARSERS[kinds[name]](text)
        except (KeyError, ValueError) as error:
            raise SettingsError(f"{variable} must be of type {kinds[name]}") from error
    return _checked(Settings(**chosen))  # type: ignore[arg-type]


def override(settings: Settings, **given: str | None) -> Settings:
    """The settings with the fields that a command line gave, checked as `load` checks; None leaves a field as it is."""
    return _checked(replace(settings, **{name: value for name, value in given.items() if value is not None}))  # type: ignore[arg-type]


def _checked(settings: Settings) -> Settings:
    _check_writer(settings)
    limits = {
        "port": (1, 65535),
        "workers": (1, 64),
        "queue": (0, 1024),
        "max_upload_mib": (1, 1024),
        "torch_threads": (0, 256),
        "store_grpc_port": (0, 65535),
        "store_replicas": (1, 16),
        "store_shards": (0, 4096),
    }
    for name, (low, high) in limits.items():
        if not low <= getattr(settings, name) <= high:
            raise SettingsError(f"{PREFIX}{name.upper()} must lie between {low} and {high}")
    if not 0 < settings.deadline_seconds < math.inf or settings.reserve_mib < 0:
        raise SettingsError(f"{PREFIX}DEADLINE_SECONDS must be positive and {PREFIX}RESERVE_MIB not negative")
    if not _TENANT.fullmatch(settings.tenant):
        raise SettingsError(f"{PREFIX}TENANT is a name of 1 to 64 letters, digits, '_' and '-'")
    if settings.api_key is not None and len(settings.api_key) < 16:
        raise SettingsError(f"{PREFIX}API_KEY is weak: give at least 16 characters")
    if settings.pseudonym_key is not None and len(settings.pseudonym_key) < 32:
        raise SettingsError(f"{PREFIX}PSEUDONYM_KEY is weak: give at least 32 characters")
    return settings


def _check_writer(settings: Settings) -> None:
    chat = settings.writer.startswith(LANGCHAIN) and len(settings.writer) > len(LANGCHAIN)
    if not chat and settings.writer not in {BUILT_IN, VERBATIM, *FROM_FOLDER}:
        raise SettingsError(f"{PREFIX}WRITER is built-in, verbatim, maira-2, medgemma or langchain:PROVIDER:MODEL")
    if (settings.writer in FROM_FOLDER) != (settings.writer_folder is not None):
        raise SettingsError(f"{PREFIX}WRITER_FOLDER goes with {PREFIX}WRITER maira-2 or medgemma, and with no other")
