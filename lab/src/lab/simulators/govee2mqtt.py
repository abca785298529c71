"""
A STAND-IN for the govee2mqtt container (image 2026.03.25-ab9deb66), which the lab cannot have.

It mimics what that program shows to others when it is given an API key alone: environment, order of start,
HTTP API and MQTT topics; its cloud is the fleet's. It knows thermometers only.

Environment, each of the first six also as `<NAME>_FILE` (read only if NAME is unset, end of text trimmed):
  GOVEE_API_KEY             a key of the lab's cloud is its address: the fleet's control port, e.g.
                            http://192.0.2.1:8099
  GOVEE_MQTT_HOST           must be there
  GOVEE_MQTT_PORT           1883
  GOVEE_MQTT_USER, GOVEE_MQTT_PASSWORD   both or neither
  GOVEE_TEMPERATURE_SCALE   C or F (C)
  GOVEE_CACHE_DIR, XDG_CACHE_HOME        where the device list is kept for 7 days (/data)
  LAB_CLOUD_POLL            seconds between two polls (5; the real program takes 900)
Option: --http-port (8056).

Ends with code 1 without key, broker (60 s) or, with no device list in the cache, without cloud.
"""

import argparse
import json
import logging
import os
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

from lab.simulators.broker import Broker, BrokerAddress, Message
from lab.simulators.program import ConfigError, start_log, stop_on_signal
from lab.simulators.web import Answer, Request, serve

LABEL = "This is the lab's STAND-IN for govee2mqtt, not the real program."
CACHE_SECONDS = 7 * 86400
BROKER_SECONDS = 60  # 30 tries, 2 s apart
MISSING_SECONDS = 930
CLOUD_TIMEOUT = 10
ANSWER_LIMIT = 1_000_000  # bytes

log = logging.getLogger("govee2mqtt")


@dataclass(frozen=True)
class Settings:
    """The environment, checked."""

    cloud: str
    broker: BrokerAddress
    fahrenheit: bool
    cache: Path
    poll: float

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> "Settings":
        """Read the variables documented above; ConfigError says which is missing or wrong."""
        key = _value(environ, "GOVEE_API_KEY")
        if not key:
            raise ConfigError("GOVEE_API_KEY is not set: nothing to ask the cloud with")
        if not key.startswith("http://"):
            raise ConfigError("GOVEE_API_KEY is no key of the lab's cloud (its address, http://...)")
        user, password = _value(environ, "GOVEE_MQTT_USER"), _value(environ, "GOVEE_MQTT_PASSWORD")
        if bool(user) != bool(password):
            raise ConfigError("GOVEE_MQTT_USER and GOVEE_MQTT_PASSWORD: set both or neither")
        host = _value(environ, "GOVEE_MQTT_HOST")
        if not host:
            raise ConfigError("GOVEE_MQTT_HOST is not set")
        scale = (_value(environ, "GOVEE_TEMPERATURE_SCALE") or "C").upper()
        if scale not in ("C", "F"):
            raise ConfigError(f"GOVEE_TEMPERATURE_SCALE is {scale}, not C or F")
        try:
            port = int(_value(environ, "GOVEE_MQTT_PORT") or "1883")
            poll = float(environ.get("LAB_CLOUD_POLL", "5"))
        except ValueError as error:
            raise ConfigError(f"GOVEE_MQTT_PORT or LAB_CLOUD_POLL: {error}") from error
        folder = environ.get("GOVEE_CACHE_DIR") or environ.get("XDG_CACHE_HOME") or "/data"
        cache = Path(folder) / "govee2mqtt-stand-in-cache.json"
        return cls(key.rstrip("/"), BrokerAddress(host, port, user, password), scale == "F", cache, poll)


def _value(environ: Mapping[str, str], name: str) -> str:
    if name in environ:
        return environ[name]
    path = environ.get(f"{name}_FILE")
    if not path:
        return ""
    try:
        return Path(path).read_text(encoding="utf-8").rstrip()
    except OSError as error:
        raise ConfigError(f"{name}_FILE: {error}") from error


class CloudError(Exception):
    """The cloud did not answer, or not with what was asked for."""


def ask_cloud(settings: Settings, path: str) -> object:
    """Return the JSON answer of the lab's cloud; CloudError if there is none."""
    url = f"{settings.cloud}{path}"
    try:
        with urllib.request.urlopen(url, timeout=CLOUD_TIMEOUT) as answer:  # noqa: S310  the lab's own
            return json.loads(answer.read(ANSWER_LIMIT))
    except (OSError, ValueError) as error:
        raise CloudError(f"{path}: {error}") from error


@dataclass
class Device:
    """One device of the account and its last poll; `polled` is seconds since 1970, 0.0 for never."""

    sku: str
    id: str
    name: str
    temperature: float | None = None  # degrees F, as the cloud has it
    humidity: float | None = None
    polled: float = 0.0

    @property
    def topic_id(self) -> str:
        """The id as topics have it: without colons and spaces, case kept."""
        return self.id.replace(":", "").replace(" ", "")

    def status(self, now: float) -> str:
        """Return what the diagnostic sensor shows."""
        if not self.polled:
            return "Unknown"
        return "Available" if now - self.polled < MISSING_SECONDS else "Missing"

    def api_object(self) -> dict[str, object]:
        """Return the device as `/api/devices` shows it: no readings, and room only with an account login."""
        state = None
        if self.polled:
            state = {
                "on": False,
                "light_on": None,
                "online": True,
                "kelvin": 0,
                "color": {"r": 0, "g": 0, "b": 0},
                "brightness": 0,
                "scene": None,
                "source": "PLATFORM API",
                "updated": datetime.fromtimestamp(self.polled, UTC).isoformat().replace("+00:00", "Z"),
            }
        return {"sku": self.sku, "id": self.id, "name": self.name, "room": None, "ip": None, "state": state}


def devices_from(listed: object) -> dict[str, Device]:
    """Return the devices of a cloud or cache list by id; CloudError if it is no such list."""
    if not isinstance(listed, list):
        raise CloudError(f"no device list: {listed!r}")
    try:
        found = [Device(str(item["sku"]), str(item["id"]), str(item.get("name") or "")) for item in listed]
    except (TypeError, KeyError, AttributeError) as error:
        raise CloudError(f"no device list: {error!r}") from error
    for device in found:
        device.name = device.name or f"{device.sku}_{device.topic_id[-4:]}"
    return {device.id: device for device in found}


def values(device: Device, now: float, *, fahrenheit: bool) -> list[Message]:
    """Return the state messages of a device: text numbers with two decimals, empty where there is none."""
    root = f"gv2mqtt/sensor/sensor-{device.topic_id}"
    temperature = device.temperature
    if temperature is not None and not fahrenheit:
        temperature = (temperature - 32) * 5 / 9
    status = device.status(now)
    attributes = {
        "iot": None,
        "lan": None,
        "http": None,
        "platform_metadata": {"sku": device.sku, "device": device.id, "deviceName": device.name},
        "platform_state": {"temperature": device.temperature, "humidity": device.humidity},
        "overall": status,
    }
    return [
        Message(f"{root}-sensortemperature/state", _two_decimals(temperature)),
        Message(f"{root}-sensorhumidity/state", _two_decimals(device.humidity)),
        Message(f"{root}-online/state", json.dumps({"value": bool(device.polled)}).encode()),
        Message(f"{root}-gv2mqtt-status/state", status.encode()),
        Message(f"{root}-gv2mqtt-status/attributes", json.dumps(attributes).encode()),
    ]


def _two_decimals(value: float | None) -> bytes:
    return b"" if value is None else f"{value:.2f}".encode()


def discovery(device: Device, *, fahrenheit: bool) -> list[Message]:
    """Return the Home Assistant discovery messages of a device; they are not retained."""
    units = {"sensortemperature": "°F" if fahrenheit else "°C", "sensorhumidity": "%"}
    messages = []
    for instance, unit in units.items():
        unique_id = f"sensor-{device.topic_id}-{instance}"
        config = {
            "unique_id": unique_id,
            "name": instance,
            "state_topic": f"gv2mqtt/sensor/{unique_id}/state",
            "availability_topic": "gv2mqtt/availability",
            "unit_of_measurement": unit,
            "device": {
                "identifiers": [f"gv2mqtt-{device.topic_id}"],
                "name": device.name,
                "model": device.sku,
            },
        }
        messages.append(Message(f"homeassistant/sensor/{unique_id}/config", json.dumps(config).encode()))
    return messages


class Service:
    """The running program: polls the cloud, publishes, answers HTTP."""

    def __init__(self, settings: Settings) -> None:
        """Take the device list from the cloud or, within 7 days, from the cache; CloudError with neither."""
        self._settings = settings
        self._requests: deque[tuple[str, bytes]] = deque(maxlen=100)
        try:
            self.devices = self._listed()
        except CloudError as error:
            self.devices = self._cached()
            log.warning("event=cloud-list error=%s note=will use prior results", error)
        self._broker = Broker(
            settings.broker,
            f"govee2mqtt/{uuid.uuid4().hex}",
            Message("gv2mqtt/availability", b"online"),
            ("homeassistant/status", "gv2mqtt/+/request-platform-data", "gv2mqtt/purge-caches"),
            lambda topic, payload: self._requests.append((topic, payload)),
        )
        self._registered = 0
        self._next_poll = 0.0

    def _listed(self) -> dict[str, Device]:
        listed = ask_cloud(self._settings, "/cloud/devices")
        devices = devices_from(listed)
        content = json.dumps({"saved": time.time(), "devices": listed})
        try:
            self._settings.cache.write_text(content, encoding="utf-8")
        except OSError as error:
            log.warning("event=cache error=%s", error)
        return devices

    def _cached(self) -> dict[str, Device]:
        try:
            cache = json.loads(self._settings.cache.read_text(encoding="utf-8"))
            if time.time() - cache["saved"] < CACHE_SECONDS:
                return devices_from(cache["devices"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CloudError(f"Error during initial platform API discovery; cache: {error!r}") from error
        raise CloudError("Error during initial platform API discovery; the cache is older than 7 days")

    def connect(self, stop: threading.Event) -> bool:
        """Wait for the broker; False if it did not come in time."""
        self._broker.start()
        end = time.monotonic() + BROKER_SECONDS
        while not self._broker.connected and time.monotonic() < end and not stop.wait(0.1):
            pass
        return self._broker.connected or stop.is_set()

    def work(self) -> None:
        """Do one round: registrations, requests, and the poll when it is due."""
        if self._broker.connected and self._registered != self._broker.connects:
            self._registered = self._broker.connects
            self._register(self.devices)
        while self._requests:
            self._obey(*self._requests.popleft())
        if time.monotonic() >= self._next_poll:
            self._next_poll = time.monotonic() + self._settings.poll
            self._poll()

    def _register(self, devices: Mapping[str, Device]) -> None:
        self._broker.publish(Message("gv2mqtt/sensor/global-version/state", b"stand-in 2026.03.25"))
        for device in devices.values():
            self._publish(discovery(device, fahrenheit=self._settings.fahrenheit))
            self._publish(values(device, time.time(), fahrenheit=self._settings.fahrenheit))

    def _publish(self, messages: list[Message]) -> None:
        for message in messages:
            self._broker.publish(message)

    def _obey(self, topic: str, payload: bytes) -> None:
        if topic == "gv2mqtt/purge-caches":
            self._settings.cache.unlink(missing_ok=True)
        elif topic == "homeassistant/status" and payload == b"online":
            self._register(self.devices)
        elif topic.endswith("/request-platform-data"):
            wanted = topic.split("/")[1]
            for device in self.devices.values():
                if wanted in (device.topic_id, device.id):
                    self._poll_device(device)

    def _poll(self) -> None:
        try:
            listed = self._listed()
        except CloudError as error:
            log.warning("event=poll error=%s", error)  # and silence on MQTT, like the real program
            return
        new = {key: device for key, device in listed.items() if key not in self.devices}
        self.devices = {**{key: old for key, old in self.devices.items() if key in listed}, **new}
        self._register(new)
        for device in self.devices.values():
            device.name = listed[device.id].name
            self._poll_device(device)

    def _poll_device(self, device: Device) -> None:
        try:
            state = ask_cloud(self._settings, f"/cloud/devices/{device.id}/state")
        except CloudError as error:
            log.warning("event=poll error=%s", error)
            return
        if not isinstance(state, dict):
            return
        device.temperature, device.humidity = state.get("temperature_f"), state.get("humidity")
        device.polled = time.time()
        self._publish(values(device, device.polled, fahrenheit=self._settings.fahrenheit))

    def answer(self, request: Request) -> Answer:
        """Answer the HTTP API."""
        if request.path == "/api/devices":
            listed = sorted(self.devices.values(), key=lambda device: device.name)
            return Answer([device.api_object() for device in listed])
        if request.path == "/":
            return Answer(f"<!doctype html><p>{LABEL}</p>".encode(), 200, "text/html")
        if request.path.startswith("/api/oneclick"):
            return Answer({"code": 500, "msg": "needs an account login"}, 500)
        wanted = request.path.removeprefix("/api/device/").split("/")[0]
        return Answer({"code": 404, "msg": f"device '{wanted}' not found"}, 404)


def give_up(message: object) -> NoReturn:
    """End the program with code 1, so that whoever supervises it tries again."""
    log.error("event=exit error=%s", message)
    sys.exit(1)


def main() -> int:
    """Run the program."""
    start_log()
    log.info(LABEL)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--http-port", type=int, default=8056)
    http_port: int = parser.parse_args().http_port
    stop = stop_on_signal()
    try:
        service = Service(Settings.from_environment(os.environ))
    except (ConfigError, CloudError) as error:
        give_up(error)
    if not service.connect(stop):
        give_up("failed to connect to the broker")
    if not stop.is_set():
        # only now, as in the real program: the HTTP API answers once the broker is there
        serve("0.0.0.0", http_port, service.answer)  # noqa: S104  a container of its own
    while not stop.wait(0.2):
        service.work()
    return 0


if __name__ == "__main__":
    sys.exit(main())
