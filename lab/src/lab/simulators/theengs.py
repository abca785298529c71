"""
A Theengs Gateway, as it runs on a NUC: hears the simulated radio, publishes as version 1.8.0 does.

Keys of the configuration:
  site, gateway    the two topic levels; the gateway's name is also its MQTT client id
  broker           {host, port (1883), user (""), password ("")}
  publish_advdata  true: raw fields beside the decoded ones; false: known models come decoded only (true)
  listen           address of all ports (0.0.0.0)
  radio_port       UDP (4545)
  control_port     see control.py (8099)

Faults:
  silent           true: the scan is dead, the process and LWT stay as they are
  garbage          number: malformed messages a second
  offline          true: the connection to the broker is cut for as long as this is on
"""

import json
import logging
import random
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from lab.simulators.advert import RADIO_PORT, Advert
from lab.simulators.broker import Broker, BrokerAddress, Message
from lab.simulators.control import Faults, Pace, answer_control, is_flag, is_rate
from lab.simulators.garbage import malformed
from lab.simulators.program import Keys, run_configured
from lab.simulators.radio import Radio
from lab.simulators.theengs_values import decoded, random_address
from lab.simulators.web import serve

# names that the gateway adds for devices which it does not know, by company id
MANUFACTURERS = {"0100": "Nokia Mobile Phones", "0600": "Microsoft", "4c00": "Apple, Inc."}
MANUFACTURERS |= {"5900": "Nordic Semiconductor ASA", "7500": "Samsung Electronics Co. Ltd."}

log = logging.getLogger("theengs")


@dataclass(frozen=True)
class Config:
    """The configuration as documented above."""

    site: str
    gateway: str
    broker: BrokerAddress
    publish_advdata: bool
    listen: str
    radio_port: int
    control_port: int

    @classmethod
    def from_json(cls, values: Mapping[str, object]) -> "Config":
        """Check everything; ConfigError says what is wrong."""
        keys = Keys(values)
        config = cls(
            keys.take("site", str),
            keys.take("gateway", str),
            BrokerAddress.from_keys(Keys(keys.take("broker", dict), "config.broker")),
            keys.take("publish_advdata", bool, True),  # noqa: FBT003  the default
            keys.take("listen", str, "0.0.0.0"),  # noqa: S104  a box of its own
            keys.take("radio_port", int, RADIO_PORT),
            keys.take("control_port", int, 8099),
        )
        keys.done()
        return config


def fields(advert: Advert, *, publish_advdata: bool) -> dict[str, object] | None:
    """
    Return the message for an advert, None for a device with a changing address.

    An unknown device always comes with its raw fields; a known one only with `publish_advdata`.
    """
    if random_address(advert):
        return None
    raw: dict[str, object | None] = {
        "manufacturerdata": advert.manufacturerdata,
        "servicedata": advert.servicedata,
        "servicedatauuid": advert.servicedatauuid,
    }
    always: dict[str, object | None] = {"name": advert.name, "id": advert.address, "rssi": advert.rssi}
    values: dict[str, object] = decoded(advert)
    if not values:
        raw["mfr"] = MANUFACTURERS.get((advert.manufacturerdata or "")[:4])
    elif publish_advdata:
        values |= {"cidc": False, "acts": True, "cont": False}
    else:
        raw = {}
        values.pop("acts", None)
    return {key: value for key, value in {**raw, **always, **values}.items() if value is not None}


class Gateway:
    """Joins radio and broker."""

    def __init__(self, config: Config) -> None:
        """Start to listen and to look for the broker."""
        self.faults = Faults({"silent": is_flag, "garbage": is_rate, "offline": is_flag})
        self._config = config
        root = f"{config.site}/{config.gateway}"
        self._topic = f"{root}/BTtoMQTT"
        self._radio = Radio(config.listen, config.radio_port)
        self._macs: deque[str] = deque(maxlen=50)
        self._random = random.Random(config.gateway)
        self._pace = Pace()
        self._cut = False
        self.counters = {"published": 0, "garbage": 0}
        self._broker = Broker(config.broker, config.gateway, Message(f"{root}/LWT", b"online", retain=True))
        self._broker.start()

    def state(self) -> dict[str, object]:
        """Return the counters of the control port."""
        return {
            **self.counters,
            "heard": self._radio.heard,
            "unreadable": self._radio.unreadable,
            "connected": self._broker.connected,
            "connects": self._broker.connects,
        }

    def work(self) -> None:
        """Do one round: at most one advert, then what is due. Takes up to 0.1 s."""
        advert = self._radio.receive()
        offline = self.faults.get("offline") is True
        if offline != self._cut:
            self._cut = offline
            log.info("event=offline on=%s", offline)
            (self._broker.cut if offline else self._broker.start)()
        if advert and not self.faults.get("silent"):
            self._macs.append(advert.mac)
            message = fields(advert, publish_advdata=self._config.publish_advdata)
            if message is not None:
                payload = json.dumps(message).encode()
                sent = self._broker.publish(Message(f"{self._topic}/{advert.mac}", payload))
                self.counters["published"] += sent
        for _ in range(self._pace.due(self.faults.rate("garbage"), time.monotonic())):
            topic, payload = malformed(self._random, list(self._macs))
            self._broker.publish(Message(f"{self._topic}/{topic}", payload))
            self.counters["garbage"] += 1


def run(config: Config, stop: threading.Event) -> None:
    """Be a gateway until `stop` is set; the broker then sends the will."""
    gateway = Gateway(config)
    serve(
        config.listen,
        config.control_port,
        lambda request: answer_control(request, gateway.faults, gateway.state),
    )
    log.info("event=started gateway=%s", config.gateway)
    while not stop.is_set():
        gateway.work()


def main() -> int:
    """Run the program; exit code 2 for a configuration that cannot be used."""
    return run_configured(__doc__, Config.from_json, run)


if __name__ == "__main__":
    sys.exit(main())
