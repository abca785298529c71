"""
What is in the air of a site: sensors whose values drift, their decoys, other people's devices.

Pure: randomness comes from the seed, time from the caller.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from lab.simulators import captures
from lab.simulators.advert import Advert, Truth
from lab.simulators.encode import IBEACON_DECOY, WITH_DECOY, encode, local_name, rounded

# A capture is replayed only where the sensor is already near its values: a room does not jump further in
# seconds, and a consumer is right to distrust one that does.
NEAR_TEMPERATURE, NEAR_HUMIDITY = 4.0, 15.0
REPLAY_EVERY = 5  # adverts
NAMELESS = 0.1  # share of adverts whose scan response, which carries the name, is not heard
PHONE_ROTATION = 300  # adverts until the phone takes its next random address


@dataclass(frozen=True)
class SensorSpec:
    """One sensor of a site: `id` is its MAC, 12 hex digits; `cloud_id` has 16, or none: no cloud."""

    id: str
    name: str
    room: str
    model: str
    cloud_id: str = ""


class Sensor:
    """One thermometer: starts at captured values of its model, then its room drifts around them."""

    def __init__(self, spec: SensorSpec, number: int, seed: int, *, replay: bool) -> None:
        """Place the sensor: every fourth `number` stands in a freezer, so that below zero occurs."""
        self.spec = spec
        self._random = random.Random(f"{seed}/{spec.id}")
        self._captures = [c for c in captures.readings() if c.model == spec.model] if replay else []
        self._home = self._random.uniform(-22, -8) if number % 4 == 2 else self._random.uniform(16, 29)  # noqa: PLR2004  see above
        self._temperature = self._home
        self._humidity_home = self._random.uniform(30, 70)
        self._humidity = self._humidity_home
        self._battery = self._random.uniform(35, 100)
        self._sent = 0
        self._start_at_capture()

    def _start_at_capture(self) -> None:
        """Where a real advert of this kind of room is known, begin there, so that its like are replayed."""
        alike = [c for c in self._captures if (c.truth.temperature < 0) == (self._home < 0)]
        if alike:
            start = self._random.choice(alike).truth
            self._home = self._temperature = start.temperature
            self._humidity_home = self._humidity = start.humidity
            self._battery = float(start.battery)

    def _drift(self) -> None:
        gauss = self._random.gauss
        self._temperature += 0.01 * (self._home - self._temperature) + gauss(0, 0.04)
        self._humidity += 0.01 * (self._humidity_home - self._humidity) + gauss(0, 0.15)
        self._humidity = min(max(self._humidity, 5.0), 98.0)
        self._battery = max(self._battery - 0.0005, 1.0)

    def _near_capture(self) -> captures.Capture | None:
        near = [
            c
            for c in self._captures
            if abs(c.truth.temperature - self._temperature) <= NEAR_TEMPERATURE
            and abs(c.truth.humidity - self._humidity) <= NEAR_HUMIDITY
        ]
        return self._random.choice(near) if near else None

    def adverts(self) -> Iterator[Advert]:
        """Yield the next advert, with some models the decoy after it; rssi is left to the radio."""
        self._sent += 1
        self._drift()
        capture = self._near_capture() if self._sent % REPLAY_EVERY == 1 else None
        if capture is None:
            truth = rounded(self.spec.model, self._temperature, self._humidity, self._battery)
            data = encode(self.spec.model, truth)
        else:
            truth, data = capture.truth, capture.manufacturerdata
        name = None if self._random.random() < NAMELESS else local_name(self.spec.model, self.spec.id)
        yield Advert(self.spec.id, name, 0, data, truth=truth)
        if self.spec.model in WITH_DECOY and self._sent % 2 == 0:
            yield Advert(self.spec.id, name, 0, IBEACON_DECOY)


class Foreigners:
    """Devices of other people: the captured ones, and a phone that changes its random address."""

    def __init__(self, seed: int) -> None:
        """Two fleets with one seed meet the same phones."""
        self._random = random.Random(f"{seed}/foreign")
        self._devices = captures.foreign()
        self._sent = 0
        self._phone = ""

    def adverts(self) -> Iterator[Advert]:
        """Yield one advert of each device."""
        yield from self._devices
        if self._sent % PHONE_ROTATION == 0:
            first = self._random.randrange(0x40, 0x80)  # the two top bits 01: a resolvable private address
            self._phone = f"{first:02X}{self._random.randrange(1 << 40):010X}"
        self._sent += 1
        data = f"4c00100{self._random.randrange(16):x}{self._random.randrange(1 << 40):010x}"
        yield Advert(self._phone, None, 0, data)


def damaged(sensor: SensorSpec, rng: random.Random) -> Advert:
    """Return an advert under a sensor's MAC in which there is no reading that anybody may believe."""
    good = encode(sensor.model, Truth(21.5, 50.0, 90))
    data = rng.choice(
        (
            good[: rng.choice((4, 6, 8))],  # cut short: company id and up to two bytes
            "",
            "zz" + good,
            good[:-1],  # an odd number of digits
            good[:4] + "ff" * (len(good) // 2 - 2),  # all bits set
            good[:4] + "a5" * 60,  # far too long
        )
    )
    return Advert(sensor.id, local_name(sensor.model, sensor.id), 0, data)


class Distances:
    """How strongly each radio hears each device: steady for a pair, a little noise on top."""

    def __init__(self, seed: int, radios: int) -> None:
        """`radios` is their number; they are told apart by their place in the list."""
        self._seed = seed
        self._radios = range(radios)
        self._noise = random.Random(seed)

    def heard(self, advert: Advert) -> Sequence[Advert]:
        """Return the advert as each radio hears it."""
        return [replace(advert, rssi=self._strength(advert.mac, radio)) for radio in self._radios]

    def _strength(self, mac: str, radio: int) -> int:
        steady = random.Random(f"{self._seed}/{mac}/{radio}").randrange(-88, -48)
        return steady + self._noise.randrange(-3, 4)
