"""The only reader of the environment: one frozen object that refuses unknown names and bad values."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final

PREFIX: Final = "RAG_"


class SettingsError(ValueError):
    """A RAG_ variable that is unknown or cannot be read; the message names it and never shows its value."""


@dataclass(frozen=True)
class Settings:
    """Everything a deployment may choose. Each field is read from RAG_ plus its name in capitals."""

    store: str = "build/knowledge"
    """Folder of the embedded knowledge base, or the URL of a Qdrant server."""
    store_api_key: str | None = None
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


ENVIRONMENT: Final[Mapping[str, str]] = {PREFIX + f.name.upper(): f.name for f in fields(Settings)}
"""Environment variable -> field of Settings."""
_PARSERS: Final = {"int": int, "float": float, "str": str, "str | None": str}


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
        except ValueError as error:
            raise SettingsError(f"{variable} must be of type {kinds[name]}") from error
    return _checked(Settings(**chosen))  # type: ignore[arg-type]


def _checked(settings: Settings) -> Settings:
    limits = {
        "port": (1, 65535),
        "workers": (1, 64),
        "queue": (0, 1024),
        "max_upload_mib": (1, 1024),
        "torch_threads": (0, 256),
    }
    for name, (low, high) in limits.items():
        if not low <= getattr(settings, name) <= high:
            raise SettingsError(f"{PREFIX}{name.upper()} must lie between {low} and {high}")
    if not 0 < settings.deadline_seconds < math.inf or settings.reserve_mib < 0:
        raise SettingsError(f"{PREFIX}DEADLINE_SECONDS must be positive and {PREFIX}RESERVE_MIB not negative")
    if settings.api_key is not None and len(settings.api_key) < 16:
        raise SettingsError(f"{PREFIX}API_KEY is weak: give at least 16 characters")
    return settings
