"""What the API is told when it is made. The environment is read elsewhere, in `rag_service.settings`."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Final

LOOPBACK_HOSTS: Final = ("127.0.0.1", "localhost", "::1")
ANY_HOST: Final = "*"


@dataclass(frozen=True)
class ApiSettings:
    """Limits, the key, whose service it is. `allowed_hosts` are the Host headers answered, without ports; "*" answers all."""

    workers: int = 2
    queue: int = 8
    deadline_seconds: float = 30.0
    max_upload_bytes: int = 100 * 2**20
    api_key: str | None = field(default=None, repr=False)
    allowed_hosts: tuple[str, ...] = LOOPBACK_HOSTS
    tenant: str = "public"

    def __post_init__(self) -> None:
        if self.workers < 1 or self.queue < 0:
            raise ValueError("workers must be at least 1 and queue at least 0")
        if self.deadline_seconds <= 0 or self.max_upload_bytes < 1:
            raise ValueError("deadline_seconds and max_upload_bytes must be positive")
        if self.api_key is not None and len(self.api_key) < 16:
            raise ValueError("api_key is weak: give at least 16 characters")
        if not self.allowed_hosts:
            raise ValueError("allowed_hosts must name at least one host")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a socket bound to `host`."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
