"""
An ESP32 with OpenMQTTGateway: hears the simulated radio, publishes as the firmware does.

Keys of the configuration:
  site, gateway  the two topic levels; the gateway's name is also its MQTT client id
  broker         {host, port (1883), user (""), password ("")}
  bt             BLE settings that this build starts with, with side effects: {"adaptivescan": false}
                 also makes scans of 1 s, 0.1 s apart ({})
  flash          file that keeps saved settings over a restart of the program ("": none)
  web_port       the board's web page: answers 401 to everything (0: off)
  listen         address of all ports (0.0.0.0)
  radio_port     UDP (4545)
  control_port   see control.py (8099)

Faults:
  silent         true: the radio is dead, everything else goes on, LWT stays online
  garbage        number: malformed messages a second
  reboot         true: power is cut now; on again after 3 s
  slow           number: seconds that each advert takes to publish; 18 wait, the rest is counted in msgblck
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
from pathlib import Path

from lab.simulators.advert import RADIO_PORT
from lab.simulators.broker import Broker, BrokerAddress, Message
from lab.simulators.control import Faults, Pace, answer_control, is_flag, is_rate
from lab.simulators.garbage import malformed
from lab.simulators.omg_board import Board
from lab.simulators.program import Keys, run_configured
from lab.simulators.radio import Radio
from lab.simulators.web import Answer, serve

BOOT_SECONDS = 3.0
QUEUE_SIZE = 18  # adverts; the firmware's queue towards MQTT

log = logging.getLogger("openmqttgateway")


@dataclass(frozen=True)
class Config:
    """The configuration as documented above."""

    site: str
    gateway: str
    broker: BrokerAddress
    bt: Mapping[str, object]
    flash: str
    web_port: int
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
            keys.take("bt", dict, {}),
            keys.take("flash", str, ""),
            keys.take("web_port", int, 0),
            keys.take("listen", str, "0.0.0.0"),  # noqa: S104  a box of its own
            keys.take("radio_port", int, RADIO_PORT),
            keys.take("control_port", int, 8099),
        )
        keys.done()
        return config


def read_flash(path: str) -> dict[str, object]:
    """Return what an earlier run saved; an unreadable file is an erased flash."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8")) if path else {}
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


class Gateway:
    """Joins board, radio and broker; everything but the two network threads happens in `work`."""

    def __init__(self, config: Config) -> None:
        """Power on; the broker is looked for from now on."""
        self.faults = Faults({"silent": is_flag, "garbage": is_rate, "reboot": is_flag, "slow": is_rate})
        self._config = config
        self._root = f"{config.site}/{config.gateway}"
        self._board = Board(self._root, config.bt, read_flash(config.flash), time.monotonic())
        self._written = self._board.flash
        self._radio = Radio(config.listen, config.radio_port)
        self._commands: deque[tuple[str, bytes]] = deque(maxlen=100)
        self._waiting: deque[Message] = deque()
        self._macs: deque[str] = deque(maxlen=50)
        self._random = random.Random(config.gateway)
        self._pace = Pace()
        self._next_publish = 0.0
        self._boots_at: float | None = None
        self.counters = {"published": 0, "garbage": 0, "reboots": 0}
        self._broker = Broker(
            config.broker,
            config.gateway,
            Message(f"{self._root}/LWT", b"online", retain=True),
            [f"{self._root}/commands/#"],
            lambda topic, payload: self._commands.append((topic, payload)),
        )
        self._broker.start()

    def state(self) -> dict[str, object]:
        """Return the counters of the control port."""
        return {
            **self.counters,
            **self._board.counters,
            "heard": self._radio.heard,
            "unreadable": self._radio.unreadable,
            "scans": self._board.scanner.scans,
            "connected": self._broker.connected,
            "connects": self._broker.connects,
        }

    def work(self) -> None:
        """Do one round: at most one advert, all commands, what is due. Takes up to 0.1 s."""
        advert = self._radio.receive()
        now = time.monotonic()
        if self._off(now):
            return
        # the firmware locks BLE until MQTT is up: what is heard before is lost
        if advert and self._broker.connected and not self.faults.get("silent"):
            self._macs.append(advert.mac)
            message = self._board.hear(advert, now)
            if message and len(self._waiting) >= QUEUE_SIZE:
                self._board.counters["msgblck"] += 1
            elif message:
                self._waiting.append(message)
        self._obey(now)
        self._publish(now)
        if self._board.restart_wanted or self.faults.get("reboot"):
            self._reboot(now)

    def _off(self, now: float) -> bool:
        if self._boots_at is None:
            return False
        if now < self._boots_at:
            return True
        self._boots_at = None
        self._board.boot(now)
        self._broker.start()
        return False

    def _obey(self, now: float) -> None:
        while self._commands:
            topic, payload = self._commands.popleft()
            for answer in self._board.command(topic.removeprefix(f"{self._root}/"), payload, now):
                self._broker.publish(answer)
            if self._board.flash != self._written:
                self._written = self._board.flash
                if self._config.flash:
                    Path(self._config.flash).write_text(json.dumps(self._written), encoding="utf-8")

    def _publish(self, now: float) -> None:
        slow = self.faults.rate("slow")
        while self._waiting and now >= self._next_publish:
            self.counters["published"] += self._broker.publish(self._waiting.popleft())
            self._next_publish = now + slow
        if not self._broker.connected:
            return
        for message in self._board.reports(now):
            self._broker.publish(message)
        for _ in range(self._pace.due(self.faults.rate("garbage"), now)):
            topic, payload = malformed(self._random, list(self._macs))
            self._broker.publish(Message(f"{self._root}/BTtoMQTT/{topic}", payload))
            self.counters["garbage"] += 1

    def _reboot(self, now: float) -> None:
        log.info("event=reboot")
        self.faults.change({"reboot": None})
        self.counters["reboots"] += 1
        self._waiting.clear()
        self._commands.clear()
        self._broker.cut()
        self._boots_at = now + BOOT_SECONDS


def run(config: Config, stop: threading.Event) -> None:
    """Be a gateway until `stop` is set; the broker then sends the will, as after a power cut."""
    gateway = Gateway(config)
    serve(
        config.listen,
        config.control_port,
        lambda request: answer_control(request, gateway.faults, gateway.state),
    )
    if config.web_port:
        challenge = {"WWW-Authenticate": 'Basic realm="Login Required"'}
        serve(config.listen, config.web_port, lambda _request: Answer(b"", 401, "text/html", challenge))
    log.info("event=started gateway=%s", config.gateway)
    while not stop.is_set():
        gateway.work()


def main() -> int:
    """Run the program; exit code 2 for a configuration that cannot be used."""
    return run_configured(__doc__, Config.from_json, run)


if __name__ == "__main__":
    sys.exit(main())
