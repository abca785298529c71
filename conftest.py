"""For pytest: without this the folder `lab/` would pass for the package `lab` in `lab/src`."""

import lab  # noqa: F401  importing it is the point
