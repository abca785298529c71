"""
Sensor libraries behind one call. A further library is one file here and one line in `decode.LIBRARIES`.

Each offers `decode(raw, model)`: `raw` the bytes, `model` what the map says of this device (None: not in it).
It returns None when the advert is not its own and raises RejectedError when it is but must not be used. It is
a pure function: a library's parser keeps state, so a fresh one is made for each advert.
"""

import logging
from typing import NamedTuple

# They log each odd packet; here it is counted instead, and logged once a kind.
for _name in ("govee_ble", "bthome_ble"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)


class Found(NamedTuple):
    """
    What a library read: names and units as in the reading.

    `values` are states and measurements, `events` happen once (their id is `event_id`, the same in each
    repeat of the advert).
    """

    model: str
    values: dict[str, float]
    events: dict[str, float]
    event_id: str = ""
