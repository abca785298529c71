"""
Readings on their way out: QoS 1, in order, bounded, and kept while the broker is away.

paho is not asked to publish readings, so resending is done here and only here. A reading sent twice does no
harm: its time and device make it the same point.
"""

from collections import deque
from typing import Final

from decoder.lane import Lane

MOST_WAITING: Final = 100_000  # when full the oldest go first; about 30 MB
WINDOW: Final = 10_000  # sent and not acknowledged; packet ids end at 65535

_PUBLISH_QOS1, _DUP = 0x32, 0x08


class Outbox:
    """Readings waiting or not yet acknowledged."""

    def __init__(self) -> None:
        """Empty and not connected."""
        self.acknowledged = self.dropped = 0
        self._lane: Lane | None = None
        self._waiting: deque[tuple[bytes, bytes]] = deque()
        self._sent: dict[int, bytes] = {}  # packet id -> whole packet, in the order of sending
        self._id = 0

    def __len__(self) -> int:
        """Return how many are waiting or not yet acknowledged."""
        return len(self._waiting) + len(self._sent)

    def put(self, topic: bytes, payload: bytes) -> None:
        """Send now if that keeps the order, else keep for later."""
        if self._lane is not None and not self._waiting and len(self._sent) < WINDOW:
            self._send(self._lane, topic, payload)
            return
        self._waiting.append((topic, payload))
        if len(self._waiting) > MOST_WAITING:
            self._waiting.popleft()
            self.dropped += 1

    def acknowledge(self, packet_id: int) -> None:
        """Forget what the broker has taken and send what waits for its place."""
        if self._sent.pop(packet_id, None) is not None:
            self.acknowledged += 1
            if self._waiting:
                self._catch_up()

    def connected(self, lane: Lane) -> None:
        """Send again what was never acknowledged, then what waited."""
        self._lane = lane
        for packet in self._sent.values():
            lane.send(bytes((packet[0] | _DUP,)) + packet[1:])
        self._catch_up()

    def disconnected(self) -> None:
        """Keep everything from now on."""
        self._lane = None

    def _catch_up(self) -> None:
        while self._lane is not None and self._waiting and len(self._sent) < WINDOW:
            self._send(self._lane, *self._waiting.popleft())

    def _send(self, lane: Lane, topic: bytes, payload: bytes) -> None:
        packet_id = self._id % 65535 + 1
        while packet_id in self._sent:
            packet_id = packet_id % 65535 + 1
        self._id = packet_id
        packet = publish_packet(topic, payload, packet_id)
        self._sent[packet_id] = packet
        lane.send(packet)


def publish_packet(topic: bytes, payload: bytes, packet_id: int) -> bytes:
    """Build a PUBLISH of QoS 1 (MQTT 3.1.1 section 3.3)."""
    size = len(topic) + len(payload) + 4
    head = bytearray((_PUBLISH_QOS1,))
    while size > 127:  # noqa: PLR2004  seven bits a byte, the eighth says that more follow
        head.append(size & 0x7F | 0x80)
        size >>= 7
    head.append(size)
    return b"".join((head, len(topic).to_bytes(2), topic, packet_id.to_bytes(2), payload))
