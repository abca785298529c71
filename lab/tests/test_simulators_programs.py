"""The simulators as programs, with a real broker between them: adverts, faults, restarts, the cloud."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from lab.simulators.govee2mqtt import Settings

pytestmark = pytest.mark.slow  # needs mosquitto on the PATH

SOURCE = Path(__file__).parents[1] / "src"
SITE = "coachella"
ESP, NUC = "coachella-esp-foh", "coachella-nuc"
H5075, H5051 = "A4C138110000", "E36059018888"
type Wish = Callable[[dict[str, Any]], bool]
PATIENCE = 20.0  # seconds; only a broken program needs them


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for[T](look: Callable[[], T | None], what: str) -> T:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if found := look():
            return found
        time.sleep(0.05)
    pytest.fail(f"never seen: {what}")


class Program:
    """One child process; its output is shown when the test fails."""

    def __init__(self, *command: str, **environment: str) -> None:
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("GOVEE_", "GF_"))}
        self.process = subprocess.Popen(command, env={**clean, "PYTHONPATH": str(SOURCE), **environment})

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait(PATIENCE)


class Control:
    """The control port of a simulator on loopback."""

    def __init__(self, port: int) -> None:
        self.port = port

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
            return json.load(answer)

    def up(self) -> bool:
        try:
            self.get("/state")
        except OSError:
            return False
        return True

    def faults(self, **faults: object) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        connection.request("POST", "/faults", json.dumps(faults))
        answer = connection.getresponse()
        return answer.status, json.load(answer)


class Broker:
    """A real mosquitto on a free port of loopback, which can be stopped and started."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.config = folder / "mosquitto.conf"
        self.config.write_text(f"listener {self.port} 127.0.0.1\nallow_anonymous true\n", encoding="utf-8")
        self.program: Program | None = None

    def start(self) -> None:
        self.program = Program("mosquitto", "-c", str(self.config))
        wait_for(self._answers, "the broker's port")

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    def stop(self) -> None:
        if self.program:
            self.program.kill()


class Ear:
    """An MQTT client that keeps what it hears."""

    def __init__(self, port: int) -> None:
        self.messages: list[mqtt.MQTTMessage] = []
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2)
        self.client.on_connect = lambda client, *_rest: client.subscribe("#", 1)
        self.client.on_message = lambda _client, _data, message: self.messages.append(message)
        self.client.reconnect_delay_set(1, 1)
        ready = threading.Event()
        self.client.on_subscribe = lambda *_rest: ready.set()
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        assert ready.wait(PATIENCE)

    def on(self, topic: str, *, retained: bool | None = None) -> list[mqtt.MQTTMessage]:
        return [m for m in list(self.messages) if m.topic == topic and retained in (None, m.retain)]

    def json_on(
        self, topic: str, wanted: Callable[[dict[str, Any]], bool] = lambda _: True
    ) -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            for message in self.on(topic):
                with contextlib.suppress(ValueError):
                    fields = json.loads(message.payload)
                    if isinstance(fields, dict) and wanted(fields):
                        return fields
            return None

        return wait_for(look, f"{topic} as wanted")

    def text_on(self, topic: str, text: bytes) -> None:
        wait_for(lambda: any(m.payload == text for m in self.on(topic)), f"{topic} = {text!r}")

    def say(self, topic: str, **fields: object) -> None:
        self.client.publish(topic, json.dumps(fields), qos=1)


class Site:
    """A fleet, two gateways and a broker; every program is ended at the end of the test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.programs: list[Program] = []
        self.ears: list[Ear] = []
        self.broker = Broker(folder)
        self.controls: dict[str, Control] = {}
        self.radios: dict[str, int] = {}

    def start(self, name: str, label: str, **config: object) -> Program:
        control = free_port()
        config |= {"listen": "127.0.0.1", "control_port": control}
        path = self.folder / f"{label}.json"
        path.write_text(json.dumps(config), encoding="utf-8")
        program = Program(sys.executable, "-m", f"lab.simulators.{name}", "--config", str(path))
        self.programs.append(program)
        self.controls[label] = Control(control)
        wait_for(self.controls[label].up, f"{label}'s control port")
        return program

    def gateway(self, name: str, label: str, **config: object) -> Program:
        self.radios[label] = free_port(socket.SOCK_DGRAM)
        address = {"host": "127.0.0.1", "port": self.broker.port}
        return self.start(
            name, label, site=SITE, gateway=label, broker=address, radio_port=self.radios[label], **config
        )

    def fleet(self, **config: object) -> Program:
        sensors = [
            {"id": H5075, "name": "FOH rack", "room": "FOH", "model": "H5075"},
            {"id": H5051, "name": "Truck", "room": "Truck", "model": "H5051", "cloud_id": "E36059018888422A"},
        ]
        radios = [{"host": "127.0.0.1", "port": port} for port in self.radios.values()]
        return self.start("fleet", "fleet", sensors=sensors, gateways=radios, interval=0.2, **config)

    def ear(self) -> Ear:
        self.ears.append(Ear(self.broker.port))
        return self.ears[-1]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    some = Site(tmp_path)
    some.broker.start()
    yield some
    for ear in some.ears:
        ear.client.loop_stop()
    for program in some.programs:
        program.kill()
    some.broker.stop()


CONTINUOUS = {"pubadvdata": True, "interval": 1, "intervalacts": 1, "scanduration": 50}


def reads_as(truth: Mapping[str, Any]) -> Wish:
    return lambda fields: bool(
        fields.get("hum") == truth["humidity"] and fields.get("batt") == truth["battery"]
    )


def test_two_gateways_publish_what_the_sensors_say(site: Site) -> None:
    ear = site.ear()
    site.gateway("openmqttgateway", ESP, bt=CONTINUOUS)
    site.gateway("theengs", NUC)
    for gateway in (ESP, NUC):
        ear.text_on(f"{SITE}/{gateway}/LWT", b"online")
    site.fleet(replay=False)
    truth = wait_for(lambda: site.controls["fleet"].get("/truth").get(H5075), "a truth")
    site.controls["fleet"].faults(silent=True)
    truth = site.controls["fleet"].get("/truth")[H5075]
    from_esp = ear.json_on(f"{SITE}/{ESP}/BTtoMQTT/{H5075}", lambda fields: "manufacturerdata" in fields)
    assert from_esp["id"] == "A4:C1:38:11:00:00"
    assert from_esp["manufacturerdata"].startswith("88ec00")
    from_nuc = ear.json_on(f"{SITE}/{NUC}/BTtoMQTT/{H5075}", reads_as(truth))
    assert from_nuc["tempc"] == pytest.approx(truth["temperature"], abs=0.2)
    assert from_nuc["rssi"] != 0
    assert not ear.on(f"{SITE}/{NUC}/BTtoMQTT/{H5075}", retained=True)
    ear.json_on(f"{SITE}/{ESP}/SYStoMQTT", lambda fields: fields["version"].startswith("v1."))
    assert ear.json_on(f"{SITE}/{ESP}/BTtoMQTT")["pubadvdata"] is True


def test_a_gateway_goes_on_by_itself_when_the_broker_comes_back(site: Site) -> None:
    site.broker.stop()
    program = site.gateway("theengs", NUC)
    site.fleet()
    site.broker.start()
    ear = site.ear()
    ear.json_on(f"{SITE}/{NUC}/BTtoMQTT/{H5075}")
    site.broker.stop()
    site.broker.start()
    ear.messages.clear()
    ear.json_on(f"{SITE}/{NUC}/BTtoMQTT/{H5075}")
    assert program.end() == 0
    ear.text_on(f"{SITE}/{NUC}/LWT", b"offline")


def test_a_board_is_configured_read_back_restarted_and_remembers(site: Site) -> None:
    flash = site.folder / "flash.json"
    ear = site.ear()
    program = site.gateway("openmqttgateway", ESP, flash=str(flash), web_port=(web := free_port()))
    root = f"{SITE}/{ESP}"
    ear.text_on(f"{root}/LWT", b"online")
    assert ear.json_on(f"{root}/BTtoMQTT")["pubadvdata"] is False
    ear.say(f"{root}/commands/MQTTtoBT/config", pubadvdata=True, save=True)
    ear.json_on(f"{root}/BTtoMQTT", lambda state: state["pubadvdata"] is True)
    ear.messages.clear()
    ear.say(f"{root}/commands/MQTTtoSYS/config", cmd="restart")
    ear.text_on(f"{root}/LWT", b"offline")
    ear.text_on(f"{root}/LWT", b"online")
    assert ear.json_on(f"{root}/LOGtoMQTT")["reason"] == 5
    assert ear.json_on(f"{root}/BTtoMQTT")["pubadvdata"] is True
    assert json.loads(flash.read_text(encoding="utf-8"))["BTConfig"]["pubadvdata"] is True
    page = http.client.HTTPConnection("127.0.0.1", web, timeout=5)
    page.request("GET", "/")
    assert page.getresponse().status == 401
    assert program.end() == 0


def test_faults_of_a_gateway(site: Site) -> None:
    site.gateway("openmqttgateway", ESP, bt=CONTINUOUS)
    ear = site.ear()
    site.fleet()
    control, topic = site.controls[ESP], f"{SITE}/{ESP}/BTtoMQTT/{H5075}"
    ear.json_on(topic)

    status, answer = control.faults(smoke=True)
    assert (status, answer["known"]) == (400, ["garbage", "reboot", "silent", "slow"])

    control.faults(silent=True)
    heard = control.get("/state")["published"]
    wait_for(lambda: control.get("/state")["heard"] > heard + 20, "adverts that fall on deaf ears")
    assert control.get("/state")["published"] <= heard + 1
    assert ear.on(f"{SITE}/{ESP}/LWT")[-1].payload == b"online"

    control.faults(silent=False, slow=5)
    wait_for(lambda: control.get("/state")["msgblck"] > 0, "a full queue")

    control.faults(slow=None, garbage=50)
    wait_for(lambda: control.get("/state")["garbage"] > 20, "garbage")
    control.faults(garbage=0)
    topics = f"{SITE}/{ESP}/BTtoMQTT/"

    def broken() -> bool:
        for message in list(ear.messages):
            if message.topic.startswith(topics):
                try:
                    json.loads(message.payload)
                except ValueError:
                    return True
        return False

    assert wait_for(broken, "a message that is no JSON")
    control.faults(reboot=True)
    wait_for(lambda: control.get("/state")["connects"] == 2, "the second life")


def test_theengs_goes_offline_and_comes_back(site: Site) -> None:
    site.gateway("theengs", NUC)
    ear = site.ear()
    ear.text_on(f"{SITE}/{NUC}/LWT", b"online")
    site.controls[NUC].faults(offline=True)
    ear.text_on(f"{SITE}/{NUC}/LWT", b"offline")
    ear.messages.clear()
    site.controls[NUC].faults(offline=False)
    ear.text_on(f"{SITE}/{NUC}/LWT", b"online")


def test_a_wrong_configuration_ends_with_code_2(site: Site) -> None:
    path = site.folder / "wrong.json"
    path.write_text('{"site": "coachella"}', encoding="utf-8")
    for name in ("fleet", "openmqttgateway", "theengs"):
        program = Program(sys.executable, "-m", f"lab.simulators.{name}", "--config", str(path))
        assert program.process.wait(PATIENCE) == 2


# --- the stand-in for govee2mqtt


class Cloud:
    """The stand-in as a program, beside a fleet that is its cloud."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.http = Control(free_port())

    def start(self, **changes: str) -> Program:
        environment = {
            "GOVEE_API_KEY": f"http://127.0.0.1:{self.site.controls['fleet'].port}",
            "GOVEE_MQTT_HOST": "127.0.0.1",
            "GOVEE_MQTT_PORT": str(self.site.broker.port),
            "GOVEE_CACHE_DIR": str(self.site.folder),
            "LAB_CLOUD_POLL": "0.5",
        }
        command = (sys.executable, "-m", "lab.simulators.govee2mqtt", "--http-port", str(self.http.port))
        program = Program(*command, **{**environment, **changes})
        self.site.programs.append(program)
        return program


TOPIC = "gv2mqtt/sensor/sensor-E36059018888422A"


def test_the_cloud_path_brings_text_numbers_and_a_device_list(site: Site) -> None:
    site.fleet(replay=False)
    ear = site.ear()
    cloud = Cloud(site)
    program = cloud.start()
    ear.text_on("gv2mqtt/availability", b"online")
    ear.text_on(f"{TOPIC}-sensortemperature/state", b"")  # before the first poll
    wait_for(lambda: any(m.payload for m in ear.on(f"{TOPIC}-sensortemperature/state")), "a temperature")
    truth = site.controls["fleet"].get("/truth")[H5051]
    texts = [m.payload for m in ear.on(f"{TOPIC}-sensortemperature/state") if m.payload]
    assert float(texts[-1]) == pytest.approx(truth["temperature"], abs=1)
    assert texts[-1].decode().partition(".")[2].isdigit()
    ear.text_on(f"{TOPIC}-gv2mqtt-status/state", b"Available")
    assert ear.json_on("homeassistant/sensor/sensor-E36059018888422A-sensortemperature/config")
    late = site.ear()
    late.say("test/end", end=True)
    late.json_on("test/end")
    assert not any(message.retain for message in late.messages)
    (device,) = cloud.http.get("/api/devices")
    assert (device["sku"], device["id"], device["name"]) == ("H5051", "E3:60:59:01:88:88:42:2A", "Truck")
    assert (device["room"], device["state"]["source"]) == (None, "PLATFORM API")
    assert program.end() == 0


def test_a_cloud_that_is_lost_means_silence_and_a_cache_carries_over_a_restart(site: Site) -> None:
    site.fleet()
    ear = site.ear()
    cloud = Cloud(site)
    site.controls["fleet"].faults(cloud_down=True)
    assert cloud.start().process.wait(PATIENCE) == 1  # no cloud, no cache

    site.controls["fleet"].faults(cloud_down=None)
    program = cloud.start(GOVEE_TEMPERATURE_SCALE="F")
    wait_for(lambda: any(m.payload for m in ear.on(f"{TOPIC}-sensorhumidity/state")), "a humidity")
    assert program.end() == 0

    site.controls["fleet"].faults(cloud_down=True)
    ear.messages.clear()
    program = cloud.start()
    ear.text_on(f"{TOPIC}-gv2mqtt-status/state", b"Unknown")
    assert not any(m.payload for m in ear.on(f"{TOPIC}-sensortemperature/state"))
    assert cloud.http.get("/api/devices")[0]["state"] is None
    site.controls["fleet"].faults(cloud_down=None)
    wait_for(lambda: any(m.payload for m in ear.on(f"{TOPIC}-sensortemperature/state")), "values again")


@pytest.mark.parametrize(
    "changes",
    [
        {"GOVEE_API_KEY": ""},
        {"GOVEE_API_KEY": "no address"},
        {"GOVEE_MQTT_USER": "govee2mqtt"},
        {"GOVEE_TEMPERATURE_SCALE": "K"},
    ],
)
def test_the_cloud_path_does_not_start_with_half_a_configuration(site: Site, changes: dict[str, str]) -> None:
    site.fleet()
    assert Cloud(site).start(**changes).process.wait(PATIENCE) == 1


def test_secrets_may_come_from_files(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("http://192.0.2.1:8099\n", encoding="utf-8")
    environment = {"GOVEE_API_KEY_FILE": str(tmp_path / "key"), "GOVEE_MQTT_HOST": "broker"}
    assert Settings.from_environment(environment).cloud == "http://192.0.2.1:8099"
