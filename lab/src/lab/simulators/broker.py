"""An MQTT 3.1.1 connection as small devices keep it: QoS 0, a last will, for ever trying again."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from lab.simulators.program import Keys

log = logging.getLogger("mqtt")


@dataclass(frozen=True)
class BrokerAddress:
    """Where the broker is and who we are there; an empty user means no login."""

    host: str
    port: int
    user: str
    password: str

    @classmethod
    def from_keys(cls, keys: Keys) -> "BrokerAddress":
        """Read `{host, port (1883), user (""), password ("")}`."""
        address = cls(
            keys.take("host", str),
            keys.take("port", int, 1883),
            keys.take("user", str, ""),
            keys.take("password", str, ""),
        )
        keys.done()
        return address


@dataclass(frozen=True)
class Message:
    """One publish: the whole topic and the bytes."""

    topic: str
    payload: bytes
    retain: bool = False


class Broker:
    """A connection that comes back by itself; callbacks run in the network thread and must be short."""

    def __init__(
        self,
        address: BrokerAddress,
        client_id: str,
        availability: Message,
        subscriptions: Sequence[str] = (),
        on_message: Callable[[str, bytes], None] | None = None,
    ) -> None:
        """`availability` is sent at each connect; the same topic says `offline` as the last will."""
        self._address = address
        self._client_id = client_id
        self._availability = availability
        self._subscriptions = tuple(subscriptions)
        self._on_message = on_message
        self._client: mqtt.Client | None = None
        self.connects = 0
        self.refused = 0

    def start(self) -> None:
        """Begin to connect, and go on for ever; returns at once."""
        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=self._client_id)
        if self._address.user:
            client.username_pw_set(self._address.user, self._address.password)
        client.will_set(self._availability.topic, b"offline", retain=self._availability.retain)
        client.reconnect_delay_set(1, 4)
        client.on_connect = self._connected
        client.on_message = self._received
        client.connect_async(self._address.host, self._address.port, keepalive=60)
        client.loop_start()
        self._client = client

    @property
    def connected(self) -> bool:
        """Tell whether the broker has accepted us and the connection still stands."""
        return self._client is not None and self._client.is_connected()

    def publish(self, message: Message) -> bool:
        """Send now or not at all (QoS 0, nothing is kept); tell whether it went to the network."""
        if self._client is None or not self._client.is_connected():
            return False
        sent = self._client.publish(message.topic, message.payload, retain=message.retain)
        return sent.rc is mqtt.MQTT_ERR_SUCCESS

    def cut(self) -> None:
        """Drop the connection as a power cut does: without a goodbye, so the broker sends the will."""
        client, self._client = self._client, None
        if client is None:
            return
        client.loop_stop()
        if (connection := client.socket()) is not None:
            connection.close()

    def _connected(
        self,
        client: mqtt.Client,
        _userdata: object,
        _flags: mqtt.ConnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if reason.is_failure:
            self.refused += 1
            log.warning("event=refused client=%s reason=%s", self._client_id, reason)
            return
        self.connects += 1
        log.info("event=connected client=%s", self._client_id)
        for topic in self._subscriptions:
            client.subscribe(topic, 0)
        first = self._availability
        client.publish(first.topic, first.payload, retain=first.retain)

    def _received(self, _client: mqtt.Client, _userdata: object, message: mqtt.MQTTMessage) -> None:
        if self._on_message is not None:
            self._on_message(message.topic, bytes(message.payload))
