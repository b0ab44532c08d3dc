"""The guideline library as shipped, and what its parser refuses."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from knowledge_base.findings import FINDINGS
from knowledge_base.passages import GUIDELINES, PassageError, load_passages
from knowledge_base.records import Passage, RecordError, passage_id

META: dict[str, Any] = {
    "title": "Nodule or mass",
    "organisation": "Fleischner Society",
    "source_title": "Glossary of Terms for Thoracic Imaging",
    "year": 2024,
    "section": "Terms",
    "identifier": "doi:10.1148/radiol.232558",
    "findings": ["Lung Lesion"],
    "keywords": ["nodule", "mass", "size"],
    "verified": False,
    "verified_by": None,
}
TEXT = "A nodule is a rounded opacity up to 3 cm across."
IDENTIFIER = re.compile(r"doi:10\.\d{4,9}/\S+|pmid:\d{5,9}|isbn:97[89]\d{10}|doc:[A-Z]{3,4}[ /][A-Za-z0-9 /]+")
MACHINE_PATH = re.compile(r"(?:^|[\s(\"'])(?:/(?:work|home|tmp|usr|root|mnt|var|opt)\b|~/|[A-Za-z]:\\)")
MARKUP = re.compile(r"<[A-Za-z/!][^>]*>|&[a-z]+;|\]\(|https?://")


def passage_file(folder: Path, slug: str = "a-nodule", text: str = TEXT, **changes: Any) -> Path:
    """A passage file with META, some keys changed; a key set to `...` is left out."""
    meta = {key: value for key, value in (META | changes).items() if value is not ...}
    path = folder / f"{slug}.md"
    path.write_text(f"---\n{yaml.safe_dump(meta)}---\n\n{text}\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def library() -> tuple[Passage, ...]:
    return load_passages()


def test_the_library_is_large_and_sorted(library: tuple[Passage, ...]) -> None:
    slugs = [p.slug for p in library]
    assert len(slugs) >= 90
    assert slugs == sorted(set(slugs))


def test_every_slug_is_its_file_stem(library: tuple[Passage, ...]) -> None:
    assert [p.slug for p in library] == sorted(path.stem for path in GUIDELINES.glob("*.md"))


@pytest.mark.parametrize("finding", FINDINGS)
def test_every_finding_has_several_passages(library: tuple[Passage, ...], finding: str) -> None:
    assert sum(finding in p.findings for p in library) >= 5


def test_every_text_is_a_short_passage(library: tuple[Passage, ...]) -> None:
    lengths = {p.slug: len(p.text.split()) for p in library}
    assert {slug: n for slug, n in lengths.items() if not 60 <= n <= 160} == {}
    assert [p.slug for p in library if not 3 <= len(p.keywords) <= 8] == []


def test_no_two_passages_share_a_title_or_a_text(library: tuple[Passage, ...]) -> None:
    assert len({p.title for p in library}) == len({p.text for p in library}) == len(library)


def test_verified_and_its_witness_go_together(library: tuple[Passage, ...]) -> None:
    # An unverified passage may still name where a restatement of its source was read; a verified one must name the source.
    assert [p.slug for p in library if p.verified and p.verified_by is None] == []
    assert [p.slug for p in library if p.verified and p.identifier is None] == []
    assert sum(p.verified for p in library) >= 15


def test_identifiers_have_a_known_form(library: tuple[Passage, ...]) -> None:
    assert [p.identifier for p in library if p.identifier and not IDENTIFIER.fullmatch(p.identifier)] == []


def test_one_identifier_means_one_source(library: tuple[Passage, ...]) -> None:
    sources: dict[str, set[tuple[str, str, int]]] = {}
    for p in library:
        if p.identifier:
            sources.setdefault(p.identifier, set()).add((p.organisation, p.source_title, p.year))
    assert {name: found for name, found in sources.items() if len(found) != 1} == {}


def test_own_passages_claim_no_outside_source(library: tuple[Passage, ...]) -> None:
    own = [p for p in library if p.organisation == "This project"]
    assert own
    assert [p.slug for p in own if p.identifier or p.verified] == []


@pytest.mark.parametrize("pattern", [MACHINE_PATH, MARKUP], ids=["path", "markup"])
def test_no_passage_holds_machine_paths_or_markup(library: tuple[Passage, ...], pattern: re.Pattern[str]) -> None:
    for p in library:
        for value in (p.title, p.organisation, p.source_title, p.section, p.verified_by or "", p.text, *p.keywords):
            assert pattern.search(value) is None, (p.slug, value)


def test_the_main_sources_carry_their_identifiers(library: tuple[Passage, ...]) -> None:
    known = {(p.source_title, p.year): p.identifier for p in library}
    assert known["British Thoracic Society Guideline for pleural disease", 2023] == "doi:10.1136/thorax-2022-219784"
    assert known["Fleischner Society: Glossary of Terms for Thoracic Imaging", 2024] == "doi:10.1148/radiol.232558"


def test_a_file_becomes_a_passage(tmp_path: Path) -> None:
    passage_file(tmp_path, text="One line\nand the next.\n\nA second paragraph.")
    (passage,) = load_passages(tmp_path)
    assert passage == Passage(
        slug="a-nodule",
        title="Nodule or mass",
        organisation="Fleischner Society",
        source_title="Glossary of Terms for Thoracic Imaging",
        year=2024,
        section="Terms",
        identifier="doi:10.1148/radiol.232558",
        findings=("Lung Lesion",),
        keywords=("nodule", "mass", "size"),
        text="One line and the next.\n\nA second paragraph.",
        verified=False,
        verified_by=None,
    )
    assert passage.id == passage_id("a-nodule")


def test_files_are_sorted_and_others_left_alone(tmp_path: Path) -> None:
    for slug in ("b", "a-c", "a"):
        passage_file(tmp_path, slug)
    (tmp_path / "notes.txt").write_text("not a passage", encoding="utf-8")
    assert [p.slug for p in load_passages(tmp_path)] == ["a", "a-c", "b"]


def test_windows_line_ends_are_read(tmp_path: Path) -> None:
    path = passage_file(tmp_path)
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert load_passages(tmp_path)[0].text == TEXT


def test_an_empty_folder_has_no_passages(tmp_path: Path) -> None:
    assert load_passages(tmp_path) == ()


def test_an_absent_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PassageError, match="no such folder"):
        load_passages(tmp_path / "absent")


@pytest.mark.parametrize("key", sorted(META))
def test_a_missing_key_is_named(tmp_path: Path, key: str) -> None:
    passage_file(tmp_path, **{key: ...})
    with pytest.raises(PassageError, match=rf"a-nodule\.md: missing key '{key}'"):
        load_passages(tmp_path)


def test_an_unknown_key_is_named(tmp_path: Path) -> None:
    passage_file(tmp_path, author="someone")
    with pytest.raises(PassageError, match=r"a-nodule\.md: unknown key 'author'"):
        load_passages(tmp_path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("title", 7),
        ("title", " "),
        ("organisation", None),
        ("source_title", ["a"]),
        ("section", True),
        ("year", "2024"),
        ("year", True),
        ("year", 20.5),
        ("year", 24),
        ("identifier", 10.1148),
        ("identifier", ""),
        ("findings", "Lung Lesion"),
        ("findings", None),
        ("findings", ["Lung Lesion", "Lung Lesion"]),
        ("keywords", [1, 2, 3]),
        ("keywords", ["nodule", ""]),
        ("verified", "yes"),
        ("verified", 1),
        ("verified_by", False),
    ],
)
def test_a_wrong_type_is_named(tmp_path: Path, key: str, value: object) -> None:
    passage_file(tmp_path, **{key: value})
    with pytest.raises(PassageError, match=rf"a-nodule\.md: '{key}'"):
        load_passages(tmp_path)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"No front matter at all.\n", "no front matter"),
        (b"---\ntitle: never closed\n", "no front matter"),
        (b"\n---\ntitle: late\n---\nText.\n", "no front matter"),
        (b"---\ntitle: [unclosed\n---\nText.\n", "not YAML"),
        (b"---\ntitle: !!python/object:os.system {}\n---\nText.\n", "not YAML"),
        (b"---\ntitle: 2024-99-99\n---\nText.\n", "not YAML"),
        (b"---\n- a list\n---\nText.\n", "not a mapping"),
        (b"---\n# nothing\n---\nText.\n", "not a mapping"),
        (b"---\ntitle: \xff\n---\nText.\n", "not UTF-8"),
        (b"x" * (64 * 1024 + 1), "larger than 65536 bytes"),
        (b"", "no front matter"),
    ],
)
def test_an_unreadable_file_is_named(tmp_path: Path, content: bytes, complaint: str) -> None:
    (tmp_path / "bad.md").write_bytes(content)
    with pytest.raises(PassageError, match=rf"bad\.md: .*{complaint}"):
        load_passages(tmp_path)


def test_an_empty_text_is_refused(tmp_path: Path) -> None:
    passage_file(tmp_path, text=" \n\n ")
    with pytest.raises(PassageError, match=r"a-nodule\.md: empty text"):
        load_passages(tmp_path)


def test_an_unknown_finding_is_refused(tmp_path: Path) -> None:
    passage_file(tmp_path, findings=["Lung Lesion", "Hernia"])
    with pytest.raises(PassageError, match=r"a-nodule\.md: .*Hernia"):
        load_passages(tmp_path)


def test_verified_without_a_witness_is_refused(tmp_path: Path) -> None:
    passage_file(tmp_path, verified=True)
    with pytest.raises(PassageError, match=r"a-nodule\.md: .*does not say by what"):
        load_passages(tmp_path)


@pytest.mark.parametrize("slug", ["two words", "under_score", "-lead", "double--hyphen", "Upper"])
def test_a_malformed_slug_is_refused(tmp_path: Path, slug: str) -> None:
    passage_file(tmp_path, slug)
    with pytest.raises(PassageError, match="a slug is lower-case words"):
        load_passages(tmp_path)


def test_a_duplicate_slug_is_refused(tmp_path: Path) -> None:
    first = passage_file(tmp_path, "a-nodule")
    first.with_suffix(".MD").write_bytes(first.read_bytes())
    with pytest.raises(PassageError, match="duplicate slug 'a-nodule'"):
        load_passages(tmp_path)


def test_a_passage_error_is_a_record_error() -> None:
    assert issubclass(PassageError, RecordError)
