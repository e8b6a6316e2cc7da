"""Says in the background that an orchestrator is still there."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import timedelta

from .errors import LeaseholdError, TaskEndedError
from .schedule import beat_in

log = logging.getLogger("leasehold")


class Heartbeats:
    """Sends heartbeats while a block runs, if its task expects any."""

    def __init__(
        self, task_id: str, interval: timedelta | None, beat: Callable[[], object]
    ) -> None:
        self._task_id = task_id
        self._interval = interval
        self._beat = beat
        self._stop = threading.Event()

    def __enter__(self) -> None:
        if self._interval is not None:
            name, arguments = f"leasehold heartbeats of {self._task_id}", (self._interval,)
            threading.Thread(target=self._run, args=arguments, name=name, daemon=True).start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()

    def _run(self, interval: timedelta) -> None:
        while not self._stop.wait(beat_in(interval.total_seconds())):
            try:
                self._beat()
            except TaskEndedError:
                return
            except LeaseholdError as error:
                if not self._stop.is_set():
                    log.warning("no heartbeat for task %s: %s", self._task_id, error)
