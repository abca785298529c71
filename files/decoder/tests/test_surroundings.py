"""Settings, the map, the health check, log lines, metrics."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from decoder import health, metrics
from decoder.log import log
from decoder.models import ModelsFile, parse
from decoder.outbox import Outbox
from decoder.pipeline import Pipeline
from decoder.settings import SettingError, settings_from


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "password").write_text("secret\n")
    return {
        "SITE": "coachella",
        "MQTT_HOST": "mosquitto",
        "MQTT_USER": "decoder",
        "MQTT_PASSWORD_FILE": str(tmp_path / "password"),
    }


def test_settings(environment: dict[str, str]) -> None:
    settings = settings_from(environment)
    assert (settings.site, settings.port, settings.password) == ("coachella", 1883, "secret")
    assert settings.models_file == Path("/map/models.json")


@pytest.mark.parametrize("name", ["SITE", "MQTT_HOST", "MQTT_USER", "MQTT_PASSWORD_FILE"])
def test_a_missing_setting_is_named(environment: dict[str, str], name: str) -> None:
    with pytest.raises(SettingError, match=name):
        settings_from({key: value for key, value in environment.items() if key != name})


@pytest.mark.parametrize(
    ("name", "value"),
    [("SITE", "a/b"), ("SITE", "+"), ("MQTT_PORT", "0"), ("MQTT_PORT", "x"), ("MQTT_PORT", "65536"),
     ("MQTT_PASSWORD_FILE", "/nowhere"), ("MQTT_PASSWORD_FILE", os.devnull)],
)  # fmt: skip
def test_a_wrong_setting_is_named(environment: dict[str, str], name: str, value: str) -> None:
    with pytest.raises(SettingError, match=name):
        settings_from({**environment, name: value})


def test_wrong_setting_is_one_line_and_exit_2() -> None:
    source = Path(health.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-m", "decoder"],
        env={"PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "event=setting_wrong" in done.stderr
    assert "SITE" in done.stderr


def test_map_entries_that_are_none_are_left_out() -> None:
    text = json.dumps(
        {"A4C138000001": "H5075", "a4c138000002": "H5075", "A4C138000003": 5, "A4C138000004": "", "": "x"}
    )
    assert parse(text) == ({"A4C138000001": "H5075"}, 4)
    with pytest.raises(ValueError, match="not a JSON object"):
        parse("[]")


def test_map_is_read_again_when_it_changes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "models.json"
    file = ModelsFile(path)
    assert file.changed() is None
    assert file.changed() is None
    assert capsys.readouterr().err.count("event=map_absent") == 1
    path.write_text('{"A4C138000001":"H5075"}')
    assert file.changed() == {"A4C138000001": "H5075"}
    assert file.changed() is None
    path.write_text('{"A4C138000001":')
    assert file.changed() is None
    assert file.changed() is None
    assert capsys.readouterr().err.count("event=map_bad") == 1
    path.write_text('{"A4C138000001":"H5100"}')
    assert file.changed() == {"A4C138000001": "H5100"}
    path.unlink()
    assert file.changed() is None


def test_health_is_the_age_of_the_heartbeat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "beat"
    monkeypatch.setattr(health, "age", lambda: float(file.read_text()))
    assert health.main() == 1
    file.write_text("nonsense")
    assert health.main() == 1
    file.write_text("5")
    assert health.main() == 0
    file.write_text("21")
    assert health.main() == 1
    assert capsys.readouterr().out.count("\n") == 4


def test_heartbeat(tmp_path: Path) -> None:
    file = tmp_path / "beat"
    health.beat(file)
    assert 0 <= health.age(file) < health.OLDEST_S


def test_log_line(capsys: pytest.CaptureFixture[str]) -> None:
    log("thing", "error", plain="a-b", spaced="two words", quoted='a"b', broken="a\nevent=forged", empty="")
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert 'level=error event=thing plain=a-b spaced="two words" quoted="a\\"b"' in line
    assert line.endswith(' broken="a\\nevent=forged" empty=""\n')


def test_metrics_form() -> None:
    pipeline = Pipeline("site", {}, lambda *_: None)
    pipeline.handle(b"site/gw/BTtoMQTT/A4C138000001", b"x")
    pipeline.handle(
        b"site/gw/BTtoMQTT/A4C138000001", b'{"name":"GVH5075_1","manufacturerdata":"88ec00034db26400"}'
    )
    whole, gateway = json.loads(metrics.render(pipeline, Outbox()))
    for name in (
        "adverts",
        "decoded",
        "published",
        "acknowledged",
        "repeats",
        "unknown",
        "queue",
        "queue_dropped",
    ):
        assert type(whole[name]) is int
    assert (whole["adverts"], whole["rejected_bad_json"], whole["decoded"]) == (2, 1, 1)
    assert {key: value for key, value in gateway.items() if key != "time"} == {
        "gateway": "gw",
        "adverts": 2,
        "decoded": 1,
        "rejected": 1,
    }
