"""
The BLE settings of an OpenMQTTGateway and what one message on `commands/MQTTtoBT/config` does to them.

Keys, defaults, order and side effects as documented and observed for firmware 1.8 and 1.9. A value of wrong
type is ignored, like a key that the firmware does not know. Where turning adaptive scanning off sets the scan
times, it wins over scan times in the same message.
"""

from collections.abc import Mapping
from typing import Final

DEFAULTS: Final[Mapping[str, bool | int | str]] = {
    "enabled": True,
    "bleconnect": True,
    "interval": 55555,
    "intervalacts": 55555,
    "intervalcnct": 3600000,
    "scanduration": 10000,
    "adaptivescan": True,
    "forcepscn": False,
    "onlysensors": False,
    "randommacs": False,
    "pubadvdata": False,
    "hasspresence": False,
    "prestopic": "presence/",
    "presuseuuid": False,
    "pubuuid4topic": False,
    "minrssi": -100,
    "extDecoderEnable": False,
    "extDecoderTopic": "undecoded",
    "filterConnectable": False,
    "presenceawaytimer": 120000,
    "movingtimer": 60000,
    "ignoreWBlist": False,
}
LIST_LIMIT = 200  # MACs in RAM; a message has room for about 55


class BtSettings:
    """`values` are in force, `saved` is what flash holds (None: nothing); the two lists live in RAM only."""

    def __init__(self, built_in: Mapping[str, object], saved: Mapping[str, object] | None) -> None:
        """
        Start as after power-on: the build's own settings, then what was saved.

        `built_in` is taken with all side effects, as if a message had set it before it became the default.
        """
        self.values: dict[str, object] = dict(DEFAULTS)
        self._apply_keys(built_in)
        self._built_in = dict(self.values)
        self.saved = None if saved is None else dict(saved)
        self._load()
        self._white: set[str] = set()
        self._black: set[str] = set()
        self._one_white = False  # never cleared again but by a restart

    def _load(self) -> None:
        if self.saved is not None:
            self.values.update(_usable(self.saved))

    def apply(self, message: Mapping[str, object]) -> bool:
        """
        Apply one message in the firmware's order: lists, init or load, plain keys, erase or save.

        Return True if it asks for a scan at once (`interval` 0).
        """
        self._apply_lists(message)
        if message.get("init") is True:
            self.values = dict(self._built_in)
        elif message.get("load") is True:
            self._load()
        forced_scan = self._apply_keys(message)
        if message.get("erase") is True:
            self.saved = None
        elif message.get("save") is True:
            self.saved = dict(self.values)
        return forced_scan

    def _apply_lists(self, message: Mapping[str, object]) -> None:
        for mac in _strings(message.get("white-list"), LIST_LIMIT - len(self._white)):
            self._white.add(mac)
            self._black.discard(mac)
            self._one_white = True
        for mac in _strings(message.get("black-list"), LIST_LIMIT - len(self._black)):
            self._black.add(mac)
            self._white.discard(mac)

    def _apply_keys(self, message: Mapping[str, object]) -> bool:
        wanted = _usable(message)
        presence = wanted.get("hasspresence", self.values["hasspresence"])
        if presence != self.values["hasspresence"]:
            wanted["adaptivescan"] = not presence
        if wanted.get("adaptivescan") is False and self.values["adaptivescan"] is True:
            wanted |= {"interval": 100, "intervalacts": 100, "scanduration": 1000}
        forced_scan = wanted.get("interval") == 0
        if forced_scan:
            del wanted["interval"]
        elif "interval" in wanted:
            wanted["adaptivescan"] = False
        if isinstance(level := wanted.get("minrssi"), int):
            wanted["minrssi"] = -abs(level)
        self.values.update(wanted)
        return forced_scan

    def allows(self, address: str) -> bool:
        """Tell whether the lists let a device through; `address` is compared letter by letter, upper case."""
        if self.values["ignoreWBlist"]:
            return True
        return address not in self._black and (not self._one_white or address in self._white)

    def flag(self, key: str) -> bool:
        """Return a setting that is true or false."""
        return self.values[key] is True

    def number(self, key: str) -> int:
        """Return a whole number (times are in ms, minrssi in dBm)."""
        value = self.values[key]
        return value if isinstance(value, int) else 0


def _usable(message: Mapping[str, object]) -> dict[str, object]:
    """Return the keys of a message that the firmware knows and whose value has the right type."""
    return {key: message[key] for key, usual in DEFAULTS.items() if type(message.get(key)) is type(usual)}


def _strings(value: object, limit: int) -> list[str]:
    return [item for item in value if isinstance(item, str)][:limit] if isinstance(value, list) else []
