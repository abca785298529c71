"""
The control port of a simulator: read its counters, switch its faults.

`GET /state` returns a JSON object of counters and the faults that are on. `POST /faults` takes a JSON object
of fault names and values; `null`, `false`, `0` or an empty list ends a fault. An unknown name or a bad value
is answered with 400 and the list of known faults, and then nothing of that request is applied.
"""

from collections.abc import Callable, Mapping

from lab.simulators.web import Answer, Request

type Check = Callable[[object], bool]


def is_flag(value: object) -> bool:
    """Accept true only: a fault that is either on or off."""
    return value is True


def is_rate(value: object) -> bool:
    """Accept a positive number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


class FaultError(Exception):
    """A fault that this simulator does not know, or a value that it cannot have."""


class Faults:
    """The faults that are on now, by name; reads need no lock because a change swaps the whole dictionary."""

    def __init__(self, known: Mapping[str, Check]) -> None:
        """`known` says for each fault which values switch it on."""
        self.known = dict(known)
        self._on: dict[str, object] = {}

    def change(self, wanted: object) -> None:
        """Switch faults on and off; FaultError, and nothing changed, if any is unknown or malformed."""
        if not isinstance(wanted, dict):
            raise FaultError("a JSON object of faults is wanted")
        after = dict(self._on)
        for name, value in wanted.items():
            if name not in self.known:
                raise FaultError(f"unknown fault {name}")
            if not value:
                after.pop(name, None)
            elif self.known[name](value):
                after[name] = value
            else:
                raise FaultError(f"fault {name} cannot be {value!r}")
        self._on = after

    def get(self, name: str) -> object:
        """Return the value of a fault that is on, else None."""
        return self._on.get(name)

    def rate(self, name: str) -> float:
        """Return a fault's number (a second), 0.0 while it is off."""
        value = self._on.get(name)
        return float(value) if isinstance(value, int | float) else 0.0

    def on(self) -> dict[str, object]:
        """Return all faults that are on."""
        return dict(self._on)


def answer_control(request: Request, faults: Faults, counters: Callable[[], Mapping[str, object]]) -> Answer:
    """Answer `/state` and `/faults`; anything else is 404."""
    if (request.method, request.path) == ("GET", "/state"):
        return Answer({**counters(), "faults": faults.on()})
    if (request.method, request.path) == ("POST", "/faults"):
        try:
            faults.change(request.json())
        except (FaultError, ValueError) as error:
            return Answer({"error": str(error), "known": sorted(faults.known)}, 400)
        return Answer({"faults": faults.on()})
    return Answer({"error": f"nothing at {request.path}"}, 404)


class Pace:
    """Turns a rate a second into whole numbers a call, without ever owing more than one second's worth."""

    def __init__(self) -> None:
        """Start with nothing owed."""
        self._owed = 0.0
        self._last: float | None = None

    def due(self, rate: float, now: float) -> int:
        """Return how many are due at `now` (seconds, monotonic) at `rate` a second."""
        passed = 0.0 if self._last is None else now - self._last
        self._last = now
        self._owed = min(self._owed + rate * passed, max(rate, 1.0)) if rate else 0.0
        whole = int(self._owed)
        self._owed -= whole
        return whole
