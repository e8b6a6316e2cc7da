"""A task as it is, and whatever becomes of it, as its user hears it."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from types import TracebackType

from . import _calls
from ._transport import Answers, Transport, closed
from ._watching import Watching
from .errors import LeaseholdError
from .models import TaskInfo

__all__ = ["Watch"]


class Watch(Iterator[TaskInfo]):
    """The task as it is, then again whenever it or one above it changed; its end is the last of it.

    Where the broker stops or is away it is watched again, and the next thing told is what was missed. What the first
    answer costs is bound by the client's `timeout`; after it, an error means that nothing more will be told: the task
    is not the caller's any more, or this was closed. For one reader.
    """

    def __init__(
        self, transport: Transport, task_id: str, see: Callable[[TaskInfo], object]
    ) -> None:
        self._transport = transport
        self._call = _calls.watch(task_id)
        self._see = see
        self._watching = Watching(transport.tries(self._call).wait_after, random.random)
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._answers: Answers[TaskInfo] | None = None

    def __next__(self) -> TaskInfo:
        while True:
            if self._watching.is_over:
                raise StopIteration
            error: LeaseholdError | None = None
            try:
                info = next(self._open(), None)
            except LeaseholdError as failure:
                info, error = None, failure
            if self._stop.is_set():
                self._hang_up()
                raise closed()
            if info is None:
                self._hang_up()
                self._stop.wait(self._watching.lose(error))
            elif self._watching.hear(info):
                if info.state.is_ended:
                    self._hang_up()
                self._see(info)
                return info

    def close(self) -> None:
        """Hears no more; whoever waits for what comes next gets an error. Also from another thread."""
        self._stop.set()
        self._hang_up()

    def __enter__(self) -> Watch:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _open(self) -> Answers[TaskInfo]:
        with self._lock:
            if self._stop.is_set():
                raise closed()
            if self._answers is None:
                self._answers = self._transport.stream(self._call)
            return self._answers

    def _hang_up(self) -> None:
        with self._lock:
            answers, self._answers = self._answers, None
        if answers is not None:
            answers.close()
