"""`python -m decoder`: run until SIGTERM. Exit codes: 0 stopped, 2 a setting is missing or wrong."""

import signal
import sys

from decoder.log import log
from decoder.service import Service
from decoder.settings import SettingError, settings_from


def main() -> int:
    """Run the decoder and return its exit code."""
    try:
        settings = settings_from()
    except SettingError as error:
        log("setting_wrong", "error", do=error)
        return 2
    service = Service(settings)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: service.stop())
    log("started", site=settings.site, broker=f"{settings.host}:{settings.port}", map=settings.models_file)
    service.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
