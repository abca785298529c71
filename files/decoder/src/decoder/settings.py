"""Settings, all from the environment."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple


class SettingError(ValueError):
    """A setting is missing or wrong; the message names it and says what to do."""


class Settings(NamedTuple):
    """
    What the decoder is told.

    `models_file`: the map, JSON, id -> model; it may come later.
    """

    site: str
    host: str
    port: int
    user: str
    password: str
    models_file: Path


def settings_from(environment: Mapping[str, str] = os.environ) -> Settings:
    """Read SITE, MQTT_HOST, MQTT_PORT, MQTT_USER, MQTT_PASSWORD_FILE, MODELS_FILE. Raises SettingError."""
    site = _required(environment, "SITE", "the site's name, as in the topics")
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", site):
        raise SettingError(
            f"SITE={site}: letters, digits, - and _ only, it is the first level of every topic"
        )
    port = environment.get("MQTT_PORT", "1883")
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):  # noqa: PLR2004  a port
        raise SettingError(f"MQTT_PORT={port}: a number from 1 to 65535")
    host = _required(environment, "MQTT_HOST", "name or address of the broker")
    user = _required(environment, "MQTT_USER", "the decoder's account on the broker")
    file = Path(_required(environment, "MQTT_PASSWORD_FILE", "path of a file that holds the password alone"))
    try:
        password = file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingError(
            f"MQTT_PASSWORD_FILE={file}: cannot be read ({error}); mount it readable"
        ) from None
    if not password:
        raise SettingError(f"MQTT_PASSWORD_FILE={file}: is empty; write the password into it")
    models = Path(environment.get("MODELS_FILE", "/map/models.json"))
    return Settings(site, host, int(port), user, password, models)


def _required(environment: Mapping[str, str], name: str, what: str) -> str:
    value = environment.get(name, "")
    if not value:
        raise SettingError(f"{name}: not set; set it to {what}")
    return value
