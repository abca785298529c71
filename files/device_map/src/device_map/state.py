"""What one run remembers for the next: the cloud's last good answer, the last map, an open reload."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from device_map.merge import Device
from device_map.sources import CloudDevice, SourceError
from device_map.storage import as_json, differs, replace, sync_folder


@dataclass(frozen=True)
class State:
    """The state directory."""

    folder: Path

    @property
    def lock(self) -> Path:
        """The lock file."""
        return self.folder / "lock"

    @property
    def cloud_file(self) -> Path:
        """The cloud's last good answer."""
        return self.folder / "cloud.json"

    @property
    def reload_pending(self) -> bool:
        """Whether a map was written that Telegraf may not have read yet."""
        return self._marker.exists()

    @property
    def _marker(self) -> Path:
        return self.folder / "reload_pending"

    def mark_reload(self) -> None:
        """Remember, across a power cut, that Telegraf must reload."""
        replace(self._marker, "devices.json was written, Telegraf has yet to reload\n")

    def clear_reload(self) -> None:
        """Forget it."""
        self._marker.unlink(missing_ok=True)
        sync_folder(self.folder)

    def cloud(self) -> list[CloudDevice]:
        """Return the cloud's last good answer, empty if there never was one; SourceError if unreadable."""
        try:
            return [CloudDevice(**item) for item in json.loads(self.cloud_file.read_bytes())]
        except FileNotFoundError:
            return []
        except (ValueError, TypeError, RecursionError) as error:
            raise SourceError(
                f"{self.cloud_file}: unreadable ({error}), and govee2mqtt does not answer. "
                "Start govee2mqtt, or delete the file to go on without the cloud's devices"
            ) from error

    def save_cloud(self, devices: Iterable[CloudDevice]) -> None:
        """Keep a good answer."""
        self._keep(self.cloud_file, devices)

    def save_map(self, devices: Iterable[Device]) -> None:
        """Keep the map with all its columns, for `show`."""
        self._keep(self.folder / "map.json", devices)

    def map(self) -> list[Device]:
        """Return the map of the last good run, empty if there was none."""
        try:
            items = json.loads((self.folder / "map.json").read_bytes())
        except FileNotFoundError:
            return []
        return [Device(**{**item, "cloud_ids": tuple(item["cloud_ids"])}) for item in items]

    def save_status(self, status: dict[str, object]) -> None:
        """Write `status.json`."""
        replace(self.folder / "status.json", as_json(status))

    def _keep(self, path: Path, items: Iterable[CloudDevice] | Iterable[Device]) -> None:
        text = as_json([asdict(item) for item in items])
        if differs(path, text):
            replace(path, text)
