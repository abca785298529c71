"""What a dashboard needs to know of its site."""

from dataclasses import dataclass
from typing import Literal

# A crew looks after a rack or a tent from the first, and acts at the second.
WARM_C = 35.0
HOT_C = 40.0


@dataclass(frozen=True)
class Site:
    """A site: its name, the unit its crew reads, its time zone (IANA), and where its data are."""

    name: str
    temperature_unit: Literal["F", "C"]
    timezone: str
    bucket: str = "sensors"
    datasource_uid: str = "influxdb"

    def __post_init__(self) -> None:
        """Refuse a unit that would silently show Celsius: ValueError."""
        if self.temperature_unit not in {"F", "C"}:
            raise ValueError(f"temperature unit {self.temperature_unit!r}: write F or C")

    def in_unit(self, celsius: float) -> float:
        """Return a temperature in °C as the crew reads it."""
        return celsius * 1.8 + 32.0 if self.temperature_unit == "F" else celsius

    @property
    def grafana_unit(self) -> str:
        """Return Grafana's id of the temperature unit."""
        return "fahrenheit" if self.temperature_unit == "F" else "celsius"
