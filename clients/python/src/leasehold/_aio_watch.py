"""A task as it is, and whatever becomes of it: as `watch`, with `async for`."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from types import TracebackType

from . import _calls
from ._aio_transport import AioTransport
from ._transport import closed
from ._watching import Watching
from .errors import LeaseholdError
from .models import TaskInfo


class AsyncWatch(AsyncIterator[TaskInfo]):
    """As `Watch`, with `async for`. Whoever is cancelled while it waits can go on with it later."""

    def __init__(
        self, transport: AioTransport, task_id: str, see: Callable[[TaskInfo], object]
    ) -> None:
        self._transport = transport
        self._call = _calls.watch(task_id)
        self._see = see
        self._watching = Watching(transport.tries(self._call).wait_after, random.random)
        self._is_closed = False
        self._answers: AsyncGenerator[TaskInfo, None] | None = None

    async def __anext__(self) -> TaskInfo:
        while True:
            if self._watching.is_over:
                raise StopAsyncIteration
            if self._is_closed:
                raise closed()
            info: TaskInfo | None = None
            error: LeaseholdError | None = None
            try:
                if self._answers is None:
                    self._answers = self._transport.stream(self._call)
                info = await anext(self._answers, None)
            except LeaseholdError as failure:
                error = failure
            except BaseException:
                # What waited was cancelled, and the call with it.
                self._answers = None
                raise
            if info is None:
                self._answers = None
                await asyncio.sleep(self._watching.lose(error))
            elif self._watching.hear(info):
                if info.state.is_ended:
                    await self._hang_up()
                self._see(info)
                return info

    async def aclose(self) -> None:
        """Hears no more."""
        self._is_closed = True
        await self._hang_up()

    async def __aenter__(self) -> AsyncWatch:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def _hang_up(self) -> None:
        answers, self._answers = self._answers, None
        if answers is not None:
            await answers.aclose()
