"""The deployment files: what is pinned, what is closed, and that every variable is known and explained."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from rag_service.settings import ENVIRONMENT, load

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
VARIABLE = re.compile(r"(?<!\$)\$\{(\w+)([^}]*)\}")


def instructions(name: str) -> list[str]:
    return [line.removeprefix(name).strip() for line in DOCKERFILE if line.startswith(f"{name} ")]


def test_the_services_start_in_this_order() -> None:
    assert list(SERVICES) == ["qdrant", "indexer", "api"]
    assert SERVICES["indexer"]["depends_on"] == {"qdrant": {"condition": "service_healthy"}}
    assert SERVICES["api"]["depends_on"]["indexer"] == {"condition": "service_completed_successfully"}
    assert SERVICES["indexer"]["command"] == ["python", "-m", "indexer", "starter", "--store", "http://qdrant:6333"]
    assert SERVICES["indexer"]["restart"] == "no"
    assert SERVICES["api"]["environment"]["RAG_STORE"] == "http://qdrant:6333"


@pytest.mark.parametrize("image", [service["image"] for service in SERVICES.values()] + instructions("FROM"))
def test_images_are_pinned_to_a_full_version(image: str) -> None:
    tag = image.partition(" AS ")[0].rpartition(":")[2]
    assert re.fullmatch(r"v?\d+\.\d+\.\d+(-[a-z0-9]+)*", tag)


def test_only_the_api_is_reachable_and_only_from_this_machine() -> None:
    assert {name: service.get("ports", []) for name, service in SERVICES.items()} == {
        "qdrant": [],
        "indexer": [],
        "api": ["127.0.0.1:8000:8000"],
    }
    assert COMPOSE["networks"]["store"]["internal"] is True
    assert SERVICES["qdrant"]["networks"] == SERVICES["indexer"]["networks"] == ["store"]


@pytest.mark.parametrize("name", SERVICES)
def test_no_service_may_more_than_it_must(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["mem_limit"] in {"2g", "4g"}
    assert not {"privileged", "network_mode", "pid", "devices", "cap_add"} & set(service)
    if name != "qdrant":
        assert service["read_only"] is True
        assert service["user"] == "10001:10001"
        assert service["tmpfs"] == ["/tmp:size=256m,mode=1777"]
    assert all("docker.sock" not in volume for volume in service.get("volumes", []))


def test_the_store_keeps_its_data_in_a_named_volume() -> None:
    assert SERVICES["qdrant"]["volumes"] == ["knowledge:/qdrant/storage"]
    assert "knowledge" in COMPOSE["volumes"]


def test_reads_that_leave_a_tenants_index_are_written_down_on_a_named_volume() -> None:
    assert "audit" in COMPOSE["volumes"]
    assert SERVICES["api"]["volumes"] == SERVICES["indexer"]["volumes"] == ["audit:/audit"]
    assert any("RAG_AUDIT_LOG=/audit" in line for line in instructions("ENV"))


def test_health_is_asked_with_what_the_images_have() -> None:
    store, api = SERVICES["qdrant"]["healthcheck"], SERVICES["api"]["healthcheck"]
    assert store["test"][:3] == ["CMD", "bash", "-c"]
    assert "/dev/tcp/127.0.0.1/6333" in store["test"][3]
    assert "GET /readyz" in store["test"][3]
    assert "curl" not in str(store)
    assert api["test"][:3] == ["CMD", "python", "-c"]
    assert "http://127.0.0.1:8000/readyz" in api["test"][3]
    compile(api["test"][3], "healthcheck", "exec")


def test_every_variable_is_required_and_explained() -> None:
    used = VARIABLE.findall(TEXT)
    assert {name for name, _ in used} == {"QDRANT_API_KEY", "RAG_API_KEY"}
    assert all(rest == f":?set {name} in .env" for name, rest in used)
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    explained = re.findall(r"^# .+\n(\w+)=(.*)$", example, re.MULTILINE)
    assert explained == [("QDRANT_API_KEY", ""), ("RAG_API_KEY", "")]
    assert re.findall(r"^(\w+)=", example, re.MULTILINE) == [name for name, _ in explained]


@pytest.mark.parametrize("name", ["indexer", "api"])
def test_every_setting_is_one_the_service_knows_and_accepts(name: str) -> None:
    environment = {key: VARIABLE.sub("x" * 32, value) for key, value in SERVICES[name]["environment"].items()}
    assert set(environment) <= set(ENVIRONMENT)
    settings = load(environment)
    assert settings.store_api_key == "x" * 32
    assert name == "indexer" or (settings.host, settings.port, settings.api_key) == ("0.0.0.0", 8000, "x" * 32)


def test_the_image_runs_without_root_and_is_asked_for_its_health() -> None:
    assert instructions("USER") == ["10001:10001"]
    assert DOCKERFILE.index("USER 10001:10001") > DOCKERFILE.index("FROM python:3.11.11-slim-bookworm")
    assert len(instructions("HEALTHCHECK")) == 1
    assert instructions("CMD") == ['["python", "-m", "api"]']


def test_every_installation_is_held_to_the_constraints_and_torch_to_its_cpu_build() -> None:
    installs = re.findall(r"pip install ([^&\n]+)", "\n".join(instructions("RUN")))
    assert len(installs) == 3
    assert all("--constraint constraints.txt" in install for install in installs)
    assert installs[0].endswith("--index-url https://download.pytorch.org/whl/cpu torch torchvision")


def test_what_is_copied_is_let_through_and_nothing_else() -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    let_through = {line[1:] for line in ignored if line.startswith("!")}
    copied = {word for line in instructions("COPY") if "--from" not in line for word in line.split()[:-1]}
    assert "*" in ignored
    assert copied == let_through
    assert not [name for name in let_through if name.startswith(".")]


def test_no_secret_is_written_down() -> None:
    assert not [line for line in DOCKERFILE if re.match(r"(ENV|ARG).*(KEY|TOKEN|PASSWORD|SECRET)", line)]
    assert not [value for _, rest in VARIABLE.findall(TEXT) if (value := rest.partition(":-")[2])]
    assert not [service for service in SERVICES.values() if "env_file" in service]
