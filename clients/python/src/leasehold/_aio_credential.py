"""A task's credential that is kept alive by the event loop: as `credential`, with `await`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import ssl
import weakref
from types import TracebackType

from . import _clock
from ._aio_transport import AioTransport
from ._renewal import (
    LEASE_IS_OVER,
    IssuedCredential,
    Renewal,
    Terms,
    release_call,
)
from ._tls import client_context
from ._transport import closed
from .errors import LeaseholdError, UnavailableError

log = logging.getLogger("leasehold")


class AsyncCredential:
    """As `Credential`, with `await`: renewed by a task of the event loop, until its own task ends or this is closed."""

    def __init__(self, transport: AioTransport, terms: Terms) -> None:
        """Made by `AsyncClient.credential`, which waits for the first token."""
        self._transport = transport
        self._renewal = Renewal(terms, random.random)
        self._renewing = asyncio.Lock()
        self._keeper: asyncio.Task[None] | None = None

    @property
    def task_id(self) -> str:
        """The task that it is for."""
        return self._renewal.terms.task_id

    @property
    def audience(self) -> str:
        """The one resource that it is for."""
        return self._renewal.terms.audience

    @property
    def error(self) -> LeaseholdError | None:
        """Why there will be no further one: the task has ended, the ceiling is reached, or it was closed."""
        return self._renewal.end

    async def current(self) -> IssuedCredential:
        """As `Credential.current`."""
        found = self._usable()
        if found is not None:
            return found
        async with self._renewing:
            return self._usable() or await self._renew()

    async def token(self) -> str:
        """The token of `current`."""
        return (await self.current()).token

    async def headers(
        self, method: str | None = None, url: str | None = None, *, nonce: str | None = None
    ) -> dict[str, str]:
        """The headers by which a request shows it: those of `current`, see `IssuedCredential.headers`."""
        return (await self.current()).headers(method, url, nonce=nonce)

    async def ssl_context(self, ca: str | os.PathLike[str] | None = None) -> ssl.SSLContext:
        """As `Credential.ssl_context`."""
        return client_context(ca, (await self.current()).key_pair)

    async def refresh(self) -> IssuedCredential:
        """As `Credential.refresh`."""
        async with self._renewing:
            self._usable()
            return await self._renew()

    async def replace(self, refused: IssuedCredential) -> IssuedCredential | None:
        """As `Credential.replace`."""
        async with self._renewing:
            latest = self._usable()
            if latest is not None and latest is not refused:
                return latest
            await asyncio.sleep(self._renewal.replace_in(_clock.now()))
            try:
                return await self._renew()
            except UnavailableError:
                return None

    async def release(self) -> None:
        """As `Credential.release`."""
        self.close()
        async with self._renewing:
            lease = self._renewal.give_up_lease()
        if lease is None:
            return
        try:
            await self._transport.send(release_call(lease))
        except LeaseholdError as error:
            if error.reason not in LEASE_IS_OVER:
                raise

    def close(self) -> None:
        """As `Credential.close`."""
        self._renewal.stop(closed())
        if self._keeper is not None:
            self._keeper.cancel()

    async def __aenter__(self) -> AsyncCredential:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # What went wrong inside matters more than a lease that ends by itself.
        with contextlib.suppress(LeaseholdError):
            await self.release()

    def __repr__(self) -> str:
        return (
            f"AsyncCredential(task_id={self.task_id!r}, audience={self.audience!r}, token=[hidden])"
        )

    async def _begin(self) -> None:
        """Gets the first one, and has it kept alive."""
        async with self._renewing:
            await self._renew()
        # The keeper holds no reference: who forgets a credential without closing it keeps nothing alive.
        self._keeper = asyncio.create_task(_keep_alive(weakref.ref(self)))
        weakref.finalize(self, _cancel, asyncio.get_running_loop(), self._keeper).atexit = False

    def _usable(self) -> IssuedCredential | None:
        return self._renewal.usable(_clock.now())

    async def _renew(self) -> IssuedCredential:
        """Asks the broker. Whoever calls holds `_renewing`."""
        while True:
            attempt = self._renewal.attempt()
            asked_at = _clock.now()
            try:
                answer, pair = await self._transport.send_as(attempt.call)
            except LeaseholdError as error:
                if not self._renewal.failed(attempt, error, _clock.now()):
                    raise
                continue
            issued = self._renewal.took(attempt, answer, pair, asked_at)
            log.debug("lease %s lives until %s", issued.lease_id, issued.expires_at.isoformat())
            return issued

    async def _tick(self) -> float | None:
        """Renews if that is due. How long to wait after that; nothing if there is nothing to wait for."""
        async with self._renewing:
            if self.error is None and self._wait() <= 0:
                try:
                    await self._renew()
                except LeaseholdError as error:
                    # Transitions are told, not every try.
                    level = logging.WARNING if self._renewal.failures == 1 else logging.DEBUG
                    log.log(level, "no renewal for `%s`: %s", self.audience, error)
            return None if self.error is not None else max(self._wait(), 0.0)

    def _wait(self) -> float:
        return self._renewal.due_at - _clock.now()


async def _keep_alive(reference: weakref.ref[AsyncCredential]) -> None:
    while True:
        credential = reference()
        wait = None if credential is None else await credential._tick()  # noqa: SLF001
        if wait is None:
            return
        del credential
        await asyncio.sleep(wait)


def _cancel(loop: asyncio.AbstractEventLoop, keeper: asyncio.Task[None]) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(keeper.cancel)
