"""
Container health: `python -m decoder.health` is 0 while the decoder's loop turns, else 1.

Only that counts. Whether the broker is there is not asked: a decoder that waits for it is doing its job, and
restarting it would lose the readings it keeps.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

FILE = Path(tempfile.gettempdir()) / "decoder.heartbeat"
OLDEST_S = 20.0  # connecting may block the loop for several seconds


def beat(file: Path = FILE) -> None:
    """Write the monotonic clock, which all processes see alike and nobody sets. Raises OSError."""
    fresh = file.with_suffix(".new")
    fresh.write_text(str(time.monotonic()))
    os.replace(fresh, file)  # noqa: PTH105  Path.replace is the same


def age(file: Path = FILE) -> float:
    """Seconds since the last beat. Raises OSError or ValueError when there was none."""
    return time.monotonic() - float(file.read_text())


def main() -> int:
    """Say in one line how it is; exit code for the container engine."""
    try:
        old = age()
    except (OSError, ValueError):
        sys.stdout.write("no heartbeat\n")
        return 1
    sys.stdout.write(f"last heartbeat {old:.1f} s ago\n")
    return 0 if 0 <= old <= OLDEST_S else 1


if __name__ == "__main__":
    sys.exit(main())
