"""Log lines: one an event, key=value, event names that stay the same."""

import json
import sys
from datetime import UTC, datetime


def log(event: str, level: str = "info", **fields: object) -> None:
    """Write `time=… level=… event=… key=value …`; `do` says what a person should do about it."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    parts = [f"time={now}", f"level={level}", f"event={event}"]
    for key, value in fields.items():
        text = str(value)
        plain = text.isprintable() and text.isascii() and not set(' "=\\') & set(text) and text
        parts.append(f"{key}={text if plain else json.dumps(text)}")
    sys.stderr.write(" ".join(parts) + "\n")
    sys.stderr.flush()
