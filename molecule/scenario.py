"""What the tests of every scenario do with a rehearsed site: ask its database, speak MQTT, run site.yml."""

import json
import os
import secrets
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from lab import readings
from lab.site import REPOSITORY, Site


class Database:
    """The site's InfluxDB, with the token for reading."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.token = readings.token(site)

    def query(self, flux: str) -> list[dict[str, str]]:
        return readings.query(self.site, flux, self.token)

    def newest(self, since: str = "-1m") -> list[dict[str, str]]:
        return self.query(readings.NEWEST.replace("-1h", since))


class Client:
    """An MQTT client that remembers what it heard and knows which publishes were acknowledged."""

    def __init__(self, site: Site, user: str, password: str) -> None:
        self.heard: list[mqtt.MQTTMessage] = []
        self.refused = ""
        self.ready = threading.Event()
        version = CallbackAPIVersion.VERSION2
        self.mqtt = mqtt.Client(version, client_id=f"test-{secrets.token_hex(4)}")
        self.mqtt.username_pw_set(user, password)
        self.mqtt.on_message = lambda _c, _u, message: self.heard.append(message)
        self.mqtt.on_connect = self._connected
        self.mqtt.on_subscribe = lambda *_: self.ready.set()
        self.mqtt.connect(site.ops.address, 1883)
        self.mqtt.loop_start()

    def _connected(self, _client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        self.refused = str(reason) if reason.is_failure else ""
        if not self.topics or reason.is_failure:
            self.ready.set()
        for topic in self.topics:
            self.mqtt.subscribe(topic, qos=1)

    topics: tuple[str, ...] = ()

    def close(self) -> None:
        self.mqtt.disconnect()
        self.mqtt.loop_stop()


def eventually[T](what: Callable[[], T], seconds: float = 30.0) -> T:
    """Ask until the answer is true, and give it; fails with the last answer."""
    deadline = time.monotonic() + seconds
    while not (answer := what()):
        assert time.monotonic() < deadline, f"still {answer!r} after {seconds} s"
        time.sleep(0.2)
    return answer


def playbook(site: Site, *arguments: str) -> tuple[str, dict[str, int]]:
    """Run site.yml on the rehearsed site: its output and the figures of the recap."""
    command = [str(REPOSITORY / ".venv/bin/ansible-playbook"), "site.yml", "--limit", site.name]
    for name in ("vault.yml", "connection.yml"):
        command += ["--extra-vars", f"@{site.state / name}"]
    command += arguments
    env = os.environ | {
        "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_FORCE_COLOR": "0",
    }
    done = subprocess.run(command, cwd=REPOSITORY, env=env, capture_output=True, text=True, check=False)
    recap = done.stdout.rpartition("PLAY RECAP")[2]
    figures = {k: int(v) for k, _, v in (w.partition("=") for w in recap.split() if "=" in w)}
    return done.stdout + done.stderr, figures


def documents(messages: list[mqtt.MQTTMessage]) -> list[tuple[str, Any]]:
    """Topic and parsed payload of messages."""
    return [(message.topic, json.loads(message.payload)) for message in messages]
