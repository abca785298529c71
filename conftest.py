"""For all tests."""

from hypothesis import HealthCheck, settings

# Without this the folder `lab/` would pass for the package `lab` in `lab/src`.
import lab  # noqa: F401  importing it is the point

# A loaded machine is no failure.
settings.register_profile("no_clock", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("no_clock")
