"""Command line: `python -m dashboards --site NAME --unit F|C --timezone ZONE --out DIR`."""

import argparse
import json
import sys
from pathlib import Path

from dashboards import Site, environment


def main(arguments: list[str] | None = None) -> int:
    """Write `environment.json` into the folder `--out` and return 0; argparse exits with 2 on wrong usage."""
    parser = argparse.ArgumentParser(prog="dashboards", description=__doc__)
    parser.add_argument("--site", required=True)
    parser.add_argument(
        "--unit", required=True, choices=("F", "C"), help="temperature unit that the crew reads"
    )
    parser.add_argument("--timezone", required=True, help="IANA name, e.g. America/Los_Angeles")
    parser.add_argument("--out", required=True, type=Path, help="existing folder")
    options = parser.parse_args(arguments)
    board = environment(Site(options.site, options.unit, options.timezone))
    (options.out / "environment.json").write_text(json.dumps(board, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
