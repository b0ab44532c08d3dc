"""The environment, read once: what is unknown, unreadable or weak is refused, and no secret is ever repeated."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_service.settings import ENVIRONMENT, FROM_FOLDER, Settings, SettingsError, load, override
from rag_service.writers.catalogue import CATALOGUE

SECRET = "correct horse battery staple"


def test_nothing_set_gives_the_defaults() -> None:
    assert load({}) == Settings()
    assert load({"PATH": "/bin", "QDRANT_API_KEY": "x", "rag_port": "1"}) == Settings()
    assert (Settings().store, Settings().host, Settings().port, Settings().api_key) == (
        "build/knowledge", "127.0.0.1", 8000, None,
    )  # fmt: skip
    assert Path(Settings().model_folder).parts[-2:] == ("rag_service", "weights")


def test_every_field_has_its_variable() -> None:
    assert ENVIRONMENT == {
        "RAG_STORE": "store",
        "RAG_STORE_API_KEY": "store_api_key",
        "RAG_STORE_GRPC_PORT": "store_grpc_port",
        "RAG_STORE_REPLICAS": "store_replicas",
        "RAG_STORE_SHARDS": "store_shards",
        "RAG_STORE_SHARD_BY_TENANT": "store_shard_by_tenant",
        "RAG_MODEL_FOLDER": "model_folder",
        "RAG_SITE_CALIBRATION": "site_calibration",
        "RAG_HOST": "host",
        "RAG_PORT": "port",
        "RAG_WORKERS": "workers",
        "RAG_QUEUE": "queue",
        "RAG_DEADLINE_SECONDS": "deadline_seconds",
        "RAG_MAX_UPLOAD_MIB": "max_upload_mib",
        "RAG_API_KEY": "api_key",
        "RAG_TORCH_THREADS": "torch_threads",
        "RAG_RESERVE_MIB": "reserve_mib",
        "RAG_TENANT": "tenant",
        "RAG_AUDIT_LOG": "audit_log",
        "RAG_PSEUDONYM_KEY": "pseudonym_key",
        "RAG_WRITER": "writer",
        "RAG_WRITER_FOLDER": "writer_folder",
    }


def test_the_audit_log_lies_beside_an_embedded_store_and_under_build_for_a_server() -> None:
    assert load({"RAG_STORE": "somewhere/knowledge/"}).audit_folder == "somewhere/knowledge.audit"
    assert load({"RAG_STORE": "https://far"}).audit_folder == "build/audit"
    assert load({"RAG_STORE": "https://far", "RAG_AUDIT_LOG": "/audit"}).audit_folder == "/audit"
    assert set(ENVIRONMENT.values()) == {f.name for f in fields(Settings)}


def test_what_indexing_remembers_is_kept_by_tenant() -> None:
    assert load({"RAG_STORE": "somewhere/knowledge/"}).state_folder == "somewhere/knowledge.state/public"
    assert load({"RAG_STORE": "https://far", "RAG_TENANT": "isle-2"}).state_folder == "build/state/isle-2"


def test_a_command_line_overrides_and_is_checked_alike() -> None:
    settings = load({"RAG_TENANT": "isle"})
    assert override(settings, store="there", tenant=None) == replace(settings, store="there")
    for tenant in ("", "a/b", "x" * 65, "isle\n"):
        with pytest.raises(SettingsError, match="RAG_TENANT"):
            override(settings, tenant=tenant)


def test_values_are_read_with_their_types() -> None:
    settings = load(
        {
            "RAG_STORE": "http://qdrant:6333", "RAG_STORE_API_KEY": "k", "RAG_PORT": "9", "RAG_DEADLINE_SECONDS": "2.5",
            "RAG_API_KEY": SECRET, "RAG_QUEUE": "0", "RAG_RESERVE_MIB": "0",
        }
    )  # fmt: skip
    assert settings == Settings(
        store="http://qdrant:6333",
        store_api_key="k",
        port=9,
        deadline_seconds=2.5,
        api_key=SECRET,
        queue=0,
        reserve_mib=0,
    )


def test_the_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAG_PORT", "8123")
    assert load().port == 8123
    monkeypatch.setenv("RAG_PROT", "8123")
    with pytest.raises(SettingsError, match="RAG_PROT"):
        load()


def test_a_writer_is_one_that_there_is_and_has_a_folder_where_it_needs_one() -> None:
    assert set(CATALOGUE) == FROM_FOLDER
    assert (load({}).writer, load({}).writer_folder) == ("built-in", None)
    for name in ("built-in", "verbatim", "langchain:openai:some-model"):
        assert load({"RAG_WRITER": name}).writer == name
        with pytest.raises(SettingsError, match=r"^RAG_WRITER_FOLDER goes with"):
            load({"RAG_WRITER": name, "RAG_WRITER_FOLDER": "there"})
    for name in FROM_FOLDER:
        assert load({"RAG_WRITER": name, "RAG_WRITER_FOLDER": "there"}).writer_folder == "there"
        with pytest.raises(SettingsError, match=r"^RAG_WRITER_FOLDER goes with"):
            load({"RAG_WRITER": name})
    for name in ("", "gpt", "langchain:", "MAIRA-2"):
        with pytest.raises(SettingsError, match=r"^RAG_WRITER is built-in, verbatim"):
            load({"RAG_WRITER": name})


def test_unknown_names_are_refused_all_at_once() -> None:
    with pytest.raises(SettingsError, match=r"^unknown settings: RAG_A, RAG_Z$"):
        load({"RAG_Z": "1", "RAG_A": SECRET, "RAG_PORT": "1"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RAG_PORT", "eighty"), ("RAG_PORT", ""), ("RAG_PORT", "8.5"), ("RAG_WORKERS", "1,000"),
        ("RAG_DEADLINE_SECONDS", "soon"), ("RAG_STORE_SHARD_BY_TENANT", "perhaps"),
    ],
)  # fmt: skip
def test_a_value_of_another_type_is_refused_by_name_alone(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"^{name} must be of type (int|float|bool)$"):
        load({name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RAG_PORT", "0"), ("RAG_PORT", "65536"), ("RAG_WORKERS", "0"), ("RAG_WORKERS", "65"), ("RAG_QUEUE", "-1"),
        ("RAG_QUEUE", "1025"), ("RAG_MAX_UPLOAD_MIB", "0"), ("RAG_MAX_UPLOAD_MIB", "1025"), ("RAG_TORCH_THREADS", "-1"),
        ("RAG_TORCH_THREADS", "257"), ("RAG_DEADLINE_SECONDS", "0"), ("RAG_DEADLINE_SECONDS", "-1"),
        ("RAG_STORE_GRPC_PORT", "65536"), ("RAG_STORE_REPLICAS", "0"), ("RAG_STORE_REPLICAS", "17"),
        ("RAG_STORE_SHARDS", "-1"), ("RAG_STORE_SHARDS", "4097"),
        ("RAG_DEADLINE_SECONDS", "nan"), ("RAG_DEADLINE_SECONDS", "inf"), ("RAG_RESERVE_MIB", "-1"),
    ],
)  # fmt: skip
def test_a_value_out_of_range_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        load({name: value})


@pytest.mark.parametrize(
    ("name", "value"), [("RAG_PORT", "65535"), ("RAG_WORKERS", "64"), ("RAG_QUEUE", "1024"), ("RAG_TORCH_THREADS", "0")]
)
def test_the_ends_of_a_range_are_in_it(name: str, value: str) -> None:
    assert getattr(load({name: value}), ENVIRONMENT[name]) == int(value)


@pytest.mark.parametrize(("text", "value"), [("1", True), ("TRUE", True), ("0", False), ("false", False)])
def test_a_flag_is_said_in_two_ways(text: str, value: bool) -> None:
    assert load({"RAG_STORE_SHARD_BY_TENANT": text}).store_shard_by_tenant is value


def test_a_short_key_is_weak() -> None:
    with pytest.raises(SettingsError, match="RAG_API_KEY is weak: give at least 16 characters"):
        load({"RAG_API_KEY": "fifteen letters"})
    with pytest.raises(SettingsError, match="weak"):
        load({"RAG_API_KEY": ""})
    assert load({"RAG_API_KEY": "sixteen letters!"}).api_key == "sixteen letters!"
    with pytest.raises(SettingsError, match="RAG_PSEUDONYM_KEY is weak: give at least 32 characters"):
        load({"RAG_PSEUDONYM_KEY": "x" * 31})
    assert load({"RAG_PSEUDONYM_KEY": "x" * 32}).pseudonym_key == "x" * 32


@given(st.sampled_from(sorted(ENVIRONMENT)), st.text(st.characters(codec="ascii"), min_size=1, max_size=12))
def test_no_message_repeats_a_value(name: str, tail: str) -> None:
    value = f"!!{tail}!!"
    try:
        load({name: value})
    except SettingsError as error:
        assert value not in str(error)
        assert name in str(error)


def test_settings_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        Settings().port = 1  # type: ignore[misc]
