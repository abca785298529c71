"""The map as the decoder needs it: which id is which model. Read again when the file changes."""

import json
import re
from pathlib import Path

from decoder.log import log

MOST_BYTES = 10_000_000
ABSENT = "let the device map write it; until then only sensors that name themselves are decoded"
_ID = re.compile(r"[0-9A-F]{12}")
_MODEL = re.compile(r"[ -~]{1,40}")


def parse(text: str) -> tuple[dict[str, str], int]:
    """
    Read `{"A4C138000001": "H5075", …}` -> map, number of entries that are none and were left out.

    Raises ValueError when it is no JSON object at all.
    """
    entries = json.loads(text)
    if not isinstance(entries, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004  one kind of error for the caller
    good = {
        key: model
        for key, model in entries.items()
        if _ID.fullmatch(key) and isinstance(model, str) and _MODEL.fullmatch(model)
    }
    return good, len(entries) - len(good)


class ModelsFile:
    """The file behind the map. A bad or missing one leaves the last good map in force."""

    def __init__(self, path: Path) -> None:
        """Nothing is read yet: call `changed`."""
        self._path = path
        self._seen: tuple[int, int, int] | None = (0, 0, 0)

    def changed(self) -> dict[str, str] | None:
        """Return the new map if the file has changed and is good, else None; cheap when nothing changed."""
        try:
            status = self._path.stat()
            seen = (status.st_mtime_ns, status.st_size, status.st_ino)
            if seen == self._seen:
                return None
            if status.st_size > MOST_BYTES:
                raise ValueError(f"{status.st_size} bytes")  # noqa: TRY301  handled like any other bad map
            self._seen = seen
            models, left_out = parse(self._path.read_text())
        except FileNotFoundError:
            if self._seen is not None:
                log("map_absent", "warning", file=self._path, do=ABSENT)
            self._seen = None
            return None
        except (OSError, ValueError, RecursionError) as error:
            log(
                "map_bad",
                "error",
                file=self._path,
                error=error,
                do="repair the file; the last good map stays in use",
            )
            return None
        log("map_read", file=self._path, devices=len(models), left_out=left_out)
        return models
