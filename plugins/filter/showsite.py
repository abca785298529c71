"""Filters of this repository."""

from __future__ import annotations

import base64
import hashlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

REPOSITORY = Path(__file__).resolve().parents[2]


def mosquitto_password(password: str, user: str) -> str:
    """
    Hash a password as `mosquitto_passwd` does: `$7$`, PBKDF2-SHA512, 101 rounds.

    The salt is derived from user and password, so that the same input gives the same line and a second
    run changes nothing; passwords are long and random, which is what a random salt would make up for.
    Source of the format: mosquitto's own output of version 2.0.
    """
    salt = hashlib.sha256(f"{user}\0{password}".encode()).digest()[:12]
    key = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, 101)
    return f"$7$101${base64.b64encode(salt).decode()}${base64.b64encode(key).decode()}"


def dashboard(name: str, site: dict[str, Any]) -> dict[str, Any]:
    """Build one of the dashboards in `files/dashboards` for a site."""
    source = str(REPOSITORY / "files/dashboards/src")
    if source not in sys.path:
        sys.path.insert(0, source)
    import dashboards  # noqa: PLC0415  only the deploy of Grafana needs it, and its library

    build: Callable[[dashboards.Site], dict[str, Any]] = getattr(dashboards, name)
    return build(dashboards.Site(**site))


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Names for templates."""
        return {"dashboard": dashboard, "mosquitto_password": mosquitto_password}
