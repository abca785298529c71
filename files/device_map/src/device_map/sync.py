"""One run: read the sources, merge, write what differs, let Telegraf reload."""

import logging
import subprocess
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from device_map import api
from device_map.merge import Device, devices_json, merge, models_json
from device_map.sources import CloudDevice, Entry, SourceError, parse_inventory, parse_overrides
from device_map.state import State
from device_map.storage import differs, locked, replace

RELOAD_TIMEOUT_S = 30
DEVICES = "devices.json"
MODELS = "models.json"
log = logging.getLogger("device_map")


@dataclass(frozen=True)
class Paths:
    """Where a run finds its sources and leaves its results; `api_url` None = no govee2mqtt at this site."""

    inventory: Path
    overrides: Path
    out: Path
    state: Path
    api_url: str | None = None
    reload: tuple[str, ...] = ()


@dataclass
class Status:
    """
    What `status.json` and `--json` say of a run; `error` None = all well.

    `api`: `ok`, `kept` (failed, its last good answer used) or `none` (not asked for).
    """

    time: str
    error: str | None = None
    api: str = "none"
    api_error: str | None = None
    changed: list[str] = field(default_factory=list)
    reloaded: bool = False
    reload_pending: bool = False
    counts: dict[str, int] = field(default_factory=dict)


def sync(paths: Paths) -> Status:
    """
    Bring the map up to date and return what happened; on a problem the last good map stays.

    Raises OSError only if the state directory itself cannot be used.
    """
    status = Status(datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"))
    paths.state.mkdir(parents=True, exist_ok=True)
    state = State(paths.state)
    with locked(state.lock):
        try:
            _finish_earlier_run(paths, state, status)
            devices = _devices(paths, state, status)
            _write(paths, state, devices, status)
            _reload(paths, state, status)
        except (SourceError, ReloadError, OSError) as error:
            status.error = str(error)
            log.error("%s", error)  # noqa: TRY400  the sentence says it, a traceback hides it
        status.reload_pending = state.reload_pending
        state.save_status(asdict(status))
    return status


class ReloadError(Exception):
    """The map is written, but Telegraf did not reload."""


def _devices(paths: Paths, state: State, status: Status) -> list[Device]:
    inventory = parse_inventory(_text(paths.inventory, "Run site.yml"), str(paths.inventory))
    overrides: dict[str, Entry] = {}
    if paths.overrides.exists():
        overrides = parse_overrides(_text(paths.overrides, "Correct it"), str(paths.overrides))
    cloud = _cloud(paths, state, status)
    try:
        devices = merge(inventory, overrides, cloud)
    except SourceError as error:
        raise SourceError(f"{paths.inventory} with {paths.overrides}: {error}") from error
    if not devices:
        raise SourceError(
            f"no source knows a device. Fill the site's `sensors:` ({paths.inventory} is empty)"
        )
    status.counts = {
        "inventory": len(inventory),
        "overrides": len(overrides),
        "cloud": len(cloud),
        "devices": len(devices),
        "cloud_only": sum(device.source == "cloud" for device in devices),
    }
    return devices


def _text(path: Path, remedy: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise SourceError(f"{path}: cannot be read ({error}). {remedy}") from error


def _cloud(paths: Paths, state: State, status: Status) -> list[CloudDevice]:
    """Return the cloud's devices; its last good answer if it does not answer now."""
    if paths.api_url is None:
        return []
    try:
        cloud = api.fetch(paths.api_url)
    except SourceError as error:
        status.api, status.api_error = "kept", str(error)
        kept = state.cloud()
        log.warning("govee2mqtt: %s; the %d devices it last named are kept", error, len(kept))
        return kept
    # Before the map: a run cut off after it must not forget what the map was made of.
    state.save_cloud(cloud)
    status.api = "ok"
    return cloud


def _write(paths: Paths, state: State, devices: list[Device], status: Status) -> None:
    paths.out.mkdir(parents=True, exist_ok=True)
    models, names = models_json(devices), devices_json(devices)
    # No model at all is more likely a lost inventory than a wish: the decoder keeps those it has.
    empty = all(d.source == "cloud" or not d.model for d in devices)
    if differs(paths.out / MODELS, models) and not (empty and (paths.out / MODELS).exists()):
        replace(paths.out / MODELS, models)
        status.changed.append(MODELS)
    if differs(paths.out / DEVICES, names):
        if paths.reload:
            state.mark_reload()
        replace(paths.out / DEVICES, names)
        status.changed.append(DEVICES)
    state.save_map(devices)


def _finish_earlier_run(paths: Paths, state: State, status: Status) -> None:
    """Reload first of all if a run was cut off before it did; if that fails, try again at the end."""
    try:
        _reload(paths, state, status)
    except ReloadError as error:
        log.warning("%s", error)


def _reload(paths: Paths, state: State, status: Status) -> None:
    """Let Telegraf reload if that is due; the marker goes only after it did."""
    if not paths.reload or not state.reload_pending:
        return
    command = " ".join(paths.reload)
    try:
        done = subprocess.run(
            paths.reload, check=False, capture_output=True, text=True, timeout=RELOAD_TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ReloadError(f"`{command}` failed ({error}); the map is written, run this again") from error
    if done.returncode:
        said = done.stderr.strip()[-300:] or f"exit code {done.returncode}"
        raise ReloadError(f"`{command}` failed ({said}); the map is written, run this again")
    state.clear_reload()
    status.reloaded = True
