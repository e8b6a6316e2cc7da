"""What a watch of a task was told, and what to do when it is lost: no clock, no connection.

open ──▶ told ──▶ told … ──▶ it has ended      lost: wait, and open again; what was missed is told first
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from .errors import DeniedError, IdentityError, LeaseholdError, NotFoundError, RequestError
from .models import TaskInfo, TaskState
from .schedule import retry_in

#: Nothing makes it possible to watch again.
_FINAL = (NotFoundError, DeniedError, RequestError)
_FINAL_REASONS = frozenset({"CLOSED", "UNIMPLEMENTED"})


class Watching:
    """One task that is watched for as long as it lives."""

    def __init__(
        self, wait_after: Callable[[LeaseholdError], float | None], random: Callable[[], float]
    ) -> None:
        """`wait_after`: how long a call waits that failed in this way; nothing if it is given up."""
        self._wait_after = wait_after
        self._random = random
        self._told: TaskInfo | None = None
        self._was_let_in = False
        self._failures = 0

    @property
    def is_over(self) -> bool:
        """Whether nothing is to be told any more."""
        return self._told is not None and self._told.state.is_ended

    def hear(self, info: TaskInfo) -> bool:
        """It was told. Whether that is news: a watch that is opened anew begins with what may be known."""
        self._was_let_in, self._failures = True, 0
        told, self._told = self._told, info
        return told is None or replace(told, update_time=info.update_time) != info

    def lose(self, error: LeaseholdError | None) -> float:
        """The watch was lost, or just ended. How long to wait before another; raises if that is of no use."""
        was_let_in, self._was_let_in = self._was_let_in, False
        if error is None:
            error = self._ended()
        if self._told is None:
            # As any other call: nothing was promised yet.
            wait = self._wait_after(error)
            if wait is None:
                raise error
            return wait
        # Whoever was let in and no longer is may have another certificate by now.
        is_unproved = isinstance(error, IdentityError) and not was_let_in
        if is_unproved or isinstance(error, _FINAL) or error.reason in _FINAL_REASONS:
            raise error
        self._failures += 1
        asked = 0.0 if error.retry_after is None else error.retry_after.total_seconds()
        return retry_in(self._failures, random=self._random(), asked=asked)

    def _ended(self) -> LeaseholdError:
        if self._told is not None and self._told.state is TaskState.UNKNOWN:
            # So ends the watch of a task that has ended, and there is no more to hear.
            message = "the task is in a state that this version of the package does not know"
            raise LeaseholdError(message, reason="INTERNAL", remedy="install a newer version")
        return LeaseholdError("the broker ended the watch without a word", reason="INTERNAL")
