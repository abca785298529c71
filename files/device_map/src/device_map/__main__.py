"""Command line: `python3 -m device_map sync …` and `python3 -m device_map show`."""

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from device_map.merge import Device
from device_map.state import State
from device_map.sync import Paths, Status, sync

STATE = Path("/var/lib/device_map")
EXIT_CODES = "exit codes: 0 done, changed or not; 1 a problem, the last good map stays; 2 wrong usage"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 a problem (the last good map stays), 2 usage."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s", force=True)
    options = _parser().parse_args(arguments)
    try:
        return _sync(options) if options.command == "sync" else _show(options)
    except (OSError, ValueError, KeyError, TypeError) as error:
        logging.error("state directory %s cannot be used: %s", options.state, error)  # noqa: LOG015, TRY400
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="device_map", description=__doc__, epilog=EXIT_CODES)
    commands = parser.add_subparsers(dest="command", required=True)
    update = commands.add_parser("sync", help="bring the map up to date", epilog=EXIT_CODES)
    update.add_argument("--inventory", type=Path, required=True, help="JSON list that Ansible wrote")
    update.add_argument("--overrides", type=Path, required=True, help="JSON made on site; may be absent")
    update.add_argument(
        "--api", type=_api, required=True, help="govee2mqtt, e.g. http://127.0.0.1:8056, or none"
    )
    update.add_argument("--out", type=Path, required=True, help="folder of devices.json and models.json")
    update.add_argument("--state", type=Path, default=STATE, help="folder of state and status.json")
    update.add_argument("--json", action="store_true", help="print status.json instead of one line")
    update.add_argument(
        "--reload",
        nargs=argparse.REMAINDER,
        default=[],
        metavar="CMD",
        help="command that lets Telegraf reload, run when devices.json changed; must come last",
    )
    show = commands.add_parser("show", help="print the map of the last good run")
    show.add_argument("--state", type=Path, default=STATE, help="folder of state and status.json")
    return parser


def _api(text: str) -> str | None:
    if text == "none":
        return None
    if not text.startswith(("http://", "https://")):
        raise argparse.ArgumentTypeError(f"{text!r}: write http://HOST:PORT or none")
    return text


def _sync(options: argparse.Namespace) -> int:
    status = sync(
        Paths(
            inventory=options.inventory,
            overrides=options.overrides,
            out=options.out,
            state=options.state,
            api_url=options.api,
            reload=tuple(options.reload),
        )
    )
    sys.stdout.write((json.dumps(asdict(status)) if options.json else _sentence(status)) + "\n")
    return 1 if status.error else 0


def _sentence(status: Status) -> str:
    if status.error:
        return f"problem: {status.error}"
    what = f"changed {', '.join(status.changed)}" if status.changed else "no change"
    reload = ", Telegraf reloaded" if status.reloaded else ""
    return f"{what}{reload}; {status.counts['devices']} devices; govee2mqtt: {status.api}"


def _show(options: argparse.Namespace) -> int:
    devices = State(options.state).map()
    sys.stdout.write(_table(devices) if devices else "no map yet: run sync\n")
    return 0


def _table(devices: Sequence[Device]) -> str:
    rows = [("id", "name", "room", "model", "cloud id", "source")]
    rows += [(d.id, d.name, d.room, d.model, " ".join(d.cloud_ids), d.source) for d in devices]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "".join(line.rstrip() + "\n" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
