"""The loop: adverts from the broker, readings to it. One thread, one connection."""

import time
from collections import Counter
from typing import Final

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from decoder import health, metrics
from decoder.lane import Lane
from decoder.log import log
from decoder.models import ModelsFile
from decoder.outbox import Outbox
from decoder.pipeline import Pipeline
from decoder.settings import Settings

KEEPALIVE_S: Final = 30
TURN_S: Final = 0.5  # longest wait of a turn: a signal is seen after that
TICK_S: Final = 1.0
METRICS_S: Final = 10.0
SUMMARY_S: Final = 3600.0
RETRY_S: Final = (1.0, 2.0, 4.0, 5.0)  # between attempts to connect; the last one goes on
DRAIN_S: Final = 2.0  # at the end, for readings that are not acknowledged


class _Client(paho.Client):
    """paho on a Lane."""

    def __init__(self, service: "Service") -> None:
        """Take the account and the will from the service's settings."""
        settings = service.settings
        super().__init__(CallbackAPIVersion.VERSION2, client_id=settings.user, clean_session=True)
        self.lane: Lane | None = None
        self._service = service
        self.username_pw_set(settings.user, settings.password)
        self.will_set(service.status_topic, "offline", qos=1, retain=True)
        self.connect_timeout = 5.0

    def _create_socket(self) -> Lane:
        # paho's own hook for the kinds of sockets it knows; see lane.py for why there is another one.
        sock = self._create_socket_connection()
        self.lane = Lane(sock, self._service.on_advert, self._service.outbox.acknowledge)
        return self.lane


class Service:
    """A decoder of one site. `run` returns when `stop` was called."""

    def __init__(self, settings: Settings) -> None:
        """Nothing is connected yet."""
        self.settings = settings
        self.status_topic = f"{settings.site}/decoder/status"
        self.outbox = Outbox()
        self.pipeline = Pipeline(settings.site, {}, self._on_reject)
        self._models = ModelsFile(settings.models_file)
        self._logged: Counter[str] = Counter()  # rejections as of the last summary
        self._stopping = False
        self._failures = 0
        self._next_try = 0.0
        self._client = _Client(self)
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.connect_async(settings.host, settings.port, KEEPALIVE_S)

    def stop(self) -> None:
        """Ask the loop to end; safe in a signal handler."""
        self._stopping = True

    def run(self) -> None:
        """Work until stopped, whatever the broker does."""
        ticks = metrics_due = 0.0
        summary_due = time.monotonic() + SUMMARY_S
        while not self._stopping:
            self._turn(TURN_S)
            now = time.monotonic()
            if now >= ticks:
                ticks = now + TICK_S
                self._tick()
            if now >= metrics_due:
                metrics_due = now + METRICS_S
                self._publish_metrics()
            if now >= summary_due:
                summary_due = now + SUMMARY_S
                self._summary()
        self._end()

    def on_advert(self, topic: bytes, payload: bytes, retained: bool) -> None:  # noqa: FBT001  as Lane calls it
        """Decode one message and send its reading."""
        reading = self.pipeline.handle(topic, payload, retained=retained)
        if reading is not None:
            self.outbox.put(*reading)

    def _turn(self, seconds: float) -> None:
        client = self._client
        lane = client.lane
        if lane is None:
            self._connect(seconds)
            return
        lane.wait(0.0 if client.want_write() else seconds)
        while client.lane is lane and lane.for_paho and client.loop_read() == 0:
            pass
        if client.lane is lane and client.want_write():
            client.loop_write()

    def _connect(self, seconds: float) -> None:
        wait = self._next_try - time.monotonic()
        if wait > 0:
            time.sleep(min(wait, seconds))
            return
        try:
            self._client.reconnect()
        except OSError as error:
            self._failed(f"{error}", "start the broker or correct MQTT_HOST and MQTT_PORT")

    def _failed(self, error: str, do: str) -> None:
        delay = RETRY_S[min(self._failures, len(RETRY_S) - 1)]
        if self._failures == 0:
            log(
                "broker_away", "warning", host=self.settings.host, port=self.settings.port, error=error, do=do
            )
        self._failures += 1
        self._next_try = time.monotonic() + delay

    def _on_connect(
        self,
        client: paho.Client,
        _data: object,
        _flags: object,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if reason.is_failure:
            do = "make the account and its password the same on the broker and here"
            log("broker_refused", "error", reason=reason, user=self.settings.user, do=do)
            self._failures = max(self._failures, 1)  # said; the disconnect that follows need not say it again
            return
        self._failures = 0
        log("connected", host=self.settings.host, port=self.settings.port, waiting=len(self.outbox))
        # QoS 0: the gateways publish with QoS 0, so the broker never holds more than that for us.
        client.subscribe(f"{self.settings.site}/+/BTtoMQTT/+", qos=0)
        client.publish(self.status_topic, "online", qos=0, retain=True)
        if self._client.lane is not None:
            self.outbox.connected(self._client.lane)

    def _on_disconnect(
        self,
        _client: paho.Client,
        _data: object,
        _flags: object,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        self._client.lane = None
        self.outbox.disconnected()
        if not self._stopping:
            self._failed(f"{reason}", "nothing; it is tried again every few seconds")

    def _on_reject(self, reason: str, topic: bytes) -> None:
        key = "rejected_" + reason
        if self.pipeline.counts[key] == 1:  # later ones of its kind: in the hourly summary
            log("rejected", "warning", reason=reason, topic=topic[:200].decode(errors="replace"))

    def _tick(self) -> None:
        self._client.loop_misc()
        models = self._models.changed()
        if models is not None:
            self.pipeline.models = models
        try:
            health.beat()
        except OSError as error:
            if not self._logged["heartbeat"]:
                log("heartbeat_failed", "error", file=health.FILE, error=error, do="make the folder writable")
            self._logged["heartbeat"] = 1

    def _publish_metrics(self) -> None:
        if self._client.is_connected():
            payload = metrics.render(self.pipeline, self.outbox)
            self._client.publish(f"{self.settings.site}/decoder/metrics", payload, qos=0)

    def _summary(self) -> None:
        for key, total in self.pipeline.counts.items():
            if total > self._logged[key]:
                log("summary", kind=key, more=total - self._logged[key], total=total)
                self._logged[key] = total

    def _end(self) -> None:
        """Give unacknowledged readings a moment, say goodbye, close."""
        until = time.monotonic() + DRAIN_S
        while self._client.is_connected() and len(self.outbox) and time.monotonic() < until:
            self._turn(0.1)
        if self._client.is_connected():
            self._client.publish(self.status_topic, "offline", qos=0, retain=True)
            self._client.disconnect()
        log("stopped", unsent=len(self.outbox))
