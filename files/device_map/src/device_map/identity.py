"""Ids and names: one spelling for each, and what is allowed."""

import re

MAX_NAME = 50
_MAC = re.compile(r"[0-9A-F]{12}", re.ASCII)
_CLOUD_ID = re.compile(r"[0-9A-Fa-f]{12,32}", re.ASCII)
_FORBIDDEN = frozenset("\"'\\")


def mac12(text: str) -> str:
    """
    Return a Bluetooth MAC as 12 upper-case hex digits; colons and case do not matter.

    Raises ValueError with a sentence for the crew.
    """
    mac = text.strip().replace(":", "").upper()
    if not _MAC.fullmatch(mac):
        raise ValueError(f"{text!r} is no MAC: write 12 hex digits, with or without colons")
    return mac


def cloud_key(text: str) -> str:
    """
    Return a cloud id as govee2mqtt writes it in topics: no colons, no spaces, case kept.

    Source of the format: wez/govee2mqtt, src/hass_mqtt/sensor.rs. Raises ValueError if it is not hex
    (the list also holds groups of lights, whose ids are decimal and short).
    """
    key = text.replace(":", "").replace(" ", "")
    if not _CLOUD_ID.fullmatch(key):
        raise ValueError(f"{text!r} is no cloud id: write its hex digits, as in the MQTT topic")
    return key


def checked_name(text: str) -> str:
    """Return a name, room or model unchanged if it is fit for a tag, else raise ValueError."""
    if not 1 <= len(text) <= MAX_NAME:
        raise ValueError(f"{text[:60]!r} has {len(text)} characters: use 1 to {MAX_NAME}")
    if text != text.strip():
        raise ValueError(f"{text!r} begins or ends with a space: remove it")
    if not text.isprintable() or _FORBIDDEN & set(text):
        raise ValueError(f"{text!r} has a control character, quote or backslash: remove it")
    return text


def tidied_name(text: str) -> str:
    """
    Return a name from the Govee app in the map's spelling; empty if nothing usable is left.

    Nobody on site can be asked to fix these, so they are cleaned instead of refused.
    """
    kept = "".join(c for c in text.lower() if (c.isprintable() or c.isspace()) and c not in _FORBIDDEN)
    return "_".join(kept.split())[:MAX_NAME]
