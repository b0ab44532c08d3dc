"""Films whose source names the wrong presentation."""

from __future__ import annotations

from pathlib import Path

import pytest

from rag_service.datasets.corrections import PRESENTATIONS, presentation


@pytest.mark.parametrize(
    ("name", "listed", "shown"),
    [
        ("CXR2836_IM-1252-2001.jpg", "frontal", "lateral"),
        ("CXR1339_IM-0218-1001.png", "frontal", "rotated"),
        ("00017625_000.jpg", "frontal", "inverted"),
        ("CXR1_IM-0001-3001.jpg", "lateral", "lateral"),
        ("CXR1_IM-0001-4001.jpg", None, None),
    ],
)
def test_what_a_film_shows(name: str, listed: str | None, shown: str | None) -> None:
    assert presentation(Path("images") / name, listed) == shown


def test_every_corrected_film_is_named_once() -> None:
    assert sorted(PRESENTATIONS.values()) == ["inverted"] + ["lateral"] * 20 + ["rotated"] * 2
