"""When to renew, and when to try again: pure functions, so that the instants can be tested."""

from __future__ import annotations

__all__ = ["beat_in", "renew_in", "retry_in"]

#: No renewal follows another sooner, however short the life.
_SOONEST = 1.0
_FIRST_RETRY = 0.5
_LAST_RETRY = 30.0
_MOST_DOUBLINGS = 10


def renew_in(life: float, *, extensible: bool, random: float) -> float:
    """How many seconds after a credential was asked for the next one is due.

    At two thirds of its `life`, up to a tenth of it earlier so that many do not ask at once; and at its end where
    asking earlier gains nothing (`extensible` is false where the task's deadline or the lease's ceiling set the end).
    `random` is in [0, 1).
    """
    due = life * (2 / 3 - random / 10) if extensible else life
    return max(due, _SOONEST)


def retry_in(
    failures: int, *, random: float, asked: float = 0.0, first: float = _FIRST_RETRY
) -> float:
    """How many seconds to wait after the `failures`-th failure in a row.

    Twice as long each time, up to half a minute, half of it left to chance; never less than the broker `asked` for.
    """
    most = min(first * 2.0 ** min(max(failures - 1, 0), _MOST_DOUBLINGS), _LAST_RETRY)
    return max(most * (0.5 + random / 2), asked)


def beat_in(interval: float) -> float:
    """How many seconds lie between heartbeats, so that each comes within the `interval` that is promised."""
    return interval / 2
