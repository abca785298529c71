"""The load driver: what it makes can be told apart again, and a failure in its thread is not lost."""

import json
import threading
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from decoder.pipeline import Pipeline
from lab.load import ADVERTS_TOLD_APART, advert, milliseconds, number_of, rfc3339, steadily


@given(st.integers(0, ADVERTS_TOLD_APART - 1))
def test_the_decoder_reads_every_number_out_of_its_advert(number: int) -> None:
    pipeline = Pipeline("site", {}, lambda _reason, _topic: None)
    device = "0ADE00000001"
    reading = pipeline.handle(f"site/gateway/BTtoMQTT/{device}".encode(), advert(device, number).encode())
    assert reading is not None, pipeline.counts
    values = json.loads(reading[1])
    assert number_of(values["temperature"], values["humidity"]) == number


@given(st.integers(0, 4_000_000_000_000))
def test_a_time_survives_being_written(moment: int) -> None:
    assert milliseconds(rfc3339(moment)) == moment
    assert datetime.fromisoformat(rfc3339(moment)).tzinfo == UTC


def test_an_error_in_the_load_reaches_the_block() -> None:
    def send() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), steadily(1000, send):
        pass


def test_an_error_of_the_block_is_not_hidden_by_one_of_the_load() -> None:
    def send() -> None:
        raise ZeroDivisionError

    def fail(error: Exception) -> None:
        raise error

    with pytest.raises(KeyError), steadily(1000, send):
        fail(KeyError("the block's own"))


def test_it_sends_until_the_block_ends() -> None:
    numbers: list[int] = []
    enough = threading.Event()

    def send() -> None:
        numbers.append(len(numbers))
        if len(numbers) == 20:
            enough.set()

    with steadily(1000, send):
        assert enough.wait(30)
    ended = len(numbers)
    assert numbers == list(range(ended))
    assert not [t for t in threading.enumerate() if t.name.startswith("load")]
