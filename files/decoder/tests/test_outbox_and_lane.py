import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from decoder import outbox as module
from decoder.lane import BIG, Lane
from decoder.outbox import Outbox, publish_packet


class Wire:
    """A lane and its other end."""

    def __init__(self) -> None:
        ours, self.broker = _tcp_pair()
        ours.settimeout(0)
        self.messages: list[tuple[bytes, bytes, bool]] = []
        self.acks: list[int] = []
        self.lane = Lane(ours, lambda *message: self.messages.append(message), self.acks.append)

    def give(self, data: bytes) -> None:
        self.broker.sendall(data)
        self.lane.wait(1.0)

    def written(self) -> bytes:
        self.lane.flush()
        self.broker.settimeout(1.0)
        return self.broker.recv(1 << 20)

    def close(self) -> None:
        self.lane.close()
        self.broker.close()


def _tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = socket.create_connection(server.getsockname())
        return ours, server.accept()[0]


@pytest.fixture
def wire() -> Iterator[Wire]:
    wire = Wire()
    yield wire
    wire.close()


def arriving(topic: bytes, payload: bytes, flags: int = 0) -> bytes:
    size = 2 + len(topic) + len(payload)
    head = bytearray((0x30 | flags,))
    while size > 127:
        head.append(size & 127 | 128)
        size >>= 7
    head.append(size)
    return bytes(head) + len(topic).to_bytes(2) + topic + payload


CONNACK, SUBACK, PINGRESP = b"\x20\x02\x00\x00", b"\x90\x03\x00\x01\x00", b"\xd0\x00"


@given(
    st.lists(st.tuples(st.binary(max_size=40), st.binary(max_size=400), st.booleans()), max_size=8),
    st.integers(1, 50),
)
def test_packets_come_out_whole_however_the_bytes_arrive(
    packets: list[tuple[bytes, bytes, bool]], step: int
) -> None:
    wire = Wire()
    try:
        stream = CONNACK
        for topic, payload, retained in packets:
            stream += arriving(topic, payload, int(retained)) + b"\x40\x02\x12\x34" + PINGRESP
        for at in range(0, len(stream), step):
            wire.give(stream[at : at + step])
        assert wire.messages == packets
        assert wire.acks == [0x1234] * len(packets)
        left = b""
        while wire.lane.for_paho:
            left += wire.lane.recv(3)
        assert left == CONNACK + PINGRESP * len(packets)
        with pytest.raises(BlockingIOError):
            wire.lane.recv(1)
    finally:
        wire.close()


def test_a_huge_packet_is_cut_and_skipped(wire: Wire) -> None:
    wire.broker.settimeout(0)
    stream = arriving(b"t", b"x" * 3_000_000) + arriving(b"u", b"next")
    while stream:
        try:
            stream = stream[wire.broker.send(stream) :]
        except BlockingIOError:
            wire.lane.wait(1.0)
    while len(wire.messages) < 2:
        wire.lane.wait(1.0)
    assert wire.messages[1] == (b"u", b"next", False)
    assert wire.messages[0][0] == b"t"
    assert 10_000 < len(wire.messages[0][1]) < 300_000
    assert BIG < 300_000


def test_end_of_the_connection_reaches_paho(wire: Wire) -> None:
    wire.broker.close()
    wire.lane.wait(1.0)
    assert wire.lane.for_paho
    assert wire.lane.recv(1) == b""


def test_nonsense_from_the_broker_does_not_raise(wire: Wire) -> None:
    wire.give(b"\x30\x00" + b"\x30\x01\x05" + b"\x30\x02\xff\xff" + b"\x40\x00" + b"\x30\xff\xff\xff\xff\x7f")
    assert wire.acks == []


def test_close_writes_what_is_left(wire: Wire) -> None:
    wire.lane.send(b"last words")
    wire.lane.close()
    wire.broker.settimeout(1.0)
    assert wire.broker.recv(100) == b"last words"


@pytest.mark.parametrize("size", [1, 100, 115, 116, 117, 5000, 16_400, 70_000])
def test_publish_packet(size: int) -> None:
    wire = Wire()
    packet = publish_packet(b"some/topic", b"p" * size, 0xABCD)
    # As a QoS-0 packet it must come through the lane with the packet id at the front of the payload.
    wire.give(b"\x30" + packet[1:])
    while not wire.messages:
        wire.lane.wait(1.0)
    assert packet[0] == 0x32
    assert wire.messages == [(b"some/topic", b"\xab\xcd" + b"p" * size, False)]
    wire.close()


def ids_of(data: bytes) -> list[tuple[int, bytes]]:
    found = []
    while data:
        size = data[1]
        found.append((data[0], data[2 + size - 1 : 2 + size]))
        data = data[2 + size :]
    return found


def test_what_waits_follows_in_order_and_what_is_unacknowledged_comes_first(wire: Wire) -> None:
    outbox = Outbox()
    outbox.put(b"t", b"1")
    outbox.connected(wire.lane)
    outbox.put(b"t", b"2")
    assert ids_of(wire.written()) == [(0x32, b"1"), (0x32, b"2")]
    outbox.acknowledge(1)
    outbox.disconnected()
    outbox.put(b"t", b"3")
    assert (len(outbox), outbox.acknowledged) == (2, 1)
    outbox.connected(wire.lane)
    outbox.put(b"t", b"4")
    assert ids_of(wire.written()) == [(0x3A, b"2"), (0x32, b"3"), (0x32, b"4")]
    for packet_id in (2, 3, 4, 4, 99):
        outbox.acknowledge(packet_id)
    assert (len(outbox), outbox.acknowledged) == (0, 4)


def test_queue_is_bounded_and_the_oldest_go_first(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_WAITING", 3)
    outbox = Outbox()
    for n in range(10):
        outbox.put(b"t", b"%d" % n)
    assert (len(outbox), outbox.dropped) == (3, 7)
    outbox.connected(wire.lane)
    assert [payload for _, payload in ids_of(wire.written())] == [b"7", b"8", b"9"]


def test_window_is_kept(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WINDOW", 2)
    outbox = Outbox()
    outbox.connected(wire.lane)
    for n in range(5):
        outbox.put(b"t", b"%d" % n)
    assert [payload for _, payload in ids_of(wire.written())] == [b"0", b"1"]
    outbox.acknowledge(1)
    assert [payload for _, payload in ids_of(wire.written())] == [b"2"]


def test_packet_ids_in_use_are_not_given_twice(wire: Wire) -> None:
    outbox = Outbox()
    outbox.connected(wire.lane)
    outbox.put(b"t", b"stays")
    for _ in range(70_000):
        outbox.put(b"t", b"x")
        outbox.acknowledge(outbox._id)
    assert (len(outbox), outbox.acknowledged) == (1, 70_000)
    outbox.acknowledge(1)
    assert len(outbox) == 0
