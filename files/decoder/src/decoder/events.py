"""Events (a press, motion, a knock) count once: not once a repeat of the advert, not once a gateway."""

from collections import OrderedDict

HOLD_S = 60.0
MOST = 10_000  # remembered events; more devices than that in a minute are made up


class Events:
    """
    Which events were seen in the last minute.

    An event stays remembered while its advert goes on being repeated, so a sensor that repeats its last
    advert for hours fires once. Times are of the monotonic clock, in seconds.
    """

    def __init__(self) -> None:
        """Remember nothing yet."""
        self._seen: OrderedDict[tuple[str, str], float] = OrderedDict()

    def is_new(self, mac: str, event_id: str, now: float) -> bool:
        """Whether this event of this device is the first of its kind within HOLD_S."""
        seen = self._seen
        key = (mac, event_id)
        last = seen.pop(key, None)
        seen[key] = now  # at the end: the front is always the oldest
        while len(seen) > MOST or now - next(iter(seen.values())) > HOLD_S:
            seen.popitem(last=False)
        return last is None or now - last > HOLD_S

    def __len__(self) -> int:
        """Return how many are remembered."""
        return len(self._seen)
