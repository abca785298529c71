"""
One gateway message in, at most one reading out; every message is counted exactly once.

adverts = decoded + unknown + the sum of rejected_*;  decoded = published + those that were only repeats.
"""

import json
import re
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Final, NoReturn

from decoder.advert import MAX_HEX, RejectedError
from decoder.decode import Result, decode, finish
from decoder.events import Events
from decoder.gates import LIMITS
from decoder.gateway_values import found_in
from decoder.stamps import Clock, Stamp

MOST_BYTES: Final = 8192  # of one message; OpenMQTTGateway's own limit is 2 kB
MOST_PATHS: Final = 10_000  # (gateway, device) pairs remembered; the one silent for longest goes first
MOST_GATEWAYS: Final = 100
MOST_NAME: Final = 64

_MAC = re.compile(r"[0-9A-F]{12}")
_TOPIC = re.compile(
    r"(?P<site>[^/]+)/(?P<gateway>[A-Za-z0-9._-]{1,64})/BTtoMQTT/(?:undecoded|(?P<mac>[0-9A-Fa-f]{12}))"
)
_MODEL_ID = re.compile(r"[A-Za-z0-9 /_.+-]{1,40}")
_RSSI_LOW, _RSSI_HIGH = LIMITS["rssi"]


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)  # NaN and Infinity are no JSON


_parse = json.JSONDecoder(parse_constant=_no_constant).decode


class Gateway:
    """Counters of one gateway, totals since start."""

    __slots__ = ("adverts", "decoded", "rejected")

    def __init__(self) -> None:
        """Start at zero."""
        self.adverts = self.decoded = self.rejected = 0


class _Path:
    """What a topic says, worked out once, and the last stamp given out on it."""

    __slots__ = ("gateway", "mac", "name", "stamp", "topic")

    def __init__(self, name: str, gateway: Gateway, mac: str, topic: bytes) -> None:
        self.name = name
        self.gateway = gateway
        self.mac = mac  # empty: the topic ends in `undecoded`, the message says whose it is
        self.topic = topic  # of the reading
        self.stamp = Stamp()


class Pipeline:
    """Adverts to readings for one site. Not thread-safe, on purpose: one thread feeds it."""

    def __init__(self, site: str, models: Mapping[str, str], on_reject: Callable[[str, bytes], None]) -> None:
        """`models`: id -> model. `on_reject(reason, topic)` is told of every rejected message."""
        self.site = site
        self.models = models
        self.clock = Clock()
        self.events = Events()
        self.adverts = self.decoded = self.published = self.repeats = self.unknown = 0
        self.counts: Counter[str] = Counter()  # rejected_<reason>: messages; dropped_<reason>: values
        self.gateways: dict[str, Gateway] = {}
        self._on_reject = on_reject
        self._nobody = Gateway()  # books what comes on a topic of no gateway
        self._paths: OrderedDict[bytes, _Path] = OrderedDict()

    def handle(self, topic: bytes, payload: bytes, *, retained: bool = False) -> tuple[bytes, bytes] | None:
        """
        Turn a message on `<site>/<gateway>/BTtoMQTT/<id>` into topic and payload of its reading, or None.

        `retained`: the broker kept it, so it may be days old. Never raises.
        """
        self.adverts += 1
        gateway = self._nobody
        try:
            path = self._path(topic)
            gateway = path.gateway
            gateway.adverts += 1
            message = _message(payload, retained)
            mac = _mac_of(message, path.mac)
            if not path.mac:
                path = self._path(topic.rpartition(b"/")[0] + b"/" + mac.encode())
            model = self.models.get(mac)
            result = _result(message, model)
            if result.dropped:
                for word in result.dropped:
                    self.counts["dropped_" + word] += 1
            if not result.reason:
                self.decoded += 1
                gateway.decoded += 1
                return self._reading(path, result, message.get("rssi"))
            if result.reason == "unknown":
                self.unknown += 1
                return None
            reason = result.reason
        except RejectedError as error:
            reason = str(error)
        gateway.rejected += 1
        self.counts["rejected_" + reason] += 1
        self._on_reject(reason, topic)
        return None

    def _reading(self, path: _Path, result: Result, rssi: object) -> tuple[bytes, bytes] | None:
        body = result.body
        if result.event_id and not self.events.is_new(path.mac, result.event_id, time.monotonic()):
            self.repeats += 1
            body = result.rest
            if not body:
                return None
        clock = self.clock
        stamp = clock.text(path.stamp.next(clock.now(), clock.steps))
        if type(rssi) is int and _RSSI_LOW <= rssi <= _RSSI_HIGH:
            text = f'{{"time":"{stamp}",{body},"rssi":{rssi}}}'
        else:
            if rssi is not None:
                self.counts["dropped_rssi"] += 1
            text = f'{{"time":"{stamp}",{body}}}'
        self.published += 1
        return path.topic, text.encode()

    def _path(self, topic: bytes) -> _Path:
        path = self._paths.get(topic)
        if path is not None:
            self._paths.move_to_end(topic)
            return path
        match = _TOPIC.fullmatch(topic.decode(errors="replace"))
        if match is None or match["site"] != self.site:
            raise RejectedError("topic")
        name, mac = match["gateway"], match["mac"] or ""
        if mac != mac.upper():  # one spelling, so one stamp
            return self._path(topic[:-12] + mac.upper().encode())
        gateway = self.gateways.get(name)
        if gateway is None:
            if len(self.gateways) >= MOST_GATEWAYS:
                raise RejectedError("gateways")
            gateway = self.gateways[name] = Gateway()
        path = _Path(name, gateway, mac, f"{self.site}/decoder/{name}/{mac}".encode())
        self._paths[topic] = path
        if len(self._paths) > MOST_PATHS:
            self._paths.popitem(last=False)
        return path


def _message(payload: bytes, retained: bool) -> dict[str, Any]:  # noqa: FBT001  private, one caller
    if retained:
        raise RejectedError("retained")
    if len(payload) > MOST_BYTES:
        raise RejectedError("too_long")
    try:
        message = _parse(payload.decode())
    except (ValueError, RecursionError):
        raise RejectedError("bad_json") from None
    if type(message) is not dict:
        raise RejectedError("wrong_type")
    return message


def _mac_of(message: dict[str, Any], from_topic: str) -> str:
    """Find the device's id: in the topic, which `id` must not contradict, else in `id`."""
    said = message.get("id")
    if said is None:
        if from_topic:
            return from_topic
        raise RejectedError("no_id")
    if type(said) is not str:
        raise RejectedError("wrong_type")
    said = said.replace(":", "").upper()
    if from_topic:
        if said != from_topic:
            raise RejectedError("id_mismatch")
    elif not _MAC.fullmatch(said):
        raise RejectedError("no_id")
    return said


def _result(message: dict[str, Any], model: str | None) -> Result:
    get = message.get
    manufacturer, service = get("manufacturerdata"), get("servicedata")
    if manufacturer is None and service is None:
        return _from_gateway(message, model)
    uuid, name = get("servicedatauuid"), get("name", "")
    for field in (manufacturer, service, uuid, name):
        if field is not None and type(field) is not str:
            raise RejectedError("wrong_type")
    # Cut, so that no long text is kept as a key of the cache; the hex fields are checked for length there.
    return decode(
        _short(manufacturer), _short(service), uuid and uuid[:MOST_NAME], name and name[:MOST_NAME], model
    )


def _short(field: str | None) -> str | None:
    if field is not None and len(field) > MAX_HEX:
        raise RejectedError("too_long")
    return field


def _from_gateway(message: dict[str, Any], model: str | None) -> Result:
    """Take the gateway's own values, for a device of the map or one that the gateway could name."""
    named = message.get("model_id")
    if model is None and not (type(named) is str and _MODEL_ID.fullmatch(named)):
        return Result("unknown")
    try:
        return finish(found_in(message, model or str(named)))
    except (OverflowError, ValueError):
        raise RejectedError("wrong_type") from None
