"""
One ESP32 board with OpenMQTTGateway firmware, without its network: adverts and commands in, messages out.

Topics and payloads as firmware 1.8 and 1.9 publish them; see omg_settings.py for the settings. Left out: Home
Assistant discovery, over-the-air updates, changes of broker or Wi-Fi, connections to sensors.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace

from lab.simulators.advert import Advert
from lab.simulators.broker import Message
from lab.simulators.omg_settings import BtSettings
from lab.simulators.theengs_values import decoded, random_address

VERSION = "v1.8.1"
REPORT_EVERY = 120.0  # seconds between two reports of state and health
COMMAND_LIMIT = 2208  # bytes; the firmware's buffer
HEARD_LIMIT = 5000  # devices remembered within one scan
RESTARTED_BY_USER = 5  # the firmware's number for a restart by command

RAW_FIELDS = ("manufacturerdata", "servicedata", "servicedatauuid", "mac_type", "adv_type", "acts")


class Scanner:
    """When the radio listens: scans of `scanduration` ms, pauses of `interval` ms."""

    def __init__(self, settings: BtSettings, now: float) -> None:
        """Start the first scan at `now` (seconds, monotonic)."""
        self._settings = settings
        self.scans = 0
        self._begin(now, active=True)

    def _begin(self, now: float, *, active: bool) -> None:
        self.scans += 1
        self._end = now + self._settings.number("scanduration") / 1000
        self._heard: set[tuple[str, str]] = set()
        self._active = active and not self._settings.flag("forcepscn")
        if self._active:
            self._last_active = now

    def force(self, now: float) -> None:
        """Scan now, whatever the pause says."""
        self._begin(now, active=True)

    def listens(self, now: float) -> bool:
        """Tell whether a scan runs at `now`; begins the next one when its time has come."""
        if now < self._end:
            return True
        if now < self._end + self._settings.number("interval") / 1000:
            return False
        self._begin(now, active=now - self._last_active >= self._settings.number("intervalacts") / 1000)
        return True

    def takes(self, advert: Advert) -> bool:
        """Tell whether an advert is new in this scan: the controller reports a device's data once a scan."""
        key = (advert.mac, (advert.manufacturerdata or "")[:4] + (advert.servicedatauuid or ""))
        if key in self._heard or len(self._heard) >= HEARD_LIMIT:
            return False
        self._heard.add(key)
        return True

    def name(self, advert: Advert) -> str | None:
        """Return the name: it comes in the scan response, which a passive scan does not ask for."""
        return advert.name if self._active else None


class Board:
    """The firmware's state. Times are seconds of a monotonic clock, given by the caller."""

    def __init__(
        self, root: str, built_in: Mapping[str, object], flash: Mapping[str, object], now: float
    ) -> None:
        """Power on: `root` is `<site>/<gateway>`, `flash` holds what an earlier life saved."""
        self._root = root
        self._built_in = dict(built_in)
        self._flash = dict(flash)
        self.restart_wanted = False
        self.counters = {"msgprc": 0, "msgblck": 0, "msgrcv": 0}
        self.boot(now)

    def boot(self, now: float) -> None:
        """Start anew: RAM is lost, flash is not."""
        saved = self._flash.get("BTConfig")
        self.settings = BtSettings(self._built_in, saved if isinstance(saved, dict) else None)
        system = self._flash.get("SYSConfig")
        self._discovery = not isinstance(system, dict) or system.get("disc") is not False
        self.counters = dict.fromkeys(self.counters, 0)
        self.scanner = Scanner(self.settings, now)
        self._booted = now
        self._next_report = now
        self.restart_wanted = False

    @property
    def flash(self) -> dict[str, object]:
        """What survives a power cut."""
        return dict(self._flash)

    def _message(self, topic: str, fields: Mapping[str, object], *, retain: bool = False) -> Message:
        return Message(f"{self._root}/{topic}", json.dumps(fields, separators=(",", ":")).encode(), retain)

    def hear(self, advert: Advert, now: float) -> Message | None:
        """Take an advert from the radio; return what is to be published of it, if anything."""
        settings = self.settings
        if not settings.flag("enabled") or not self.scanner.listens(now):
            return None
        if advert.rssi < settings.number("minrssi") or not settings.allows(advert.address):
            return None
        if not self.scanner.takes(advert):
            return None
        fields, topic = self._fields(advert)
        if fields is None:
            return None
        self.counters["msgprc"] += 1
        return self._message(f"BTtoMQTT/{topic}", fields)

    def _fields(self, advert: Advert) -> tuple[dict[str, object] | None, str]:
        settings = self.settings
        raw: dict[str, object | None] = {
            "id": advert.address,
            "mac_type": 1 if int(advert.mac[0], 16) >= 4 else 0,  # noqa: PLR2004  enough for a plausible value
            "adv_type": 0,
            "name": self.scanner.name(advert),
            "manufacturerdata": advert.manufacturerdata,
            "rssi": advert.rssi,
            "servicedata": advert.servicedata,
            "servicedatauuid": advert.servicedatauuid,
        }
        fields: dict[str, object] = {key: value for key, value in raw.items() if value is not None}
        topic = advert.mac
        if settings.flag("extDecoderEnable"):
            topic = str(settings.values["extDecoderTopic"])
        elif random_address(advert) and not settings.flag("randommacs"):
            return None, topic
        else:
            values = decoded(replace(advert, name=self.scanner.name(advert)))
            if settings.flag("onlysensors") and not values:
                return None, topic
            fields |= values
        if not settings.flag("pubadvdata"):
            fields = {key: value for key, value in fields.items() if key not in RAW_FIELDS}
        return fields, topic

    def command(self, topic: str, payload: bytes, now: float) -> list[Message]:
        """Take a message on `commands/#` (`topic` without the root); return the answers."""
        self.counters["msgrcv"] += 1
        if len(payload) > COMMAND_LIMIT:
            return []
        try:
            message = json.loads(payload)
        except ValueError:
            return []
        handlers: dict[str, Callable[[dict[str, object], float], list[Message]]] = {
            "commands/MQTTtoBT/config": self._configure,
            "commands/MQTTtoSYS/config": self._system,
        }
        handler = handlers.get(topic)
        return handler(message, now) if handler and isinstance(message, dict) else []

    def _configure(self, message: dict[str, object], now: float) -> list[Message]:
        if self.settings.apply(message):
            self.scanner.force(now)
        self._flash.pop("BTConfig", None)
        if self.settings.saved is not None:
            self._flash["BTConfig"] = dict(self.settings.saved)
        return [self._bt_state()]

    def _system(self, message: dict[str, object], now: float) -> list[Message]:
        if isinstance(message.get("disc"), bool):
            self._discovery = message["disc"] is True
        if message.get("save") is True:
            self._flash["SYSConfig"] = {"disc": self._discovery}
        if message.get("cmd") == "restart":
            self.restart_wanted = True
            last = {"reason": RESTARTED_BY_USER, "uptime": int(now - self._booted)}
            return [self._message("LOGtoMQTT", last, retain=True)]
        return [self._health(now)] if message.get("cmd") == "status" else []

    def reports(self, now: float) -> list[Message]:
        """Return the two reports when they are due."""
        self.scanner.listens(now)
        if now < self._next_report:
            return []
        self._next_report = now + REPORT_EVERY
        return [self._bt_state(), self._health(now)]

    def _bt_state(self) -> Message:
        counters = {"tskstck": 1884, "crstck": 3128, "scnct": self.scanner.scans}
        return self._message("BTtoMQTT", {**self.settings.values, **counters})

    def _health(self, now: float) -> Message:
        """Return SYStoMQTT: uptime, counters and settings are alive, the rest is what such a board shows."""
        fixed: dict[str, object] = {
            "version": VERSION,
            "env": "esp32dev-ble",
            "mqtt": True,
            "serial": False,
            "freemem": 98304,
            "minmem": 71680,
            "mqttp": "1883",
            "mqtts": False,
            "mqttv": False,
            "maxq": 4,
            "cnt_index": 0,
            "tempc": 52.2,
            "freestck": 2300,
            "powermode": -1,
            "eth": False,
            "rssi": -58,
            "SSID": "simulated",
            "BSSID": "02:00:00:00:00:01",
            "mac": "02:00:00:00:00:02",
            "ip": "0.0.0.0",  # noqa: S104  a value in a report
            "modules": ["WebUI", "BT"],
        }
        alive = {"uptime": int(now - self._booted), "disc": self._discovery, **self.counters}
        return self._message("SYStoMQTT", {**alive, **fixed})
