"""A site's files in a temporary folder."""

import json
from pathlib import Path

import pytest

from device_map.sync import Paths

SENSORS = [
    {"id": "A4:C1:38:00:00:01", "name": "stage_left", "room": "stage", "model": "H5075"},
    {"id": "A4C138000002", "name": "foh", "room": "foh", "model": "H5074", "cloud_id": "33FA4381ECA1010A"},
]


@pytest.fixture
def site(tmp_path: Path) -> Paths:
    (tmp_path / "inventory.json").write_text(json.dumps(SENSORS))
    return Paths(
        inventory=tmp_path / "inventory.json",
        overrides=tmp_path / "overrides.json",
        out=tmp_path / "out",
        state=tmp_path / "state",
    )
