"""Where names lead: room beside what is there, exchanges, and a file that a kill cannot halve."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledge_base.places import PLACES, Places, bytes_on_disk, load_places, save_places, strays


def test_a_name_leads_to_its_own_place_unless_that_is_anothers() -> None:
    assert Places().of("cases") == "cases"
    swapped = Places().swapped([("cases", "cases.next")], ["cases", "cases.next"])
    assert (swapped.of("cases"), swapped.of("cases.next")) == ("cases.next", "cases")
    alone = swapped.without("cases.next")
    assert (alone.of("cases"), alone.of("cases.next")) == ("cases.next", None)


def test_room_is_found_beside_what_is_there() -> None:
    places = Places({"cases": "cases.next"}).with_room("cases.next", ["cases.next"])
    assert places.of("cases.next") == "cases.next-2"
    assert Places().with_room("cases", []) == Places()
    assert Places().with_room("cases", ["cases", "cases-2"]).of("cases") == "cases-3"


def test_a_name_without_a_place_gives_none() -> None:
    places = Places().swapped([("cases", "cases.next")], ["cases.next"])
    assert (places.of("cases"), places.of("cases.next")) == ("cases.next", None)


NAMES = ("a", "b", "c", "d")


@given(st.lists(st.tuples(st.sampled_from(("make", "swap", "drop")), st.permutations(NAMES)), max_size=20))
def test_no_two_names_ever_share_a_place(steps: list[tuple[str, list[str]]]) -> None:
    """Against a model: a dictionary from names to the collections that were made under them."""
    places, there, model = Places(), dict[str, int](), dict[str, int]()
    for number, (step, (one, other, *_)) in enumerate(steps):
        if step == "make" and one not in model:
            places = places.with_room(one, there)
            place = places.of(one)
            assert place is not None and place not in there
            there[place] = model[one] = number
        elif step == "swap" and other in model:
            places = places.swapped([(one, other)], there)
            held = model.pop(one, None), model.pop(other)
            model |= {n: c for n, c in zip((other, one), held, strict=True) if c is not None}
        elif step == "drop" and one in model:
            place = places.of(one)
            assert place is not None
            del there[place], model[one]
            places = places.without(one)
        found = {n: there[p] for n in NAMES if (p := places.of(n)) in there and p is not None}
        assert found == model


def test_the_file_is_read_back_and_refused_when_it_leads_outside(tmp_path: Path) -> None:
    assert load_places(tmp_path) == Places()
    save_places(tmp_path, Places({"cases": "cases.next"}))
    assert load_places(tmp_path) == Places({"cases": "cases.next"})
    assert [p.name for p in tmp_path.iterdir()] == [PLACES]
    for bad in ({"cases": "../elsewhere"}, {"cases": ".."}, {"cases": ""}, {"cases": 3}, {"cases": "a\0"}, ["cases"]):
        (tmp_path / PLACES).write_text(json.dumps(bad))
        with pytest.raises(ValueError, match="names places outside"):
            load_places(tmp_path)


def test_strays_are_folders_without_a_layout_or_a_name(tmp_path: Path) -> None:
    assert strays(tmp_path / "absent") == []
    for name in ("cases", "cases.next", "old", "half", ".making-x"):
        (tmp_path / name).mkdir()
    for name in ("cases", "cases.next", "old"):
        (tmp_path / name / "collection.json").write_text("{}")
    (tmp_path / "engine.lock").write_text("7")
    save_places(tmp_path, Places({"cases": "cases.next", "old": "cases"}))
    assert strays(tmp_path) == [".making-x", "half", "old"]


def test_bytes_on_disk_count_what_is_written(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "full").write_bytes(b"x" * 8192)
    with (tmp_path / "hole").open("wb") as file:
        file.truncate(1 << 30)
    assert 8192 <= bytes_on_disk(tmp_path) < 1 << 20
