"""What the rehearsal asks of its simulators, and the faults that it switches on in them."""

import json
import urllib.request
from typing import Any

from lab.boxes import CONTROL_PORT
from lab.site import Site


def ask(address: str, path: str, body: Any = None) -> Any:  # noqa: ANN401  JSON of any shape
    """Call the control port of a simulator."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://{address}:{CONTROL_PORT}{path}", data)
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310  as above
        return json.load(answer)


def truth(site: Site) -> dict[str, dict[str, Any]]:
    """Last true values of the simulated sensors, by id: `temperature` °C, `humidity` %, `battery` %."""
    answer: dict[str, dict[str, Any]] = ask(site.fleet_address, "/truth")
    return answer


def set_faults(address: str, **faults: Any) -> None:  # noqa: ANN401  a fault's value is a flag, number or list
    """Switch faults of a simulator on or off."""
    ask(address, "/faults", faults)
