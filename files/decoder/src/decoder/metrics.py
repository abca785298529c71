"""What the decoder says of itself every ten seconds: totals since its start."""

import json
import time

from decoder.outbox import Outbox
from decoder.pipeline import Pipeline
from decoder.stamps import Clock


def render(pipeline: Pipeline, outbox: Outbox) -> str:
    """Return a JSON array: one object for the decoder, then one for each gateway."""
    now = Clock().text(time.time_ns() // 1_000_000)
    whole = {
        "time": now,
        "adverts": pipeline.adverts,
        "decoded": pipeline.decoded,
        "published": pipeline.published,
        "acknowledged": outbox.acknowledged,
        "repeats": pipeline.repeats,
        "unknown": pipeline.unknown,
        "queue": len(outbox),
        "queue_dropped": outbox.dropped,
        "clock_steps": pipeline.clock.steps,
        **pipeline.counts,
    }
    gateways = [
        {"time": now, "gateway": name, "adverts": of.adverts, "decoded": of.decoded, "rejected": of.rejected}
        for name, of in pipeline.gateways.items()
    ]
    return json.dumps([whole, *gateways], separators=(",", ":"))
