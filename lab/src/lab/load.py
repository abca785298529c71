"""
The load driver: readings and adverts that are told apart, and which of them the broker acknowledged.

Ids are made up and unknown to any map, so what is published here never mixes with a sensor of the site.
"""

import json
import secrets
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import count

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from lab.console import Problem
from lab.site import Site

CONNECTED_WITHIN_S = 10
ADVERTS_TOLD_APART = 400_000  # 0.0 to 39.9 °C times 0.0 to 99.9 %, which every gate of the decoder lets pass
MOST_PACKETS = 65_535  # packet ids of MQTT: a publisher sends no more than these


class Publisher:
    """One account that publishes with QoS 1; what it publishes while the broker is away follows later."""

    def __init__(self, site: Site, user: str, password: str) -> None:
        """Connect; a Problem where the broker does not let it in."""
        self.sent: dict[int, Hashable] = {}
        self.acknowledged_at: dict[int, float] = {}
        connected = threading.Event()
        self._mqtt = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=f"load-{secrets.token_hex(4)}")
        self._mqtt.username_pw_set(user, password)
        self._mqtt.reconnect_delay_set(1, 2)
        self._mqtt.max_inflight_messages_set(MOST_PACKETS)
        self._mqtt.on_connect = lambda _c, _d, _f, reason, _p: None if reason.is_failure else connected.set()
        self._mqtt.on_publish = lambda _c, _d, packet, _r, _p: self._acknowledge(packet)
        self._mqtt.connect(site.ops.address, 1883)
        self._mqtt.loop_start()
        if not connected.wait(CONNECTED_WITHIN_S):
            self.close()
            raise Problem(f"The broker of {site.name} does not let {user} in.")

    def _acknowledge(self, packet: int) -> None:
        self.acknowledged_at[packet] = time.time()

    def publish(self, key: Hashable, topic: str, payload: str) -> None:
        """Publish under a key of the caller's choice."""
        packet = self._mqtt.publish(topic, payload, qos=1).mid
        if packet in self.sent:
            raise Problem(f"More than {MOST_PACKETS} messages: take several publishers.")
        self.sent[packet] = key

    def acknowledged(self) -> dict[Hashable, float]:
        """Key -> when the broker's acknowledgement came, seconds since the epoch."""
        return {self.sent[packet]: at for packet, at in list(self.acknowledged_at.items())}

    @property
    def waiting(self) -> int:
        """How many the broker has not acknowledged."""
        return len(self.sent) - len(self.acknowledged_at)

    def close(self) -> None:
        """Disconnect; what is not acknowledged is given up."""
        self._mqtt.disconnect()
        self._mqtt.loop_stop()


@contextmanager
def steadily(rate: float, send: Callable[[], object]) -> Iterator[None]:
    """Call `send` so many times a second, in a thread, while the block runs; its error comes at the end."""
    stop, failures = threading.Event(), list[Exception]()

    def work() -> None:
        start = time.monotonic()
        for number in count(1):
            try:
                send()
            except Exception as error:  # noqa: BLE001  handed to the block below
                failures.append(error)
                return
            if stop.wait(max(0.0, start + number / rate - time.monotonic())):
                return

    thread = threading.Thread(target=work, name="load", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    if failures:
        raise failures[0]


class Readings:
    """Makes readings as the decoder publishes them: all at different times, each value a sequence number."""

    def __init__(self, publisher: Publisher, site: Site, gateways: list[str], ids: list[str]) -> None:
        """Readings go round the ids, through the gateways in turn."""
        self.value_of: dict[tuple[str, str, int], int] = {}  # (id, gateway, ms since the epoch) -> value
        self._publisher, self._site = publisher, site
        self._paths = [(device, gateway) for device in ids for gateway in gateways]
        self._last_ms = 0

    def send(self) -> None:
        """Publish the next one; its three quantities have the same value."""
        number = len(self.value_of)
        device, gateway = self._paths[number % len(self._paths)]
        self._last_ms = max(self._last_ms + 1, time.time_ns() // 1_000_000)
        values = dict.fromkeys(("temperature", "humidity", "battery"), number)
        reading = {"time": rfc3339(self._last_ms), "model": "H5075", **values}
        key = device, gateway, self._last_ms
        self.value_of[key] = number
        self._publisher.publish(
            key, f"{self._site.name}/decoder/{gateway}/{device}", json.dumps(reading, separators=(",", ":"))
        )


class Adverts:
    """Makes adverts as a gateway publishes them: sensors that name their model, values that occur once."""

    def __init__(self, publisher: Publisher, site: Site, gateway: str, ids: list[str]) -> None:
        """Adverts go round the ids; their keys are the sequence numbers."""
        self._publisher, self._ids = publisher, ids
        self._topic = f"{site.name}/{gateway}/BTtoMQTT/"
        self._numbers = count()

    def send(self) -> int:
        """Publish the next one, and give its number."""
        number = next(self._numbers)
        device = self._ids[number % len(self._ids)]
        self._publisher.publish(number, self._topic + device, advert(device, number))
        return number


def advert(device: str, number: int) -> str:
    """
    An H5075's advert whose temperature and humidity are the number.

    Layout: 0xEC88, then 24 bits of (tenths of °C x 1000 + tenths of %), as govee-ble reads it.
    """
    packed = number % ADVERTS_TOLD_APART
    return json.dumps(
        {
            "id": ":".join(device[at : at + 2] for at in range(0, 12, 2)),
            "name": f"GVH5075_{device[8:]}",
            "rssi": -60,
            "manufacturerdata": f"88ec00{packed:06x}4d00",
        },
        separators=(",", ":"),
    )


def number_of(temperature: float, humidity: float) -> int:
    """The number that an advert's values (°C, %) stand for."""
    return round(temperature * 10) * 1000 + round(humidity * 10)


def rfc3339(milliseconds: int) -> str:
    """A reading's time, UTC with milliseconds."""
    seconds, rest = divmod(milliseconds, 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:03d}Z"


def milliseconds(text: str) -> int:
    """RFC 3339 as InfluxDB answers it -> milliseconds since the epoch."""
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def forget(site: Site, operator_token: str, devices: Iterable[str], since: str) -> None:
    """Delete what InfluxDB has of made-up devices, from `since` (RFC 3339) on."""
    where = urllib.parse.urlencode({"org": "showsite", "bucket": "sensors"})
    for device in devices:
        span = {"start": since, "stop": rfc3339(time.time_ns() // 1_000_000)}
        body = span | {"predicate": f'_measurement="reading" AND z_device_id="{device}"'}
        call = urllib.request.Request(
            f"http://{site.ops.address}:8086/api/v2/delete?{where}",
            json.dumps(body).encode(),
            {"Authorization": f"Token {operator_token}"},
        )
        urllib.request.urlopen(call, timeout=30).close()  # noqa: S310  as above
