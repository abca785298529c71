"""
The sensors of a site and the cloud that also knows them.

Every `interval` seconds each sensor sends one advert to every radio (UDP, one JSON object a datagram, see
advert.py); a few foreign devices do the same. The control port (see control.py) also answers
  GET /truth                       {"<id>": {"time", "temperature", "humidity", "battery"}}, last sent
  GET /cloud/devices               [{"sku", "id", "name", "online"}] of the sensors that have a cloud_id
  GET /cloud/devices/<id>/state    {"temperature_f", "humidity"}

Keys of the configuration:
  sensors       list of {id (MAC, 12 hex digits), name, room, model, cloud_id (16; without: no cloud)}
  gateways      list of {host, port (4545)}: the radios
  interval      seconds between two adverts of a sensor (2)
  seed          whole number: the same seed gives the same values (1)
  replay        true: mix in captured adverts of real devices, under the site's own MACs (true)
  listen        address of the control port (0.0.0.0)
  control_port  (8099)

Faults:
  silent        true, or a list of ids: these send nothing
  garbage       number: damaged adverts a second, under the MACs of the sensors
  burst         {"ids": [...] or true, "rate": number}: so many adverts a second more, spread over these
  cloud_down    true: the cloud answers 503
"""

import heapq
import itertools
import logging
import random
import re
import socket
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from lab.simulators.advert import MAC, RADIO_PORT, Advert
from lab.simulators.air import Distances, Foreigners, Sensor, SensorSpec, damaged
from lab.simulators.control import Faults, Pace, answer_control, is_flag, is_rate
from lab.simulators.encode import MODELS
from lab.simulators.program import ConfigError, Keys, run_configured
from lab.simulators.web import Answer, Request, serve

TICK = 0.05  # seconds between two looks at what is due
CLOUD_ID = re.compile(r"[0-9A-F]{16}")

log = logging.getLogger("fleet")


@dataclass(frozen=True)
class Config:
    """The configuration as documented above."""

    sensors: tuple[SensorSpec, ...]
    radios: tuple[tuple[str, int], ...]
    interval: float
    seed: int
    replay: bool
    listen: str
    control_port: int

    @classmethod
    def from_json(cls, values: Mapping[str, object]) -> "Config":
        """Check everything; ConfigError says what is wrong."""
        keys = Keys(values)
        sensors = tuple(_sensor(item) for item in keys.take_list("sensors"))
        radios = tuple(_radio(item) for item in keys.take_list("gateways"))
        config = cls(
            sensors,
            radios,
            keys.take("interval", float, 2.0),
            keys.take("seed", int, 1),
            keys.take("replay", bool, True),  # noqa: FBT003  the default
            keys.take("listen", str, "0.0.0.0"),  # noqa: S104  a box of its own
            keys.take("control_port", int, 8099),
        )
        keys.done()
        if len({sensor.id for sensor in sensors}) != len(sensors):
            raise ConfigError("config.sensors: an id occurs twice")
        if config.interval <= 0:
            raise ConfigError("config: interval must be above 0")
        return config


def _sensor(keys: Keys) -> SensorSpec:
    sensor = SensorSpec(
        keys.take("id", str),
        keys.take("name", str, ""),
        keys.take("room", str, ""),
        keys.take("model", str),
        keys.take("cloud_id", str, "").upper(),
    )
    keys.done()
    if not MAC.fullmatch(sensor.id):
        raise ConfigError(f"sensor {sensor.id}: the id must be 12 upper-case hex digits")
    if sensor.model not in MODELS:
        raise ConfigError(f"sensor {sensor.id}: model {sensor.model} is not one of {', '.join(MODELS)}")
    if sensor.cloud_id and not CLOUD_ID.fullmatch(sensor.cloud_id):
        raise ConfigError(f"sensor {sensor.id}: cloud_id must be 16 hex digits")
    return sensor


def _radio(keys: Keys) -> tuple[str, int]:
    radio = keys.take("host", str), keys.take("port", int, RADIO_PORT)
    keys.done()
    return radio


def _is_silence(value: object) -> bool:
    return value is True or (isinstance(value, list) and all(isinstance(item, str) for item in value))


def _is_burst(value: object) -> bool:
    return (
        isinstance(value, dict)
        and set(value) == {"ids", "rate"}
        and _is_silence(value["ids"])
        and is_rate(value["rate"])
    )


def cloud_address(cloud_id: str) -> str:
    """Return a cloud id as the cloud prints it, with colons."""
    return ":".join(cloud_id[n : n + 2] for n in range(0, 16, 2))


class Fleet:
    """Decides what is sent when; `send` gets every advert once, and does the radio work."""

    def __init__(self, config: Config) -> None:
        """Spread the sensors' first adverts over one interval."""
        self.faults = Faults(
            {"silent": _is_silence, "garbage": is_rate, "burst": _is_burst, "cloud_down": is_flag}
        )
        self._config = config
        self._random = random.Random(config.seed)
        self._sensors = {
            spec.id: Sensor(spec, number, config.seed, replay=config.replay)
            for number, spec in enumerate(config.sensors)
        }
        self._foreigners = Foreigners(config.seed)
        first = [(self._random.uniform(0, config.interval), spec.id) for spec in config.sensors]
        self._due = [*first, (0.0, "")]  # the empty id stands for the foreign devices
        heapq.heapify(self._due)
        self._garbage_pace, self._burst_pace = Pace(), Pace()
        self._burst_turn = itertools.count()
        self.truth: dict[str, dict[str, object]] = {}
        self.sent = {"adverts": 0, "foreign": 0, "garbage": 0, "burst": 0}

    def due(self, passed: float, at: datetime) -> list[Advert]:
        """Return the adverts due `passed` seconds after the start; `at` is the time noted as theirs."""
        adverts: list[Advert] = []
        while self._due and self._due[0][0] <= passed:
            when, mac = heapq.heappop(self._due)
            # real sensors jitter, so that two of them never collide for long
            interval = self._config.interval
            after = max(when, passed - interval) + interval * self._random.uniform(0.9, 1.1)
            heapq.heappush(self._due, (after, mac))
            if not mac:
                foreign = list(self._foreigners.adverts())
                self.sent["foreign"] += len(foreign)
                adverts += foreign
            else:
                adverts += self._advertise(mac, at, "adverts")
        return adverts + self._burst(passed, at) + self._garbage(passed)

    def _advertise(self, mac: str, at: datetime, counter: str) -> list[Advert]:
        silent = self.faults.get("silent")
        if silent is True or (isinstance(silent, list) and mac in silent):
            return []
        adverts = list(self._sensors[mac].adverts())
        self.sent[counter] += 1
        if adverts[0].truth is not None:
            stamp = at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
            self.truth[mac] = {"time": stamp, **asdict(adverts[0].truth)}
        return adverts

    def _burst(self, passed: float, at: datetime) -> list[Advert]:
        burst = self.faults.get("burst")
        if not isinstance(burst, dict):
            return []
        wanted = (
            list(self._sensors) if burst["ids"] is True else [m for m in burst["ids"] if m in self._sensors]
        )
        number = self._burst_pace.due(float(burst["rate"]), passed) if wanted else 0
        turns = [wanted[next(self._burst_turn) % len(wanted)] for _ in range(number)]
        return [advert for mac in turns for advert in self._advertise(mac, at, "burst")]

    def _garbage(self, passed: float) -> list[Advert]:
        number = self._garbage_pace.due(self.faults.rate("garbage"), passed) if self._config.sensors else 0
        self.sent["garbage"] += number
        return [damaged(self._random.choice(self._config.sensors), self._random) for _ in range(number)]

    def answer(self, request: Request) -> Answer:
        """Answer the control port: truth, cloud, counters and faults."""
        if request.path == "/truth":
            return Answer(dict(self.truth))
        if request.path.startswith("/cloud/"):
            return self._cloud(request.path)
        return answer_control(request, self.faults, lambda: {"sensors": len(self._sensors), **self.sent})

    def _cloud(self, path: str) -> Answer:
        if self.faults.get("cloud_down"):
            return Answer({"error": "service unavailable"}, 503)
        known = {cloud_address(spec.cloud_id): spec for spec in self._config.sensors if spec.cloud_id}
        if path == "/cloud/devices":
            return Answer(
                [
                    {"sku": spec.model.replace("GV", "H"), "id": cloud_id, "name": spec.name, "online": True}
                    for cloud_id, spec in known.items()
                ]
            )
        spec = known.get(path.removeprefix("/cloud/devices/").removesuffix("/state"))
        if spec is None or not path.endswith("/state"):
            return Answer({"error": "no such device"}, 404)
        truth = self.truth.get(spec.id)
        if truth is None:
            return Answer({"temperature_f": None, "humidity": None})
        fahrenheit = round(float(str(truth["temperature"])) * 9 / 5 + 32, 2)
        return Answer({"temperature_f": fahrenheit, "humidity": truth["humidity"]})


def run(config: Config, stop: threading.Event) -> None:
    """Send until `stop` is set. Datagrams to a radio that is not there are lost, as in the air."""
    fleet = Fleet(config)
    server = serve(config.listen, config.control_port, fleet.answer)
    distances = Distances(config.seed, len(config.radios))
    start = time.monotonic()
    lost = 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as air:
        log.info("event=started sensors=%d radios=%d", len(config.sensors), len(config.radios))
        while not stop.wait(TICK):
            for advert in fleet.due(time.monotonic() - start, datetime.now(UTC)):
                for radio, heard in zip(config.radios, distances.heard(advert), strict=True):
                    try:
                        air.sendto(heard.datagram(), radio)
                    except OSError as error:
                        lost += 1
                        if lost % 1000 == 1:
                            log.warning("event=lost radio=%s count=%d error=%s", radio[0], lost, error)
    server.shutdown()


def main() -> int:
    """Run the program; exit code 2 for a configuration that cannot be used."""
    return run_configured(__doc__, Config.from_json, run)


if __name__ == "__main__":
    sys.exit(main())
