"""The whole decoder against a real broker, both as processes of their own."""

import contextlib
import json
import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

import decoder

SOURCE = Path(decoder.__file__).parents[1]
MOSQUITTO = shutil.which("mosquitto", path=os.environ.get("PATH", "") + ":/usr/sbin")
PATIENCE_S = 20.0

pytestmark = pytest.mark.slow


def wait_for(what: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < until, "did not happen"
        time.sleep(0.02)


class Broker:
    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self._conf = folder / "mosquitto.conf"
        self._conf.write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n"
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        assert MOSQUITTO is not None
        self._process = subprocess.Popen([MOSQUITTO, "-c", self._conf], stderr=subprocess.DEVNULL)
        wait_for(self._listens)

    def _listens(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


class Decoder:
    def __init__(self, folder: Path, broker: Broker) -> None:
        self._log = folder / "decoder.log"
        self.models = folder / "models.json"
        (folder / "password").write_text("secret")
        self._environment = {
            "PYTHONPATH": str(SOURCE),
            "TMPDIR": str(folder),
            "SITE": "site",
            "MQTT_HOST": "127.0.0.1",
            "MQTT_PORT": str(broker.port),
            "MQTT_USER": "decoder",
            "MQTT_PASSWORD_FILE": str(folder / "password"),
            "MODELS_FILE": str(self.models),
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "decoder"], env=self._environment, stdout=log, stderr=log
            )

    def health(self) -> int:
        return subprocess.run(
            [sys.executable, "-m", "decoder.health"], env=self._environment, capture_output=True, check=False
        ).returncode

    def log(self) -> str:
        return self._log.read_text() if self._log.exists() else ""

    def wait_for_log(self, event: str, times: int = 1) -> None:
        wait_for(lambda: self.log().count(f"event={event} ") >= times)

    def end(self, how: signal.Signals = signal.SIGKILL) -> int:
        assert self.process is not None
        self.process.send_signal(how)
        code = self.process.wait(PATIENCE_S)
        self.process = None
        return code


class Listener:
    """A client that plays the gateways and reads what the decoder says."""

    def __init__(self, broker: Broker) -> None:
        self.heard: queue.Queue[tuple[str, Any]] = queue.Queue()
        self._client = paho.Client(CallbackAPIVersion.VERSION2)
        self._client.reconnect_delay_set(1, 1)
        self._subscribed = 0
        self._client.on_connect = lambda client, *_: client.subscribe("site/decoder/#", qos=1)
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message
        self._client.connect("127.0.0.1", broker.port)
        self._client.loop_start()
        self.wait_until_connected(1)

    def _on_subscribe(self, *_: object) -> None:
        self._subscribed += 1

    def _on_message(self, _client: object, _data: object, message: paho.MQTTMessage) -> None:
        text = message.payload.decode()
        self.heard.put((message.topic, json.loads(text) if text.startswith(("{", "[")) else text))

    def wait_until_connected(self, times: int) -> None:
        wait_for(lambda: self._subscribed >= times)

    def send(self, n: int, gateway: str = "gw") -> None:
        message = {
            "id": f"{n:012X}",
            "name": f"GVH5075_{n % 0xFFFF:04X}",
            "manufacturerdata": "88ec00034db26400",
        }
        # QoS 1, so that a test can wait until the broker has it; the decoder gets it with QoS 0 all the same.
        self._last = self._client.publish(f"site/{gateway}/BTtoMQTT/{n:012X}", json.dumps(message), qos=1)

    def wait_until_passed_on(self) -> None:
        self._last.wait_for_publish(PATIENCE_S)

    def send_raw(self, topic: str, payload: bytes) -> None:
        self._client.publish(topic, payload)

    def readings(self, number: int) -> list[str]:
        """Wait for so many readings and return their topics in order."""
        topics: list[str] = []
        while len(topics) < number:
            topic, payload = self.heard.get(timeout=PATIENCE_S)
            if isinstance(payload, dict):
                topics.append(topic)
        return topics

    def status(self, wanted: str) -> None:
        while True:
            topic, payload = self.heard.get(timeout=PATIENCE_S)
            if topic == "site/decoder/status" and payload == wanted:
                return

    def metrics(self, wanted: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
        while True:
            topic, payload = self.heard.get(timeout=PATIENCE_S)
            if topic == "site/decoder/metrics" and wanted(payload[0]):
                assert isinstance(payload, list)
                return payload

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    broker = Broker(tmp_path)
    yield broker
    broker.kill()


@pytest.fixture
def box(tmp_path: Path, broker: Broker) -> Iterator[Decoder]:
    box = Decoder(tmp_path, broker)
    yield box
    if box.process is not None:
        box.end()


def test_two_gateways_status_metrics_and_a_clean_end(broker: Broker, box: Decoder) -> None:
    broker.start()
    listener = Listener(broker)
    try:
        box.start()
        listener.status("online")
        assert box.health() == 0
        listener.send(1, "north")
        listener.send(1, "south")
        listener.send_raw("site/north/BTtoMQTT/000000000001", b"nonsense" * 200_000)
        listener.send(2, "north")
        assert sorted(listener.readings(3)) == [
            "site/decoder/north/000000000001",
            "site/decoder/north/000000000002",
            "site/decoder/south/000000000001",
        ]
        whole, *gateways = listener.metrics(lambda counts: counts["adverts"] == 4)
        assert (whole["published"], whole["acknowledged"], whole["rejected_too_long"], whole["queue"]) == (
            3,
            3,
            1,
            0,
        )
        assert {g["gateway"]: (g["adverts"], g["rejected"]) for g in gateways} == {
            "north": (3, 1),
            "south": (1, 0),
        }
        assert box.end(signal.SIGTERM) == 0
        listener.status("offline")
    finally:
        listener.close()


def test_killed_decoder_leaves_its_will(broker: Broker, box: Decoder) -> None:
    broker.start()
    listener = Listener(broker)
    try:
        box.start()
        listener.status("online")
        box.end(signal.SIGKILL)
        listener.status("offline")
        assert Listener(broker).heard.get(timeout=PATIENCE_S) == (
            "site/decoder/status",
            "offline",
        )  # retained
    finally:
        listener.close()


def test_starts_before_broker_and_map_and_survives_a_restart_of_the_broker(
    broker: Broker, box: Decoder
) -> None:
    box.start()
    box.wait_for_log("broker_away")
    box.wait_for_log("map_absent")
    wait_for(lambda: box.health() == 0)
    broker.start()
    listener = Listener(broker)
    try:
        listener.status("online")
        listener.send(1)
        assert listener.readings(1) == ["site/decoder/gw/000000000001"]
        box.models.write_text('{"000000000009": "H5100"}')
        box.wait_for_log("map_read")
        nameless = b'{"manufacturerdata":"0100010103465464"}'
        listener.send_raw("site/gw/BTtoMQTT/000000000009", nameless)
        assert listener.readings(1) == ["site/decoder/gw/000000000009"]
        for restart in (2, 3):
            broker.kill()
            broker.start()
            box.wait_for_log("connected", restart)
            listener.wait_until_connected(restart)
            listener.send(restart)
            assert listener.readings(1) == [f"site/decoder/gw/{restart:012X}"]
        assert box.end(signal.SIGTERM) == 0
    finally:
        listener.close()


def test_readings_kept_while_the_broker_is_gone_follow_in_order(broker: Broker, box: Decoder) -> None:
    """
    The broker dies with adverts in the decoder's hands: their readings come when it is back.

    The decoder is stopped meanwhile, so that the adverts are in its socket when the broker is killed.
    """
    broker.start()
    listener = Listener(broker)
    try:
        box.start()
        listener.status("online")
        listener.send(1)
        assert listener.readings(1)
        assert box.process is not None
        box.process.send_signal(signal.SIGSTOP)
        for n in range(100, 600):
            listener.send(n)
        listener.send(2, "other")
        listener.wait_until_passed_on()
        broker.kill()
        box.process.send_signal(signal.SIGCONT)
        box.wait_for_log("broker_away")
        broker.start()
        listener.wait_until_connected(2)
        wanted = [f"site/decoder/gw/{n:012X}" for n in range(100, 600)] + ["site/decoder/other/000000000002"]
        # The listener may be there before or after the decoder, so the first may have gone by.
        got = listener.readings(1)
        while got[-1] != wanted[-1]:
            got += listener.readings(1)
        assert got == wanted[-len(got) :]
        counts = listener.metrics(lambda counts: counts["adverts"] >= 502)[0]
        assert counts["acknowledged"] == counts["published"] == 502
        assert (counts["queue"], counts["queue_dropped"]) == (0, 0)
    finally:
        listener.close()


def test_refused_account_says_what_to_do(broker: Broker, box: Decoder, tmp_path: Path) -> None:
    (tmp_path / "mosquitto.conf").write_text(f"listener {broker.port} 127.0.0.1\nallow_anonymous false\n")
    broker.start()
    box.start()
    box.wait_for_log("broker_refused")
    assert box.health() == 0
    assert box.end(signal.SIGTERM) == 0
    assert "do=" in box.log()
    assert "secret" not in box.log()
