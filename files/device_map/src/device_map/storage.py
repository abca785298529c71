"""Files that are whole at any moment, whatever is cut off."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MODE = 0o644


def differs(path: Path, text: str) -> bool:
    """Tell whether `path` is absent or holds anything but `text`."""
    try:
        return path.read_bytes() != text.encode()
    except FileNotFoundError:
        return True


def replace(path: Path, text: str) -> None:
    """Make `text` the content of `path` in one step, mode 0644, safe against a power cut."""
    # One fixed name: runs are locked against each other, so a cut-off run's rest is simply overwritten.
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(text.encode())
            file.flush()
            os.fchmod(file.fileno(), MODE)
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make a rename or removal in `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file `path`; wait for another run to end."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def as_json(value: object) -> str:
    """Return `value` as readable JSON text."""
    return json.dumps(value, indent=1, sort_keys=True) + "\n"
