"""
Broker, Telegraf, InfluxDB and decoder are killed (SIGKILL) under load and stay away for a while.

Promised: a reading that the broker acknowledged is in InfluxDB exactly once, whichever of the three dies.
Not promised: an advert that a gateway publishes while broker or decoder is away. Gateways publish with QoS 0
and the decoder subscribes with QoS 0, because radio repeats itself every few seconds; so the broker may
acknowledge an advert (to a publisher with QoS 1, as here) that nobody is there to hear. Promised of adverts:
with broker and decoder up each one is heard, and what the broker took from the decoder is stored.

OUTAGE_SECONDS (60) is how long a service stays away. The figures are also in .rehearsal/<site>/outage.json.
"""

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
from scenario import Client, Database, documents, eventually

from lab.console import say
from lab.control import set_faults
from lab.load import Adverts, Publisher, Readings, forget, milliseconds, number_of, steadily
from lab.site import Site

OUTAGE_SECONDS = float(os.environ.get("OUTAGE_SECONDS", "60"))
DECODER_OUTAGE_SECONDS = min(OUTAGE_SECONDS, 15.0)
BEFORE_SECONDS, AFTER_SECONDS = 5.0, 5.0
READINGS_A_SECOND = 50.0
ADVERTS_A_SECOND = 50.0  # a gateway
# Clocks and logs are this exact: a gap may begin and end so far from the kill and the return.
EDGE_SECONDS = 1.0
RECOVERED_WITHIN = 60.0 + OUTAGE_SECONDS
SERVICES = ["mosquitto", "influxdb", "decoder", "telegraf", "grafana", "govee2mqtt"]
KILLED = ["mosquitto", "telegraf", "influxdb", "decoder"]

Key = tuple[str, str, int]  # device, gateway, milliseconds


@dataclass
class Figures:
    """What one outage did, for people."""

    killed: str
    seconds_away: float = 0.0
    readings_sent: int = 0
    readings_acknowledged: int = 0
    readings_found: int = 0
    readings_lost: int = 0
    readings_doubled: int = 0
    readings_never_sent: int = 0
    adverts_sent: int = 0
    adverts_acknowledged: int = 0
    adverts_found: int = 0
    adverts_promised_and_lost: int = 0
    decoder_acknowledged: int = 0
    decoder_found: int = 0
    heard_lost: int = 0


@dataclass
class Report:
    """All outages of this run, and when each lasted (seconds since the epoch)."""

    figures: list[Figures] = field(default_factory=list)
    windows: list[tuple[float, float]] = field(default_factory=list)
    began: float = field(default_factory=time.time)


@pytest.fixture(scope="module")
def report(site: Site) -> Iterator[Report]:
    made = Report()
    yield made
    text = json.dumps([asdict(f) for f in made.figures], indent=1)
    (site.state / "outage.json").write_text(text + "\n")


@pytest.fixture(scope="module", autouse=True)
def made_up_ids(site: Site, vault: dict[str, Any], request: pytest.FixtureRequest) -> Iterator[None]:
    """Let the site's own sensors speak again and take the made-up ones away; after a failure they stay."""
    began = datetime.now(UTC).isoformat()
    yield
    set_faults(site.fleet_address, silent=False)
    if request.session.testsfailed:
        return
    made_up = [
        device for phase in range(len(KILLED)) for prefix in ("0DAD", "0ADE") for device in ids(phase, prefix)
    ]
    forget(site, vault["vault_influxdb_operator_token"], made_up, began)


def ids(phase: int, prefix: str) -> list[str]:
    """Made-up sensors of one phase: 0DAD… of readings published here, 0ADE… of adverts."""
    return [f"{prefix}0000{phase:02d}{number:02d}" for number in range(4)]


def gateways(site: Site) -> list[str]:
    return [h.name for h in site.of_kind("esp32", "theengs")]


@dataclass
class Scene:
    """A site with an ear on it."""

    site: Site
    vault: dict[str, Any]
    host: Any
    database: Database
    report: Report
    listener: Client


@pytest.fixture
def scene(  # noqa: PLR0913, PLR0917  it gathers fixtures
    site: Site,
    vault: dict[str, Any],
    host: Any,
    database: Database,
    report: Report,
    client: Callable[..., Client],
) -> Scene:
    listener = client("crew", *[f"{site.name}/decoder/{last}" for last in ("+/+", "metrics", "status")])
    listener.mqtt.reconnect_delay_set(1, 2)
    return Scene(site, vault, host, database, report, listener)


# ------------------------------------------------------------------------------------------------ the load


class Load:
    """Readings of our own, and adverts through both gateways' accounts."""

    def __init__(self, scene: Scene, phase: int) -> None:
        site, passwords = scene.site, scene.vault["vault_mqtt_passwords"]
        self.reader = Publisher(site, "decoder", passwords["decoder"])
        self.readings = Readings(self.reader, site, gateways(site), ids(phase, "0DAD"))
        self.advertisers = {name: Publisher(site, name, passwords[name]) for name in gateways(site)}
        self.adverts = [
            Adverts(publisher, site, name, ids(phase, "0ADE")) for name, publisher in self.advertisers.items()
        ]

    @contextmanager
    def running(self) -> Iterator[None]:
        """Publish while the block runs."""
        with ExitStack() as stack:
            stack.enter_context(steadily(READINGS_A_SECOND, self.readings.send))
            for adverts in self.adverts:
                stack.enter_context(steadily(ADVERTS_A_SECOND, adverts.send))
            yield

    def drained(self) -> bool:
        return not any(p.waiting for p in [self.reader, *self.advertisers.values()])

    def close(self) -> None:
        for publisher in [self.reader, *self.advertisers.values()]:
            publisher.close()


def quiet_figures(scene: Scene) -> dict[str, Any]:
    """The decoder's totals once nothing is on its way: no sensor speaks, nothing waits."""
    set_faults(scene.site.fleet_address, silent=True)
    since = time.time() + EDGE_SECONDS

    def totals() -> dict[str, Any]:
        said = documents([m for m in list(scene.listener.heard) if m.topic.endswith("/metrics")])
        whole: dict[str, Any] = said[-1][1][0] if said else {"time": "1970-01-01T00:00:00Z"}
        return whole if milliseconds(whole["time"]) / 1000 > since and whole["queue"] == 0 else {}

    figures = eventually(totals, 60)
    set_faults(scene.site.fleet_address, silent=False)
    assert figures["published"] == figures["acknowledged"] + figures["queue_dropped"]
    return figures


# ---------------------------------------------------------------------------------------------- the outage


def outage(scene: Scene, name: str, seconds: float) -> None:
    """Kill a container, leave it away, start it again, wait until it is healthy."""
    host, killed = scene.host, time.time()
    host.check_output("docker kill --signal KILL %s", name)
    time.sleep(seconds)
    state = host.check_output("docker inspect --format '{{.State.Status}} {{.State.ExitCode}}' %s", name)
    assert state == "exited 137"
    host.check_output("docker start %s", name)
    eventually(partial(is_in, host, name, "healthy"), 60)
    scene.report.windows.append((killed, time.time()))


def health(host: Any, name: str) -> str:
    template = "{{with .State.Health}}{{.Status}}{{else}}{{$.State.Status}}{{end}}"
    shown: str = host.check_output("docker inspect --format %s %s", template, name)
    return shown


def is_in(host: Any, name: str, state: str) -> bool:
    return health(host, name) == state


def connected_at(host: Any) -> float:
    """When the decoder last connected to the broker, seconds since the epoch."""
    lines = host.run("docker logs --tail 50 decoder 2>&1").stdout.splitlines()
    stamp = [line for line in lines if " event=connected " in line][-1].split()[0].removeprefix("time=")
    return datetime.fromisoformat(stamp).timestamp()


# -------------------------------------------------------------------------------------------- what is found


def stored(database: Database, since: float) -> dict[Key, list[tuple[str, float]]]:
    """Every reading of the decoder's path that InfluxDB has: its points, (quantity, value) each."""
    flux = f"""
        from(bucket: "sensors") |> range(start: {int(since)})
        |> filter(fn: (r) => r._measurement == "reading" and r.source == "dpx_ops_decoder")
        |> group() |> keep(columns: ["_time", "_value", "sensor_type", "source_node", "z_device_id"])
    """
    found: dict[Key, list[tuple[str, float]]] = {}
    for row in database.query(flux):
        key = row["z_device_id"], row["source_node"], milliseconds(row["_time"])
        found.setdefault(key, []).append((row["sensor_type"], float(row["_value"])))
    return found


def wait_for(database: Database, since: float, wanted: int) -> None:
    """Wait until so many readings are stored, or for too long: the comparison then says what is missing."""
    flux = f"""
        from(bucket: "sensors") |> range(start: {int(since)})
        |> filter(fn: (r) => r._measurement == "reading" and r.source == "dpx_ops_decoder")
        |> filter(fn: (r) => r.sensor_type == "temperature") |> group() |> count()
    """
    deadline = time.monotonic() + RECOVERED_WITHIN
    while time.monotonic() < deadline:
        rows = database.query(flux)
        if rows and int(rows[0]["_value"]) >= wanted:
            return
        time.sleep(1)


def doubled(found: dict[Key, list[tuple[str, float]]]) -> list[Key]:
    """Readings of which a quantity was stored twice (under other tags)."""
    return [key for key, points in found.items() if len({kind for kind, _ in points}) != len(points)]


def compare_readings(load: Load, found: dict[Key, list[tuple[str, float]]], figures: Figures) -> None:
    """Readings that we published: all that were acknowledged, with their value, and no others."""
    sent = load.readings.value_of
    mine = {key: points for key, points in found.items() if key[0].startswith("0DAD")}
    quantities = ("temperature", "humidity", "battery")
    acknowledged = load.reader.acknowledged()
    lost = [
        key
        for key, value in sent.items()
        if key in acknowledged and set(mine.get(key, [])) != {(q, float(value)) for q in quantities}
    ]
    figures.readings_sent = len(sent)
    figures.readings_acknowledged = len(acknowledged)
    figures.readings_found = len(mine)
    figures.readings_lost = len(lost)
    figures.readings_doubled = len(doubled(mine))
    figures.readings_never_sent = len(set(mine) - set(sent))


def compare_adverts(
    load: Load,
    found: dict[Key, list[tuple[str, float]]],
    away: tuple[float, float] | None,
    figures: Figures,
) -> None:
    """Adverts that we published: how many have no reading, but for those that met no decoder."""
    heard: dict[str, dict[int, float]] = {name: {} for name in load.advertisers}
    for (device, gateway, at), points in found.items():
        if device.startswith("0ADE"):
            values = dict(points)
            heard[gateway][number_of(values["temperature"], values["humidity"])] = at / 1000
    for name, publisher in load.advertisers.items():
        acknowledged = sorted(publisher.acknowledged())
        figures.adverts_sent += len(publisher.sent)
        figures.adverts_acknowledged += len(acknowledged)
        figures.adverts_found += len(heard[name])
        figures.adverts_promised_and_lost += promised_and_lost(acknowledged, heard[name], away)
        # Two readings of one advert would be two times of one number: QoS 1 may deliver an advert twice, to
        # the broker only, while a publisher reconnects. Their number is bounded by what was in flight then.
        assert set(heard[name]) <= set(publisher.sent.values())


def promised_and_lost(
    acknowledged: list[int], heard: dict[int, float], away: tuple[float, float] | None
) -> int:
    """How many adverts are missing, but for one run of them between the kill and the decoder's return.

    Adverts are judged by their order, not by when the acknowledgement came: after a long outage a publisher
    works through tens of thousands of them, and its clock readings are seconds late.
    """
    lost, run, before = 0, 0, 0.0
    for number in acknowledged:
        if number not in heard:
            run += 1
            continue
        if run and not (away and away[0] - EDGE_SECONDS < before and heard[number] < away[1] + EDGE_SECONDS):
            lost += run
        run, before = 0, heard[number]
    return lost + run


def compare_decoder(
    before: dict[str, Any],
    after: dict[str, Any],
    found: dict[Key, list[tuple[str, float]]],
    figures: Figures,
) -> None:
    """All that the decoder published between two quiet moments, of real gateways too: as many are stored."""
    start, end = milliseconds(before["time"]), milliseconds(after["time"])
    mine = [key for key in found if is_decoders(key) and start < key[2] <= end]
    figures.decoder_acknowledged = after["acknowledged"] - before["acknowledged"]
    figures.decoder_found = len(mine)


def compare_heard(
    listener: Client,
    between: tuple[float, float],
    found: dict[Key, list[tuple[str, float]]],
    figures: Figures,
) -> None:
    """What the broker passed on to anybody is stored too."""
    start, end = between
    heard = set(heard_readings(listener))
    figures.heard_lost = sum(key not in found for key in heard if start < key[2] / 1000 <= end)


def heard_readings(listener: Client) -> list[Key]:
    """What the broker passed on to somebody else than Telegraf, in order."""
    keys = []
    for topic, reading in documents([m for m in list(listener.heard) if m.topic.count("/") == 3]):
        _, _, gateway, device = topic.split("/")
        keys.append((device, gateway, milliseconds(reading["time"])))
    return keys


def is_decoders(key: Key) -> bool:
    """Whether the decoder published it, not this test."""
    return not key[0].startswith("0DAD")


def judge(figures: Figures, found: dict[Key, list[tuple[str, float]]]) -> None:
    """Print the figures and say which of them are wrong."""
    say("  ".join(f"{name} {number}" for name, number in asdict(figures).items()))
    wrong = {
        name: number
        for name, number in asdict(figures).items()
        if number and name.endswith(("lost", "doubled", "never_sent"))
    }
    assert wrong == {}, figures
    assert figures.readings_sent == figures.readings_acknowledged == figures.readings_found, figures
    assert figures.decoder_acknowledged == figures.decoder_found, figures
    assert doubled(found) == []


# --------------------------------------------------------------------------------------------------- tests


@pytest.mark.parametrize("name", ["mosquitto", "telegraf", "influxdb"])
def test_what_the_broker_acknowledged_is_stored_exactly_once(scene: Scene, name: str) -> None:
    before = quiet_figures(scene)
    since = milliseconds(before["time"]) / 1000
    load = Load(scene, KILLED.index(name))
    with load.running():
        time.sleep(BEFORE_SECONDS)
        outage(scene, name, OUTAGE_SECONDS)
        if name == "mosquitto":
            eventually(lambda: connected_at(scene.host) > scene.report.windows[-1][0], 60)
        time.sleep(AFTER_SECONDS)
    eventually(load.drained, RECOVERED_WITHIN)
    after = quiet_figures(scene)
    load.close()

    figures = Figures(name, OUTAGE_SECONDS)
    scene.report.figures.append(figures)
    said = after["acknowledged"] - before["acknowledged"]
    wait_for(scene.database, since, len(load.readings.value_of) + said)
    found = stored(scene.database, since)
    compare_readings(load, found, figures)
    compare_decoder(before, after, found, figures)
    compare_heard(scene.listener, (since, milliseconds(after["time"]) / 1000), found, figures)
    away = (scene.report.windows[-1][0], connected_at(scene.host)) if name == "mosquitto" else None
    compare_adverts(load, found, away, figures)
    judge(figures, found)


@pytest.mark.parametrize(
    ("missing", "away", "lost"),
    [
        (range(3, 6), None, 3),
        (range(3, 6), (2.5, 6.0), 0),
        (range(3, 7), (2.5, 6.5), 0),
        (range(3, 9), (2.5, 6.0), 6),  # the first one heard came long after the decoder was back
        (range(8, 10), (2.5, 6.0), 2),
    ],
)
def test_only_a_gap_around_the_outage_is_excused(
    missing: range, away: tuple[float, float] | None, lost: int
) -> None:
    heard = {number: float(number) for number in range(10) if number not in missing}
    assert promised_and_lost(list(range(10)), heard, away) == lost


def test_a_killed_decoder_goes_on_and_never_says_a_time_twice(scene: Scene) -> None:
    before = quiet_figures(scene)
    since = milliseconds(before["time"]) / 1000
    load = Load(scene, KILLED.index("decoder"))
    with load.running():
        time.sleep(BEFORE_SECONDS)
        outage(scene, "decoder", DECODER_OUTAGE_SECONDS)
        time.sleep(AFTER_SECONDS)
    eventually(load.drained, RECOVERED_WITHIN)
    after = quiet_figures(scene)
    load.close()

    said = [m.payload.decode() for m in scene.listener.heard if m.topic.endswith("/status")]
    assert said == ["online", "offline", "online"]
    heard = Counter(heard_readings(scene.listener))
    assert [key for key, times in heard.items() if times > 1] == []
    figures = Figures("decoder", DECODER_OUTAGE_SECONDS)
    scene.report.figures.append(figures)
    wait_for(scene.database, since, sum(key[2] / 1000 >= since for key in heard))
    found = stored(scene.database, since)
    compare_readings(load, found, figures)
    compare_heard(scene.listener, (since, milliseconds(after["time"]) / 1000), found, figures)
    # Its totals start anew, so what it said is what was heard.
    figures.decoder_acknowledged = sum(key[2] / 1000 >= since and is_decoders(key) for key in heard)
    figures.decoder_found = sum(key[2] / 1000 >= since and is_decoders(key) for key in found)
    assert after["acknowledged"] < figures.decoder_acknowledged
    away = scene.report.windows[-1][0], connected_at(scene.host)
    compare_adverts(load, found, away, figures)
    judge(figures, found)


def test_the_site_is_healthy_afterwards(site: Site, host: Any, database: Database) -> None:
    for name in SERVICES:
        wanted = "running" if name == "govee2mqtt" else "healthy"
        assert eventually(partial(is_in, host, name, wanted), 60)
    wanted_paths = {(sensor["id"], gateway) for sensor in site.sensors for gateway in gateways(site)}

    def fresh() -> bool:
        return wanted_paths <= {(r["z_device_id"], r["source_node"]) for r in database.newest("-10s")}

    assert eventually(fresh, 60)


def test_telegraf_complained_during_the_outages_alone(host: Any, report: Report) -> None:
    log = host.run("docker logs --timestamps --since %s telegraf 2>&1", str(int(report.began))).stdout
    errors = [line for line in log.splitlines() if " E! " in line]
    unexplained = [line for line in errors if not during(report, line)]
    say(f"{len(errors)} errors in Telegraf's log, {len(unexplained)} of them outside the outages")
    assert unexplained == []


def during(report: Report, line: str) -> bool:
    """Whether a log line was written in an outage, or while Telegraf found its way back (10 s a try)."""
    at = datetime.fromisoformat(line.split(maxsplit=1)[0]).timestamp()
    return any(start <= at <= end + 15 for start, end in report.windows)
