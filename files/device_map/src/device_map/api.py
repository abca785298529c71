"""Ask govee2mqtt what it knows."""

import http.client
import time
import urllib.request

from device_map.sources import CloudDevice, SourceError, parse_api

TIMEOUT_S = 5.0
MAX_BYTES = 5_000_000
_PATH = "/api/devices"


def fetch(url: str, timeout_s: float = TIMEOUT_S) -> list[CloudDevice]:
    """
    Return the devices that the govee2mqtt at `url` (http, scheme to port) lists.

    Raises SourceError with the reason for anything but a usable list.
    """
    address = url.rstrip("/").removesuffix(_PATH) + _PATH
    # A proxy set for the host must not come between it and its own container.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + timeout_s
    try:
        with opener.open(address, timeout=timeout_s) as response:
            return parse_api(_body(response, deadline))
    except (OSError, http.client.HTTPException, ValueError, SourceError) as error:
        raise SourceError(f"{address}: {error or type(error).__name__}") from error


def _body(response: http.client.HTTPResponse, deadline: float) -> bytes:
    """Return the whole body, or raise OSError if it is too long, too slow or cut off."""
    body = b""
    while chunk := response.read1(65536):
        body += chunk
        if len(body) > MAX_BYTES:
            raise OSError(f"answer has more than {MAX_BYTES} bytes")
        # The socket's own time limit starts anew with each piece; this one does not.
        if time.monotonic() > deadline:
            raise OSError("answer took too long")
    announced = response.getheader("Content-Length")
    # read1() takes a lost connection for the end.
    if announced and len(body) != int(announced):
        raise OSError(f"answer cut off after {len(body)} of {announced} bytes")
    return body
