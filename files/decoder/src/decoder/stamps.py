"""
The time of a reading: when the decoder got the advert, UTC, in milliseconds, and never the same one twice.

Two readings of one device through one gateway with the same time are one point in the store: the second would
overwrite the first. So the later one is moved on by a millisecond.
"""

import time
from datetime import UTC, datetime

STEP_NS = (
    500_000_000  # wall and monotonic clock apart by more than this since the last look: the clock was set
)


class Clock:
    """Wall-clock milliseconds, and how often the wall clock was set."""

    def __init__(self) -> None:
        """Take the difference of the two clocks now as the right one."""
        self.steps = 0
        self._offset = time.time_ns() - time.monotonic_ns()
        self._second = -1
        self._prefix = ""

    def now(self) -> int:
        """Milliseconds since the epoch. Counts a step of the wall clock in `steps`."""
        wall = time.time_ns()
        offset = wall - time.monotonic_ns()
        if not -STEP_NS < offset - self._offset < STEP_NS:
            self.steps += 1
        self._offset = offset
        return wall // 1_000_000

    def text(self, milliseconds: int) -> str:
        """RFC 3339 in UTC, e.g. `2026-11-24T22:33:05.123Z`."""
        second, rest = divmod(milliseconds, 1000)
        if second != self._second:
            self._second = second
            self._prefix = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S.")
        return f"{self._prefix}{rest:03d}Z"


class Stamp:
    """The last time given out for one device through one gateway."""

    __slots__ = ("_last", "_steps")

    def __init__(self) -> None:
        """Nothing given out yet."""
        self._last = 0
        self._steps = 0

    def next(self, now: int, steps: int) -> int:
        """
        `now`, or one millisecond after the last if that is not later.

        After a step of the clock (`steps` grew) the last one counts no more: a clock set back must not leave
        stamps stuck in the future.
        """
        if now <= self._last and steps == self._steps:
            now = self._last + 1
        self._last = now
        self._steps = steps
        return now
