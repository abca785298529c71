"""What every simulator needs to be a well-behaved program: a checked configuration, a log, a clean end."""

import argparse
import json
import logging
import signal
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType


class ConfigError(Exception):
    """The configuration cannot be used; the text says which key and why."""


def start_log() -> None:
    """Send one line an event to standard error, with the time in UTC left to the container's own log."""
    logging.basicConfig(level=logging.INFO, format="%(name)s %(levelname)s %(message)s")


def stop_on_signal() -> threading.Event:
    """Return an event that SIGTERM or SIGINT sets, so that every loop can end with exit code 0."""
    stop = threading.Event()

    def set_stop(_signal: int, _frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, set_stop)
    signal.signal(signal.SIGINT, set_stop)
    return stop


def config_from_arguments(description: str | None) -> Mapping[str, object]:
    """Read the JSON object in the file that `--config` names; without one, end with a message."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", required=True, type=Path, metavar="FILE", help="JSON file, keys as above")
    path: Path = parser.parse_args().config
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        parser.error(f"{path}: {error}")
    if not isinstance(config, dict):
        parser.error(f"{path}: a JSON object is wanted")
    return config


class Keys:
    """Typed access to one JSON object of the configuration; a ConfigError names what is wrong."""

    def __init__(self, values: object, where: str = "config") -> None:
        """Take a decoded JSON value; `where` is how errors name it."""
        if not isinstance(values, dict):
            raise ConfigError(f"{where}: a JSON object is wanted, not {values!r}")
        self._values: dict[str, object] = dict(values)
        self._where = where

    def take[T](self, key: str, kind: type[T], default: T | None = None) -> T:
        """Remove and return the value of `key`; without a default it must be there."""
        value = self._values.pop(key, default)
        if kind is float and isinstance(value, int):
            value = float(value)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise ConfigError(f"{self._where}: {key} must be {kind.__name__}, not {value!r}")
        return value

    def take_list(self, key: str) -> list["Keys"]:
        """Remove and return a list of JSON objects."""
        return [Keys(item, f"{self._where}.{key}[{n}]") for n, item in enumerate(self.take(key, list))]

    def done(self) -> None:
        """Refuse keys that nobody took: a misspelt key would otherwise be silently without effect."""
        if self._values:
            raise ConfigError(f"{self._where}: unknown keys {', '.join(sorted(self._values))}")


def run_configured[C](
    description: str | None,
    configure: Callable[[Mapping[str, object]], C],
    run: Callable[[C, threading.Event], None],
) -> int:
    """Run a program of `--config FILE` until it is told to stop; exit code 2 for a bad configuration."""
    start_log()
    try:
        config = configure(config_from_arguments(description))
    except ConfigError as error:
        logging.error("event=config error=%s", error)  # noqa: LOG015, TRY400  the text says it all
        return 2
    run(config, stop_on_signal())
    return 0
