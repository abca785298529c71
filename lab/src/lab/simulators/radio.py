"""A gateway's ear: receives the fleet's datagrams."""

import logging
import socket

from lab.simulators.advert import DATAGRAM_LIMIT, Advert, from_datagram

WAIT = 0.1  # seconds; how long a gateway may be deaf to its other duties

log = logging.getLogger("radio")


class Radio:
    """A bound UDP socket; the kernel's buffer (a few hundred adverts) is all that is kept."""

    def __init__(self, address: str, port: int) -> None:
        """Bind at once; OSError if the port is taken."""
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((address, port))
        self._socket.settimeout(WAIT)
        self.heard = 0
        self.unreadable = 0

    def receive(self) -> Advert | None:
        """Return the next advert, or None if there was none within WAIT or it made no sense."""
        try:
            data = self._socket.recv(DATAGRAM_LIMIT)
        except TimeoutError:
            return None
        try:
            advert = from_datagram(data)
        except ValueError as error:
            self.unreadable += 1
            log.warning("event=unreadable error=%s", error)
            return None
        self.heard += 1
        return advert
