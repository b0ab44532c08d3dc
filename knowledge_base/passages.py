"""Reads the guideline library: one Markdown file with YAML front matter per passage."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import yaml

from knowledge_base.records import Passage, RecordError

GUIDELINES: Final = Path(__file__).parent / "guidelines"
MAX_BYTES: Final = 64 * 1024
KEYS: Final = (
    "title",
    "organisation",
    "source_title",
    "year",
    "section",
    "identifier",
    "findings",
    "keywords",
    "verified",
    "verified_by",
)
"""The front matter: every key is present in every file and no other key is; optional values are null."""

FRONT_MATTER: Final = re.compile(r"\A---\n(?P<meta>.*?\n)---\n(?P<body>.*)\Z", re.DOTALL)
SLUG: Final = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")


class PassageError(RecordError):
    """A passage file that cannot be read as one; the message names the file and, where there is one, the key."""


def load_passages(folder: Path | None = None) -> tuple[Passage, ...]:
    """Every passage of a folder, sorted by slug (the file stem); the packaged library when no folder is given.

    Only files directly in the folder that end in `.md`, in any letter case, are read. Raises PassageError for a folder
    that does not exist, a file over 64 KiB or not UTF-8, front matter that is absent, is not a YAML mapping, or has a
    missing, unknown or wrongly typed key, a duplicate or malformed slug, an empty text, and whatever `Passage` refuses.
    """
    source = GUIDELINES if folder is None else folder
    if not source.is_dir():
        raise PassageError(f"{source}: no such folder of passages")
    passages: dict[str, Passage] = {}
    for path in sorted(p for p in source.iterdir() if p.suffix.lower() == ".md" and p.is_file()):
        slug = path.stem
        if slug in passages:
            raise PassageError(f"{path.name}: duplicate slug {slug!r}")
        passages[slug] = _read(path, slug)
    return tuple(passages[slug] for slug in sorted(passages))


def _read(path: Path, slug: str) -> Passage:
    """One file as a passage."""
    if not SLUG.fullmatch(slug):
        raise PassageError(f"{path.name}: a slug is lower-case words joined by hyphens, got {slug!r}")
    meta, text = _split(path.name, _decode(path))
    findings = _strings(path.name, meta, "findings")
    keywords = _strings(path.name, meta, "keywords")
    try:
        return Passage(
            slug=slug,
            title=_string(path.name, meta, "title"),
            organisation=_string(path.name, meta, "organisation"),
            source_title=_string(path.name, meta, "source_title"),
            year=_year(path.name, meta),
            section=_string(path.name, meta, "section"),
            identifier=_optional(path.name, meta, "identifier"),
            findings=findings,
            keywords=keywords,
            text=text,
            verified=_flag(path.name, meta, "verified"),
            verified_by=_optional(path.name, meta, "verified_by"),
        )
    except PassageError:
        raise
    except RecordError as error:
        raise PassageError(f"{path.name}: {error}") from error


def _decode(path: Path) -> str:
    """The file's text: at most 64 KiB of UTF-8, with line ends as \\n."""
    with path.open("rb") as file:
        raw = file.read(MAX_BYTES + 1)
    if len(raw) > MAX_BYTES:
        raise PassageError(f"{path.name}: larger than {MAX_BYTES} bytes")
    try:
        return raw.decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise PassageError(f"{path.name}: not UTF-8 ({error.reason} at byte {error.start})") from error


def _split(name: str, content: str) -> tuple[dict[str, Any], str]:
    """The front matter, with exactly the known keys, and the text with the lines of a paragraph joined."""
    match = FRONT_MATTER.match(content)
    if match is None:
        raise PassageError(f"{name}: no front matter between two lines of ---")
    try:
        meta = yaml.safe_load(match["meta"])
    except (yaml.YAMLError, ValueError) as error:
        raise PassageError(f"{name}: the front matter is not YAML") from error
    if not isinstance(meta, dict):
        raise PassageError(f"{name}: the front matter is not a mapping")
    if missing := [key for key in KEYS if key not in meta]:
        raise PassageError(f"{name}: missing key {missing[0]!r}")
    if unknown := [key for key in meta if key not in KEYS]:
        raise PassageError(f"{name}: unknown key {unknown[0]!r}")
    text = "\n\n".join(" ".join(part.split()) for part in match["body"].split("\n\n") if part.strip())
    if not text:
        raise PassageError(f"{name}: empty text")
    return meta, text


def _string(name: str, meta: dict[str, Any], key: str) -> str:
    value = meta[key]
    if not isinstance(value, str) or not value.strip():
        raise PassageError(f"{name}: {key!r} must be a non-empty string, got {value!r}")
    return value


def _optional(name: str, meta: dict[str, Any], key: str) -> str | None:
    return None if meta[key] is None else _string(name, meta, key)


def _flag(name: str, meta: dict[str, Any], key: str) -> bool:
    value = meta[key]
    if not isinstance(value, bool):
        raise PassageError(f"{name}: {key!r} must be true or false, got {value!r}")
    return value


def _year(name: str, meta: dict[str, Any]) -> int:
    value = meta["year"]
    if not isinstance(value, int) or not 1900 <= value <= 2100:
        raise PassageError(f"{name}: 'year' must be a whole number from 1900 to 2100, got {value!r}")
    return value


def _strings(name: str, meta: dict[str, Any], key: str) -> tuple[str, ...]:
    value = meta[key]
    if not isinstance(value, list) or not all(isinstance(item, str) and item.strip() for item in value):
        raise PassageError(f"{name}: {key!r} must be a list of non-empty strings, got {value!r}")
    if len(set(value)) != len(value):
        raise PassageError(f"{name}: {key!r} names something twice")
    return tuple(value)
