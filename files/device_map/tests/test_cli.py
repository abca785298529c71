import json
from pathlib import Path

import pytest

from device_map.__main__ import main
from device_map.sync import Paths


def arguments(site: Paths) -> list[str]:
    paths = ["--inventory", site.inventory, "--overrides", site.overrides, "--out", site.out]
    return ["sync", *map(str, paths), "--state", str(site.state)]


def test_sync_says_in_a_line_what_it_did(site: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*arguments(site), "--api", "none"]) == 0
    assert main([*arguments(site), "--api", "none"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == "changed models.json, devices.json; 2 devices; govee2mqtt: none"
    assert second == "no change; 2 devices; govee2mqtt: none"


def test_json_and_status_file_say_the_same(site: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*arguments(site), "--api", "none", "--json", "--reload", "sh", "-c", "exit 0"]) == 0
    status = json.loads(capsys.readouterr().out)
    assert status == json.loads((site.state / "status.json").read_text())
    assert (status["reloaded"], status["changed"]) == (True, ["models.json", "devices.json"])
    assert status["counts"] == {"inventory": 2, "overrides": 0, "cloud": 0, "devices": 2, "cloud_only": 0}


def test_show_prints_the_map(site: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "--state", str(site.state)]) == 0
    assert capsys.readouterr().out == "no map yet: run sync\n"
    main([*arguments(site), "--api", "none"])
    capsys.readouterr()
    assert main(["show", "--state", str(site.state)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "id            name        room   model  cloud id          source",
        "A4C138000001  stage_left  stage  H5075                    inventory",
        "A4C138000002  foh         foh    H5074  33FA4381ECA1010A  inventory",
    ]


@pytest.mark.parametrize("wrong", [["sync"], [], ["show", "--bogus"]])
def test_wrong_usage_ends_with_2(wrong: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(wrong)
    assert stopped.value.code == 2


def test_an_address_without_scheme_is_wrong_usage(site: Paths) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([*arguments(site), "--api", "127.0.0.1:8056"])
    assert stopped.value.code == 2


def test_an_unusable_state_folder_is_a_problem(site: Paths, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    assert main([*arguments(site), "--api", "none"]) == 1
    assert main(["show", "--state", str(tmp_path / "state")]) == 1
