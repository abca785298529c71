# ruff: noqa: INP001  a script, no package
"""
How old is a reading when a query gives it? From a gateway's publish to the answer of a Flux query.

    PYTHONPATH=lab/src .venv/bin/python lab/bench/pipeline.py coachella        about a minute and a half

A probe is an advert of one of the site's own sensors, published as a gateway does; its rssi is the mark by
which the query finds it. The query is asked again and again, so the figure includes one query and on average
half of the time between two. Needs a rehearsed site; the made-up devices of the load are deleted.
"""

import itertools
import json
import random
import statistics
import time
from contextlib import ExitStack
from datetime import UTC, datetime

from lab import boxes, readings
from lab.console import Problem, say
from lab.control import truth
from lab.load import Adverts, Publisher, forget, steadily
from lab.site import Site, from_arguments

ADVERTS_A_SECOND = 300.0
PROBES = 100
WARM_UP_S = 5.0
PAUSE_S = 0.01
# By chance: an answer comes with a flush, and a fixed pause would keep step with it.
BETWEEN_PROBES_S = (0.2, 0.6)
PROBE_WITHIN_S = 20.0
MARKS = range(-39, 0)  # dBm; simulated sensors are never heard so loud


def packed(celsius: float, percent: float) -> int:
    """Temperature and humidity as an H5075 sends them: 24 bits, the highest is the sign."""
    return (round(abs(celsius) * 10) * 1000 + round(percent * 10)) | (0x800000 if celsius < 0 else 0)


class Prober:
    """Publishes marked adverts of one sensor and asks for them until they are there."""

    def __init__(self, site: Site, publishers: dict[str, Publisher]) -> None:
        """Take the site's first H5075; its values are the true ones of this moment."""
        self.query_s: list[float] = []
        self._site, self._token = site, readings.token(site)
        self._publishers = itertools.cycle(publishers.items())
        self._marks = itertools.cycle(MARKS)
        self._id = next(sensor["id"] for sensor in site.sensors if sensor["model"] == "H5075")

    def probe(self) -> float:
        """Seconds from publish to answer."""
        gateway, publisher = next(self._publishers)
        mark = next(self._marks)
        payload = self._advert(mark)
        second, start = int(time.time()), time.perf_counter()
        publisher.publish(("probe", start), f"{self._site.name}/{gateway}/BTtoMQTT/{self._id}", payload)
        flux = f"""
            from(bucket: "sensors") |> range(start: {second})
            |> filter(fn: (r) => r._measurement == "reading" and r.z_device_id == "{self._id}")
            |> filter(fn: (r) => r.sensor_type == "rssi" and r.source_node == "{gateway}")
            |> filter(fn: (r) => r._value == {float(mark)})
        """
        while time.perf_counter() - start < PROBE_WITHIN_S:
            asked = time.perf_counter()
            rows = readings.query(self._site, flux, self._token)
            answered = time.perf_counter()
            self.query_s.append(answered - asked)
            if rows:
                return answered - start
            time.sleep(PAUSE_S)
        raise Problem(f"A probe was not stored within {PROBE_WITHIN_S:.0f} s: is the site healthy?")

    def _advert(self, mark: int) -> str:
        true = truth(self._site)[self._id]
        raw = f"88ec00{packed(true['temperature'], true['humidity']):06x}{int(true['battery']):02x}00"
        mac = ":".join(self._id[at : at + 2] for at in range(0, 12, 2))
        return json.dumps({"id": mac, "rssi": mark, "manufacturerdata": raw})


def percentiles(seconds: list[float]) -> str:
    """p50, p95 and largest, in milliseconds."""
    cuts = statistics.quantiles(seconds, n=20)
    return f"p50 {cuts[9] * 1000:4.0f} ms   p95 {cuts[18] * 1000:4.0f} ms   max {max(seconds) * 1000:4.0f} ms"


def measure(site: Site) -> None:
    """Probe without and with the load, and print both."""
    secrets = boxes.vault(site)
    gateways = [host.name for host in site.of_kind("esp32", "theengs")]
    made_up = [f"0ADE2000000{digit}" for digit in range(10)]
    since = datetime.now(UTC).isoformat()
    with ExitStack() as stack:
        publishers = {name: Publisher(site, name, secrets["vault_mqtt_passwords"][name]) for name in gateways}
        for publisher in publishers.values():
            stack.callback(publisher.close)
        prober = Prober(site, publishers)
        rates = {"as rehearsed": 0.0, f"{ADVERTS_A_SECOND:.0f} adverts/s more": ADVERTS_A_SECOND}
        for title, rate in rates.items():
            with ExitStack() as under_load:
                for name, publisher in publishers.items() if rate else ():
                    adverts = Adverts(publisher, site, name, made_up)
                    under_load.enter_context(steadily(rate / len(gateways), adverts.send))
                show(prober, title, publishers)
    forget(site, secrets["vault_influxdb_operator_token"], made_up, since)


def show(prober: Prober, title: str, publishers: dict[str, Publisher]) -> None:
    """One line of the table and one on what asking costs."""
    time.sleep(WARM_UP_S)
    prober.query_s.clear()
    sent, start = sum(len(p.sent) for p in publishers.values()), time.monotonic()
    taken = []
    for _ in range(PROBES):
        taken.append(prober.probe())
        time.sleep(random.uniform(*BETWEEN_PROBES_S))
    rate = (sum(len(p.sent) for p in publishers.values()) - sent) / (time.monotonic() - start)
    say(f"{title:20} publish to answer  {percentiles(taken)}   n={PROBES}, {rate:.0f} adverts/s from here")
    say(
        f"{'':20} of it the asking    {percentiles(prober.query_s)}   "
        f"{len(prober.query_s) / PROBES:.1f} queries a probe, {PAUSE_S * 1000:.0f} ms between two"
    )


def main() -> None:
    """Read the command line and run."""
    measure(from_arguments(__doc__))


if __name__ == "__main__":
    main()
