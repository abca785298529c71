"""
The socket under paho, with a fast lane for the two packets that come by the thousand.

paho keeps what is rare and easy to get wrong: connecting, logging in, the will, subscribing, pings, goodbye.
But it reads each packet in three or more system calls, makes a condition variable for every message and takes
several locks; for one advert in and one reading out that costs several times what decoding it does. So its
socket is this object: incoming bytes are read in large pieces, QoS-0 PUBLISH and PUBACK are taken out right
here, every other packet goes on to paho, and all that is written leaves in one piece when the loop says so.

Packets: MQTT 3.1.1, sections 2.2 (fixed header), 3.3 (PUBLISH), 3.4 (PUBACK),
https://docs.oasis-open.org/mqtt/mqtt/v3.1.1/os/mqtt-v3.1.1-os.html
"""

import select
import socket
from collections.abc import Callable
from typing import Final

READ: Final = 262_144
# A longer packet is handed on cut to this length, which the pipeline rejects as too long.
BIG: Final = 131_072
LAST_WORDS_S: Final = 1.0  # for what is unsent when paho closes

_PUBLISH_QOS0, _PUBLISH_MASK, _RETAIN = 0x30, 0xF6, 0x01
_PUBACK = 0x40


class Lane:
    """Non-blocking, one thread. paho uses recv, send, close, fileno, setblocking; the loop uses the rest."""

    def __init__(
        self,
        sock: socket.socket,
        on_message: Callable[[bytes, bytes, bool], None],
        on_ack: Callable[[int], None],
    ) -> None:
        """`on_message(topic, payload, retained)` and `on_ack(packet id)` are called from `fill`."""
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock = sock
        self._on_message = on_message
        self._on_ack = on_ack
        self._rest = b""  # the start of a packet whose end has not come
        self._skip = 0  # bytes still to come of a packet that was too big
        self._for_paho = bytearray()
        self._out = bytearray()
        self._ended = False

    def recv(self, size: int) -> bytes:
        """Give paho the next bytes of packets meant for it; empty when the broker has gone."""
        if self._for_paho:
            piece = bytes(self._for_paho[:size])
            del self._for_paho[:size]
            return piece
        if self._ended:
            return b""
        raise BlockingIOError

    def send(self, data: bytes | bytearray) -> int:
        """Take bytes to be written at the next flush; always all of them, so packets never mix."""
        self._out += data
        return len(data)

    def close(self) -> None:
        """Write what is left, within a second, and close."""
        try:
            self._sock.settimeout(LAST_WORDS_S)
            self._sock.sendall(self._out)
        except OSError:
            pass  # the broker has gone; that is why we close
        finally:
            self._sock.close()

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._sock.fileno()

    def setblocking(self, flag: bool) -> None:  # noqa: FBT001  paho calls it so
        """Pass on."""
        self._sock.setblocking(flag)

    @property
    def for_paho(self) -> bool:
        """Whether paho has something to read, the end of the connection included."""
        return bool(self._for_paho) or self._ended

    def wait(self, seconds: float) -> None:
        """Wait until there is something to read or room to write, at most so long; then read and write."""
        fd = [self._sock]
        readable, writable, _ = select.select(fd, fd if self._out else [], [], seconds)
        if readable:
            self.fill()
        if writable or self._out:
            self.flush()

    def fill(self) -> None:
        """Read what has come and hand it out."""
        try:
            data = self._sock.recv(READ)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._ended = True
            return
        if self._skip:
            skipped = min(self._skip, len(data))
            self._skip -= skipped
            data = data[skipped:]
        if self._rest:
            data = self._rest + data
        self._rest = data[self._hand_out(data) :]

    def flush(self) -> None:
        """Write as much as the broker takes now."""
        try:
            sent = self._sock.send(self._out)
        except BlockingIOError:
            return
        except OSError:
            self._ended = True
            self._out.clear()
            return
        del self._out[:sent]

    def _hand_out(self, data: bytes) -> int:
        """Hand out the whole packets in `data`; return where the first incomplete one starts."""
        at, end = 0, len(data)
        on_message = self._on_message
        while end - at > 1:
            size, start = data[at + 1], at + 2
            if size > 127:  # noqa: PLR2004  the length goes on in the next byte
                size, start = _long_size(data, start, size)
                if not start:
                    break
            stop = start + size
            if stop > end:
                if size <= BIG or end - start < BIG:
                    break
                self._skip = stop - end
                stop = end
            kind = data[at]
            if kind & _PUBLISH_MASK == _PUBLISH_QOS0 and size > 1:
                body = start + 2 + (data[start] << 8) + data[start + 1]
                on_message(data[start + 2 : body], data[body:stop], kind & _RETAIN != 0)
            elif kind == _PUBACK and size > 1:
                self._on_ack((data[start] << 8) + data[start + 1])
            else:
                self._for_paho += data[at:stop]
            at = stop
        return at


def _long_size(data: bytes, at: int, first: int) -> tuple[int, int]:
    """Read a length of two to four bytes -> length, where the packet's body starts (0: not all there yet)."""
    size = first & 0x7F
    for shift in (7, 14, 21):
        if at >= len(data):
            return 0, 0
        byte = data[at]
        at += 1
        size += (byte & 0x7F) << shift
        if byte < 128:  # noqa: PLR2004  no further byte
            break
    return size, at
