# ruff: noqa: INP001  a script, no package
"""
How fast is the decoder? Run it and a plain loop on the same adverts, in turns, and print both.

    python lab/bench/decoder.py             the comparison, about a minute
    python lab/bench/decoder.py --million   memory: a million adverts, a fifth of them from made-up devices

The plain loop (`--plain`, started by this script) is what one would write first with the same libraries:
paho, json, govee-ble with a parser kept for each sensor, one QoS-1 publish an advert, no gate, no counter, no
check. Figures are worth only as ratios within one run. Needs mosquitto; starts its own on loopback.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from select import select
from typing import Any, NamedTuple

from govee_ble import GoveeBluetoothDeviceData
from home_assistant_bluetooth import BluetoothServiceInfo
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

ROOT = Path(__file__).parents[2]
SITE = "bench"
ADVERTS = 40_000
ROUNDS = 3
SENSORS = 100
ONE_BY_ONE = 1000
SILENCE_S = 20.0
MARK = b'{"time"'
MODELS = ("H5075", "H5074", "H5100", "H5179")


# ------------------------------------------------------------------------------------------------ adverts


def data_of(model: str, rng: random.Random) -> str:
    """Manufacturer data of a made-up measurement, in the layouts of govee-ble's tests."""
    celsius, percent, battery = rng.uniform(-20, 45), rng.uniform(5, 95), rng.randint(5, 100)
    packed = (round(abs(celsius) * 10) * 1000 + round(percent * 10)) | (0x800000 if celsius < 0 else 0)
    small = round(celsius * 100).to_bytes(2, "little", signed=True) + round(percent * 100).to_bytes(
        2, "little"
    )
    return {
        "H5075": b"\x88\xec\x00" + packed.to_bytes(3) + bytes((battery, 0)),
        "H5074": b"\x88\xec\x00" + small + bytes((battery, 2)),
        "H5100": b"\x01\x00\x01\x01" + packed.to_bytes(3) + bytes((battery,)),
        "H5179": b"\x01\x88\xec\x00\x01\x01" + small + bytes((battery,)),
    }[model].hex()


def name_of(model: str, mac: str) -> str:
    """The name such a sensor sends."""
    return f"{'Govee_' if model in ('H5074', 'H5179') else 'GV'}{model}_{mac[8:]}"


def packet(mac: str, model: str, data: str, rssi: int) -> bytes:
    """A PUBLISH of QoS 0 with an advert as OpenMQTTGateway writes it."""
    message = {
        "id": ":".join(mac[at : at + 2] for at in range(0, 12, 2)),
        "mac_type": 0,
        "adv_type": 0,
        "name": name_of(model, mac),
        "manufacturerdata": data,
        "rssi": rssi,
    }
    topic = f"{SITE}/gateway/BTtoMQTT/{mac}".encode()
    body = len(topic).to_bytes(2) + topic + json.dumps(message).encode()
    return bytes((0x30, len(body) & 127 | 128, len(body) >> 7)) + body


def traffic(number: int, kind: str, rng: random.Random) -> list[bytes]:
    """Make `repeated` traffic (each sensor sends the same bytes, as they do for minutes) or `unique`."""
    sensors = [(f"A4C138{n:06X}", MODELS[n % len(MODELS)]) for n in range(SENSORS)]
    held = {mac: data_of(model, rng) for mac, model in sensors}
    packets = []
    for n in range(number):
        mac, model = sensors[n % SENSORS]
        if kind == "million" and rng.random() < 0.2:  # noqa: PLR2004  a fifth of strangers
            mac = rng.randbytes(6).hex().upper()
        data = held[mac] if kind == "repeated" else data_of(model, rng)
        packets.append(packet(mac, model, data, rng.randint(-95, -45)))
    return packets


# ------------------------------------------------------------------------------------------- the plain loop


def plain(port: int) -> None:
    """The first thing that works. Runs until it is killed."""
    parsers: dict[str, GoveeBluetoothDeviceData] = {}

    def on_message(client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        advert = json.loads(message.payload)
        raw = bytes.fromhex(advert["manufacturerdata"])
        info = BluetoothServiceInfo(
            name=advert.get("name", ""),
            address=advert["id"],
            rssi=advert["rssi"],
            manufacturer_data={int.from_bytes(raw[:2], "little"): raw[2:]},
            service_data={},
            service_uuids=[],
            source="",
        )
        mac = message.topic.rsplit("/", 1)[1]
        parser = parsers.setdefault(mac, GoveeBluetoothDeviceData())
        update = parser.update(info)
        reading: dict[str, Any] = {"time": datetime.now(UTC).isoformat(timespec="milliseconds")}
        for key, value in update.entity_values.items():
            reading[key.key] = value.native_value
        client.publish(
            message.topic.replace("/gateway/BTtoMQTT/", "/decoder/gateway/"), json.dumps(reading), qos=1
        )

    client = paho.Client(CallbackAPIVersion.VERSION2, client_id="plain")
    client.on_connect = lambda client, *_: client.subscribe(f"{SITE}/+/BTtoMQTT/+", qos=0)
    client.on_message = on_message
    client.max_inflight_messages_set(0)  # no limit: the default of 20 makes it slower still
    client.connect("127.0.0.1", port)
    client.loop_forever()


# ------------------------------------------------------------------------------------------------- the rig


class Connection:
    """A bare MQTT connection: what the bench itself costs must not show."""

    def __init__(self, port: int, name: str) -> None:
        """Connect as `name`, clean session, no keep-alive."""
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        body = b"\x00\x04MQTT\x04\x02\x00\x00" + len(name).to_bytes(2) + name.encode()
        self._exchange(bytes((0x10, len(body))) + body, 4)

    def _exchange(self, request: bytes, answer: int) -> None:
        self.socket.sendall(request)
        while answer > 0:
            answer -= len(self.socket.recv(answer))

    def subscribe(self, topic: str) -> None:
        """Subscribe with QoS 0 and wait for the answer."""
        body = b"\x00\x01" + len(topic).to_bytes(2) + topic.encode() + b"\x00"
        self._exchange(bytes((0x82, len(body))) + body, 5)


@contextlib.contextmanager
def broker(folder: Path) -> Iterator[int]:
    """Run mosquitto on a free port; yields the port."""
    program = shutil.which("mosquitto", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if program is None:
        sys.exit("mosquitto is not installed: apt-get install mosquitto")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    limits = "max_queued_messages 0\nmax_inflight_messages 0\nset_tcp_nodelay true\n"
    conf = folder / "mosquitto.conf"
    conf.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n{limits}")
    process = subprocess.Popen([program, "-c", conf], stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + SILENCE_S
        while time.monotonic() < until:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.05)
        yield port
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def subject(kind: str, folder: Path, port: int) -> Iterator[int]:
    """Run the plain loop or the decoder; yields its process id."""
    (folder / "password").write_text("unused")
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT / "files/decoder/src"),
        "TMPDIR": str(folder),
        "SITE": SITE,
        "MQTT_HOST": "127.0.0.1",
        "MQTT_PORT": str(port),
        "MQTT_USER": "decoder",
        "MQTT_PASSWORD_FILE": str(folder / "password"),
        "MODELS_FILE": str(folder / "models.json"),
    }
    models = {f"A4C138{n:06X}": MODELS[n % len(MODELS)] for n in range(SENSORS)}
    (folder / "models.json").write_text(json.dumps(models))
    command = (
        [sys.executable, "-m", "decoder"]
        if kind == "decoder"
        else [sys.executable, __file__, "--plain", str(port)]
    )
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()


def cpu_s(pid: int) -> float:
    """CPU time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_mb(pid: int) -> float:
    """Memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


class Rig:
    """Publishes adverts and counts readings, in one thread."""

    def __init__(self, port: int) -> None:
        """Connect both ends."""
        self._out = Connection(port, "gateway").socket
        sink = Connection(port, "sink")
        sink.subscribe(f"{SITE}/decoder/gateway/+")
        self._in = sink.socket
        self._tail = b""

    def wait_until_up(self, one: bytes) -> None:
        """Send an advert now and then until a reading comes."""
        until = time.monotonic() + SILENCE_S
        while time.monotonic() < until:
            self._out.sendall(one)
            if select([self._in], [], [], 0.5)[0]:
                time.sleep(0.5)
                self._in.recv(1 << 20)
                self._tail = b""
                return
        sys.exit("no reading came")

    def push(self, packets: list[bytes]) -> tuple[int, float]:
        """Send all as fast as they are taken -> readings that came, seconds until the last one."""
        self._out.settimeout(0)
        stream, sent, got, start = memoryview(b"".join(packets)), 0, 0, time.perf_counter()
        last = start
        while got < len(packets) and time.perf_counter() - last < SILENCE_S:
            ready, room, _ = select([self._in], [self._out] if sent < len(stream) else [], [], 1.0)
            if room:
                sent += self._out.send(stream[sent : sent + 65536])
            if ready:
                got += self._count(self._in.recv(1 << 20))
                last = time.perf_counter()
        self._out.settimeout(None)
        return got, last - start

    def _count(self, data: bytes) -> int:
        seen = self._tail + data
        self._tail = seen[-(len(MARK) - 1) :]
        return seen.count(MARK)

    def one_by_one(self, packets: list[bytes]) -> list[float]:
        """Publish, wait for the reading, publish the next -> milliseconds each."""
        times = []
        for one in packets:
            start = time.perf_counter()
            self._out.sendall(one)
            while self._count(self._in.recv(65536)) == 0:
                pass
            times.append((time.perf_counter() - start) * 1000)
        return times


# ------------------------------------------------------------------------------------------------- figures


class Run(NamedTuple):
    """One subject, one kind of traffic, one round."""

    rate: float
    cpu_us: float
    lost: int


def measure(rig: Rig, pid: int, packets: list[bytes]) -> Run:
    """Push once and reckon."""
    before = cpu_s(pid)
    got, seconds = rig.push(packets)
    return Run(got / seconds, (cpu_s(pid) - before) / len(packets) * 1e6, len(packets) - got)


def compare(folder: Path, port: int) -> None:
    """Print rate, CPU and latency of both for both kinds of traffic; medians of the rounds."""
    rng = random.Random(1)
    loads = {kind: traffic(ADVERTS, kind, rng) for kind in ("repeated", "unique")}
    runs: dict[tuple[str, str], list[Run]] = {}
    latency: dict[str, list[float]] = {"plain": [], "decoder": []}
    for _ in range(ROUNDS):
        for who in ("plain", "decoder"):
            with subject(who, folder, port) as pid:
                rig = Rig(port)
                rig.wait_until_up(loads["unique"][0])
                rig.push(loads["repeated"][:2000])  # warm
                for kind, packets in loads.items():
                    runs.setdefault((who, kind), []).append(measure(rig, pid, packets))
                latency[who] += rig.one_by_one(loads["unique"][: ONE_BY_ONE // ROUNDS])
    for kind in loads:
        for who in ("plain", "decoder"):
            rate, cpu, lost = (statistics.median(figures) for figures in zip(*runs[who, kind], strict=True))
            print(f"{kind:9} {who:8} {rate:8.0f} adverts/s  {cpu:6.1f} us CPU/advert  lost {lost:.0f}")
        rates = {who: statistics.median(run.rate for run in runs[who, kind]) for who in latency}
        cpus = {who: statistics.median(run.cpu_us for run in runs[who, kind]) for who in latency}
        faster, leaner = rates["decoder"] / rates["plain"], cpus["plain"] / cpus["decoder"]
        print(f"{kind:9} ratio    {faster:8.2f} x rate, {leaner:.2f} x less CPU")
    for who, times in latency.items():
        cuts = statistics.quantiles(times, n=100)
        print(
            f"latency   {who:8} p50 {cuts[49]:.2f} ms  p99 {cuts[98]:.2f} ms  one at a time, n={len(times)}"
        )


def million(folder: Path, port: int) -> None:
    """Print the decoder's memory at the start and after a million adverts."""
    rng = random.Random(2)
    with subject("decoder", folder, port) as pid:
        rig = Rig(port)
        rig.wait_until_up(traffic(1, "unique", rng)[0])
        print(f"RSS at the start {rss_mb(pid):.1f} MB")
        for done in range(100_000, 1_000_001, 100_000):
            got, seconds = rig.push(traffic(100_000, "million", rng))
            rate = got / seconds
            print(
                f"RSS after {done:,} {rss_mb(pid):.1f} MB  lost {100_000 - got}  {rate:.0f} adverts/s",
                flush=True,
            )


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--million", action="store_true", help="memory over a million adverts")
    parser.add_argument("--plain", type=int, metavar="PORT", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.plain:
        plain(arguments.plain)
        return
    with tempfile.TemporaryDirectory() as name, broker(Path(name)) as port:
        (million if arguments.million else compare)(Path(name), port)


if __name__ == "__main__":
    main()
