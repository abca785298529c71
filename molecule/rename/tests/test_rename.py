"""
Names change while readings flow: on site (overrides) and in the inventory (site.yml), several times.

Promised: no reading is lost, Telegraf reads the map again and is not restarted, and what is published after
that has the new name alone. A reading in flight at that moment may be stored under both names, because the
broker gives again what Telegraf had not acknowledged.
"""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
from scenario import Database, eventually, playbook

from lab.console import say
from lab.load import Publisher, Readings, forget, milliseconds, steadily
from lab.site import Site

MESSAGES_A_SECOND = 500.0
BETWEEN_SECONDS = 3.0
# How much older than its reload a reading can be that comes again: one that Telegraf has not yet written.
IN_FLIGHT_SECONDS = 5.0
IDS = [f"0DAD1000000{digit}" for digit in range(10)]
MAP = "/opt/showsite/device_map/map"
OVERRIDES = "/opt/showsite/device_map/overrides.json"
STATUS = "/var/lib/showsite/device_map/status.json"


class Map:
    """The device map on the site host, and Telegraf that reads it."""

    def __init__(self, host: Any) -> None:
        self.host = host

    def sync(self) -> int:
        """Bring it up to date, as the timer does; exit code of the program."""
        done = self.host.run("systemctl start device-map.service")
        shown = self.host.check_output("systemctl show --value --property ExecMainStatus device-map.service")
        assert (done.rc == 0) == (shown == "0"), done.stderr
        return int(shown)

    def override(self, text: str) -> None:
        done = self.host.run("printf %%s %s >%s", text, OVERRIDES)
        assert done.rc == 0, done.stderr

    def no_override(self) -> None:
        self.host.check_output("rm -f %s", OVERRIDES)

    def status(self) -> dict[str, Any]:
        said: dict[str, Any] = json.loads(self.host.check_output("cat %s", STATUS))
        return said

    def files(self) -> str:
        """Inode, time and size of both files, and what is in them."""
        names = f"{MAP}/devices.json {MAP}/models.json"
        shown: str = self.host.check_output(f"stat --format '%%n %%i %%y %%s' {names} && sha256sum {names}")
        return shown

    def contents(self) -> dict[str, Any]:
        read: dict[str, Any] = json.loads(self.host.check_output(f"cat {MAP}/devices.json"))
        return read

    def process(self) -> str:
        """What would be another one after a restart of Telegraf."""
        template = "{{.Id}} {{.State.StartedAt}} {{.State.Pid}} {{.RestartCount}}"
        shown: str = self.host.check_output("docker inspect --format %s telegraf", template)
        return shown

    def log_times(self, words: str) -> list[float]:
        """When Telegraf logged a line with these words, seconds since the epoch."""
        log = self.host.run("docker logs --timestamps telegraf 2>&1").stdout.splitlines()
        lines = [line for line in log if words in line]
        return [datetime.fromisoformat(line.split(maxsplit=1)[0]).timestamp() for line in lines]

    def reloads(self) -> int:
        return len(self.log_times("Reloading Telegraf config"))


@pytest.fixture(scope="module")
def device_map(site: Site, host: Any) -> Iterator[Map]:
    """The map, up to date at first; as it was in the end, whatever a test has done to it."""
    made = Map(host)
    assert made.sync() == 0
    before = made.contents()
    yield made
    made.no_override()
    host.check_output("docker start govee2mqtt")
    assert made.sync() == 0
    if made.contents() != before:
        playbook(site, "--tags", "device_map")
    assert made.contents() == before


# -------------------------------------------------------------------------------------- renamed under load


@dataclass
class Step:
    """One rename: the word in all names from then on; when it began and when Telegraf was back (seconds)."""

    word: str
    began: float
    done: float


@dataclass
class Story:
    """What happened while readings flowed, and what InfluxDB has of it."""

    steps: list[Step] = field(default_factory=list)
    sent: dict[tuple[str, str, int], int] = field(default_factory=dict)
    acknowledged: set[Any] = field(default_factory=set)
    points: list[dict[str, str]] = field(default_factory=list)
    reloads: int = 0
    process: tuple[str, str] = ("", "")
    real_names: list[str] = field(default_factory=list)


def named(word: str) -> list[dict[str, str]]:
    """The made-up sensors, as the inventory lists sensors."""
    return [{"id": i, "name": f"{word}_{i[-1]}", "room": word, "model": "H5075"} for i in IDS]


def by_override(device_map: Map, word: str) -> None:
    entries = {s["id"]: {k: v for k, v in s.items() if k != "id"} for s in named(word)}
    device_map.override(json.dumps(entries))
    assert device_map.sync() == 0


def by_inventory(site: Site, device_map: Map, sensors: list[dict[str, str]]) -> None:
    """Change the site's `sensors:` and run site.yml; what was overridden on site is given up."""
    device_map.no_override()
    output, figures = playbook(site, "--tags", "device_map", "--extra-vars", json.dumps({"sensors": sensors}))
    assert (figures["failed"], figures["unreachable"]) == (0, 0), output[-3000:]
    assert figures["changed"] == 2, "the inventory's list was placed and the map brought up to date"


def rename(device_map: Map, word: str, how: Callable[[], None]) -> Step:
    """Rename, and wait until Telegraf reads again."""
    began = time.time()
    how()

    def back() -> float:
        return max(device_map.log_times("::readings] Connected"), default=0.0)

    eventually(lambda: back() > began, 60)
    return Step(word, began, back())


@pytest.fixture(scope="module")
def story(site: Site, vault: dict[str, Any], database: Database, device_map: Map) -> Iterator[Story]:
    """Four renames under load: two on site, two by the inventory, of which the last takes all back."""
    told = Story()
    since, reloads, process = datetime.now(UTC), device_map.reloads(), device_map.process()
    publisher = Publisher(site, "decoder", vault["vault_mqtt_passwords"]["decoder"])
    gateways = [h.name for h in site.of_kind("esp32", "theengs")]
    readings = Readings(publisher, site, gateways, IDS)
    first, *others = site.sensors
    renamed = [first | {"name": "renamed_in_inventory"}, *others, *named("gamma")]
    ways: dict[str, Callable[[], None]] = {
        "alpha": lambda: by_override(device_map, "alpha"),
        "beta": lambda: by_override(device_map, "beta"),
        "gamma": lambda: by_inventory(site, device_map, renamed),
        "": lambda: by_inventory(site, device_map, site.sensors),
    }
    with steadily(MESSAGES_A_SECOND, readings.send):
        time.sleep(BETWEEN_SECONDS)
        for word, how in ways.items():
            told.steps.append(rename(device_map, word, how))
            time.sleep(BETWEEN_SECONDS)
            told.real_names.append(name_of(database, first["id"]))
    eventually(lambda: publisher.waiting == 0, 30)
    publisher.close()
    told.sent, told.acknowledged = readings.value_of, set(publisher.acknowledged())
    told.reloads, told.process = device_map.reloads() - reloads, (process, device_map.process())
    told.points = points(database, since, len(told.sent))
    yield told
    forget(site, vault["vault_influxdb_operator_token"], IDS, since.isoformat())


def name_of(database: Database, device: str) -> str:
    """The name of the newest reading of a real sensor."""
    rows = [
        r for r in database.newest("-1m") if r["z_device_id"] == device and r["source_node"] != "govee2mqtt"
    ]
    return max(rows, key=lambda r: r["_time"])["device_name"]


def points(database: Database, since: datetime, wanted: int) -> list[dict[str, str]]:
    """All points of the made-up sensors, once there are as many readings as wanted, or after a minute."""
    flux = f"""
        from(bucket: "sensors") |> range(start: {int(since.timestamp())})
        |> filter(fn: (r) => r._measurement == "reading" and r.z_device_id =~ /^{IDS[0][:-1]}/)
        |> group()
    """
    keep = """|> keep(columns:
        ["_time", "_value", "sensor_type", "source_node", "z_device_id", "device_name", "room"])"""
    count = '|> filter(fn: (r) => r.sensor_type == "temperature") |> count()'
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        rows = database.query(flux + count)
        if rows and int(rows[0]["_value"]) >= wanted:
            break
        time.sleep(1)
    return database.query(flux + keep)


def key_of(row: dict[str, str]) -> tuple[str, str, int]:
    return row["z_device_id"], row["source_node"], milliseconds(row["_time"])


def test_no_reading_is_lost(story: Story) -> None:
    found: dict[tuple[str, str, int], set[tuple[str, float]]] = {}
    for row in story.points:
        found.setdefault(key_of(row), set()).add((row["sensor_type"], float(row["_value"])))
    quantities = ("temperature", "humidity", "battery")
    lost = [k for k, v in story.sent.items() if found.get(k, set()) != {(q, float(v)) for q in quantities}]
    twice = len(story.points) - sum(len(kinds) for kinds in found.values())
    figures = (
        f"sent {len(story.sent)}  acknowledged {len(story.acknowledged)}  found {len(found)}  "
        f"lost {len(lost)}  never sent {len(set(found) - set(story.sent))}  points under two names {twice}"
    )
    say(figures)
    for step in story.steps:
        say(f"renamed to {step.word or 'nothing'}: Telegraf back after {step.done - step.began:.1f} s")
    assert set(story.sent) == story.acknowledged, figures
    assert set(found) == set(story.sent), figures
    assert lost == [], figures


def test_telegraf_reads_the_map_again_and_is_not_restarted(story: Story) -> None:
    assert story.process[0] == story.process[1]
    assert story.reloads == len(story.steps)


def test_the_old_name_gets_no_further_reading(story: Story) -> None:
    """A name holds from its own rename (but for what was in flight) to the moment Telegraf read the next."""
    starts = {"": 0.0} | {step.word: step.began - IN_FLIGHT_SECONDS for step in story.steps if step.word}
    first, last = story.steps[0], story.steps[-1]
    ends = dict(zip(starts, [step.done for step in story.steps], strict=True))
    wrong = []
    for row in story.points:
        at = milliseconds(row["_time"]) / 1000
        word = "" if row["room"] == "unassigned" else row["room"]
        assert row["device_name"] == (f"{word}_{row['z_device_id'][-1]}" if word else row["z_device_id"])
        nameless = at <= first.done or at >= last.began - IN_FLIGHT_SECONDS
        if not (nameless if word == "" else starts[word] <= at <= ends[word]):
            wrong.append((row["device_name"], row["_time"]))
    assert wrong == [], f"{len(wrong)} points, the first {wrong[0]}"
    assert {row["room"] for row in story.points} == {"unassigned", "alpha", "beta", "gamma"}


def test_a_sensor_of_the_site_is_renamed_and_named_back(story: Story, site: Site) -> None:
    name = site.sensors[0]["name"]
    assert story.real_names == [name, name, "renamed_in_inventory", name]


# ------------------------------------------------------------------------------------------ what goes wrong


def test_a_sync_without_news_writes_nothing_and_reloads_nothing(device_map: Map) -> None:
    assert device_map.sync() == 0
    before, reloads = device_map.files(), device_map.reloads()
    assert device_map.sync() == 0
    status = device_map.status()
    assert (status["changed"], status["reloaded"], status["error"]) == ([], False, None)
    assert device_map.files() == before
    assert device_map.reloads() == reloads


def test_renames_one_right_after_the_other_all_count(device_map: Map) -> None:
    for number in range(8):
        device_map.override(
            json.dumps({IDS[0]: {"name": f"delta_{number}", "room": "delta", "model": "H5075"}})
        )
        assert device_map.sync() == 0
        assert device_map.contents()[IDS[0]]["device_name"] == f"delta_{number}"
    device_map.no_override()
    assert device_map.sync() == 0


def test_while_govee2mqtt_is_away_the_map_stays_and_the_sync_says_so(device_map: Map, host: Any) -> None:
    eventually(lambda: device_map.sync() == 0 and device_map.status()["api"] == "ok", 30)
    known = device_map.status()["counts"]["cloud"]
    assert known > 0
    before, reloads = device_map.files(), device_map.reloads()
    host.check_output("docker stop govee2mqtt")
    try:
        assert device_map.sync() == 0
        status = device_map.status()
        said = host.check_output("journalctl --no-pager --lines 5 --unit device-map.service")
    finally:
        host.check_output("docker start govee2mqtt")
    assert (status["api"], status["counts"]["cloud"], status["changed"]) == ("kept", known, [])
    assert "/api/devices" in status["api_error"]
    assert f"the {known} devices it last named are kept" in said
    assert (device_map.files(), device_map.reloads()) == (before, reloads)
    eventually(lambda: device_map.sync() == 0 and device_map.status()["api"] == "ok", 30)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"0DAD10000000": ', "not valid JSON"),
        ('{"0DAD10000000": {"nmae": "x"}}', "unknown field nmae"),
        ('{"stage left": {"name": "x"}}', "is no MAC"),
    ],
)
def test_a_broken_override_is_named_and_changes_nothing(
    device_map: Map, host: Any, text: str, problem: str
) -> None:
    before, reloads = device_map.files(), device_map.reloads()
    device_map.override(text)
    try:
        assert device_map.sync() == 1
        said = host.check_output("journalctl --no-pager --lines 5 --unit device-map.service")
        status = device_map.status()
    finally:
        device_map.no_override()
    for told in (said, status["error"]):
        assert OVERRIDES in told
        assert problem in told
    assert (device_map.files(), device_map.reloads()) == (before, reloads)
    assert device_map.sync() == 0


# --------------------------------------------------------------------- a reload must not be taken for a stop


def test_a_reloaded_telegraf_comes_back_by_itself_after_a_crash(host: Any) -> None:
    """Docker restarts nothing that was stopped by hand, as which it counts any `docker kill`."""
    before = state(host, "telegraf")
    host.check_output("kill -KILL %s", before.partition(" ")[0])
    eventually(lambda: state(host, "telegraf").partition(" ")[0] not in {"", "0", before.partition(" ")[0]})
    eventually(lambda: state(host, "telegraf").endswith(" healthy"), 60)


def test_after_a_reboot_everything_is_back(host: Any) -> None:
    before = state(host, "mosquitto")
    # In a second, so that this call itself ends well; timers may be a minute late unless told otherwise.
    host.check_output("systemd-run --on-active=1 --timer-property=AccuracySec=100ms systemctl reboot")
    eventually(lambda: state(host, "mosquitto") not in {"", before}, 90)
    for name in ("mosquitto", "influxdb", "decoder", "telegraf", "grafana"):
        eventually(partial(is_healthy, host, name), 60)


def state(host: Any, name: str) -> str:
    """Process, time of start and health of a container; empty while the host cannot be reached."""
    template = "{{.State.Pid}} {{.State.StartedAt}} {{.State.Health.Status}}"
    try:
        shown: str = host.run("docker inspect --format %s %s", template, name).stdout.strip()
    except RuntimeError:
        return ""
    return shown


def is_healthy(host: Any, name: str) -> bool:
    return state(host, name).endswith(" healthy")


def test_all_is_as_before(site: Site, device_map: Map, database: Database) -> None:
    names = {s["id"]: s["name"] for s in site.sensors}
    contents = device_map.contents()
    assert {i: contents[i]["device_name"] for i in names} == names
    assert not set(IDS) & set(contents)

    def fresh() -> bool:
        return set(names.items()) <= {(r["z_device_id"], r["device_name"]) for r in database.newest("-10s")}

    assert eventually(fresh, 60)
