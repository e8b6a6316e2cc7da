"""How much time has passed: no clock that somebody sets, and none that stops while the machine sleeps."""

from __future__ import annotations

import time

_BOOT = getattr(time, "CLOCK_BOOTTIME", None)


def now() -> float:
    """Seconds since some instant."""
    if _BOOT is not None:
        return time.clock_gettime(_BOOT)
    return time.monotonic()
