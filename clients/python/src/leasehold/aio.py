"""The way in, with `await`: as `client`, for one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import weakref
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from types import TracebackType

from . import _calls
from ._aio_credential import AsyncCredential
from ._aio_transport import AioTransport
from ._aio_watch import AsyncWatch
from ._calls import RequestId
from ._renewal import Proof, Terms, token_terms
from ._times import Length
from ._transport import way_of
from .client import DEFAULT_TIMEOUT
from .dpop import DpopKey
from .enforcement import Enforcement, Revocation, Waiting
from .errors import LeaseholdError, TaskEndedError
from .grant import Grant
from .identity import Identity
from .models import ChangedTask, Introspection, TaskInfo, TaskState
from .schedule import beat_in

__all__ = ["AsyncClient", "AsyncTask"]

log = logging.getLogger("leasehold")


class AsyncClient:
    """As `Client`, with `await`. For one event loop."""

    def __init__(
        self,
        address: str | None = None,
        *,
        ca: str | os.PathLike[str] | None = None,
        identity: Identity | None = None,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> None:
        """As that of `Client`."""
        self._transport = AioTransport(way_of(address, ca, identity), timeout)
        self._credentials: weakref.WeakSet[AsyncCredential] = weakref.WeakSet()

    @property
    def address(self) -> str:
        """Where the broker is."""
        return self._transport.way.address

    async def begin(
        self,
        *,
        agent: str,
        grant: Grant,
        tier: str,
        duration: Length | None = None,
        deadline: datetime | None = None,
        purpose: str = "",
        owner: str = "",
        labels: Mapping[str, str] | None = None,
        heartbeat_interval: Length | None = None,
        step: str = "",
        checkpoint: bytes = b"",
        instances: int = 0,
        request_id: RequestId = None,
    ) -> AsyncTask:
        """As `Client.begin`."""
        terms = _calls.new_task(
            agent=agent,
            grant=grant,
            purpose=purpose,
            owner=owner,
            labels=labels,
            deadline=deadline,
            duration_=duration,
            heartbeat_interval=heartbeat_interval,
            step=step,
            checkpoint=checkpoint,
            instances=instances,
            request_id=request_id,
        )
        return AsyncTask(
            self, self._transport, await self._transport.send(_calls.begin(tier, terms))
        )

    @asynccontextmanager
    async def task(
        self,
        *,
        agent: str,
        grant: Grant,
        tier: str,
        duration: Length | None = None,
        deadline: datetime | None = None,
        purpose: str = "",
        owner: str = "",
        labels: Mapping[str, str] | None = None,
        heartbeat_interval: Length | None = None,
        step: str = "",
        checkpoint: bytes = b"",
        instances: int = 0,
        wait_for: Enforcement = Enforcement.FENCED,
        wait_timeout: Length | None = None,
    ) -> AsyncIterator[AsyncTask]:
        """As `Client.task`."""
        waiting = Waiting(wait_for, wait_timeout)
        waiting.fields()
        task = await self.begin(
            agent=agent,
            grant=grant,
            tier=tier,
            duration=duration,
            deadline=deadline,
            purpose=purpose,
            owner=owner,
            labels=labels,
            heartbeat_interval=heartbeat_interval,
            step=step,
            checkpoint=checkpoint,
            instances=instances,
        )
        async with _heartbeats(task):
            try:
                yield task
            except BaseException as error:
                await _fail(task, error, waiting)
                raise
            if not task.ended_here:
                await task.complete(wait_for=wait_for, wait_timeout=wait_timeout)
                waiting.tell(task.id, task.revocation)

    async def get(self, task_id: str) -> AsyncTask:
        """A task that somebody else began. For its orchestrators, its agent, and operators."""
        return AsyncTask(self, self._transport, await self._transport.send(_calls.get(task_id)))

    def watch(self, task_id: str) -> AsyncWatch:
        """As `Client.watch`, for `async for`."""
        return AsyncWatch(self._transport, task_id, lambda _: None)

    async def list(self, *, state: TaskState | None = None) -> AsyncIterator[TaskInfo]:
        """The tasks that we may see."""
        token: str | None = ""
        while token is not None:
            page, following = await self._transport.send(_calls.list_page(state, token))
            for task in page:
                yield task
            token = following or None

    async def credential(
        self,
        task_id: str,
        audience: str,
        *,
        grant: Grant | None = None,
        ttl: Length | None = None,
        proof: Proof | DpopKey | None = None,
        expected_epoch: int | None = None,
    ) -> AsyncCredential:
        """As `Client.credential`."""
        identity = self._transport.way.identity
        more = (task_id, audience, grant, ttl, expected_epoch)
        return await self._keep(token_terms(*more, proof=proof, identity=identity))

    async def certificate(
        self,
        task_id: str,
        audience: str = "",
        *,
        grant: Grant | None = None,
        ttl: Length | None = None,
        expected_epoch: int | None = None,
    ) -> AsyncCredential:
        """As `Client.certificate`."""
        terms = Terms(task_id, "certificate", audience, grant, ttl, expected_epoch, "key")
        return await self._keep(terms)

    async def introspect(
        self, token: str | None = None, *, certificate: bytes | None = None
    ) -> Introspection:
        """As `Client.introspect`."""
        return await self._transport.send(_calls.introspect(token, certificate))

    async def aclose(self) -> None:
        """Stops renewing what was issued through it, and closes its connection."""
        for credential in list(self._credentials):
            credential.close()
        await self._transport.aclose()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"AsyncClient({self.address!r})"

    async def _keep(self, terms: Terms) -> AsyncCredential:
        credential = AsyncCredential(self._transport, terms)
        await credential._begin()  # noqa: SLF001
        self._credentials.add(credential)
        return credential


class AsyncTask:
    """One task: the orchestrator drives it, the agent gets its credentials."""

    #: How far the last change by this object was that killed its credentials; None before there was one.
    revocation: Revocation | None = None

    def __init__(self, client: AsyncClient, transport: AioTransport, info: TaskInfo) -> None:
        self._client = client
        self._transport = transport
        #: As the broker last told it.
        self.info = info
        #: Whether it was ended by this object, and not by somebody else.
        self.ended_here = False

    @property
    def id(self) -> str:
        """Its name. It is no secret, and no right to anything."""
        return self.info.id

    @property
    def state(self) -> TaskState:
        """As the broker last told it."""
        return self.info.state

    @property
    def epoch(self) -> int:
        """As the broker last told it."""
        return self.info.epoch

    async def refresh(self) -> TaskInfo:
        """Asks how it stands."""
        return await self._send(_calls.get(self.id))

    def watch(self) -> AsyncWatch:
        """As `Task.watch`, for `async for`."""
        return AsyncWatch(self._transport, self.id, self._see)

    async def wait_ended(self) -> TaskInfo:
        """Waits until it has ended, by whomever, and gives it as it is then: stop then.

        Raises if nobody will tell any more: the task is not the caller's, or the client was closed.
        """
        async with self.watch() as watch:
            async for _ in watch:
                pass
        return self.info

    async def advance(
        self,
        *,
        grant: Grant | None = None,
        step: str | None = None,
        checkpoint: bytes | None = None,
        agent: str | None = None,
        keep_children: bool = False,
        expected_epoch: int | None = None,
        wait_for: Enforcement = Enforcement.FENCED,
        wait_timeout: Length | None = None,
        request_id: RequestId = None,
    ) -> ChangedTask:
        """As `Task.advance`."""
        call = _calls.advance(
            self.info,
            grant=grant,
            step=step,
            checkpoint=checkpoint,
            agent=agent,
            keep_children=keep_children,
            expected_epoch=expected_epoch,
            request_id=request_id,
            waiting=Waiting(wait_for, wait_timeout),
        )
        return await self._change(call)

    async def suspend(
        self,
        reason: str = "",
        *,
        wait_for: Enforcement = Enforcement.FENCED,
        wait_timeout: Length | None = None,
        request_id: RequestId = None,
    ) -> ChangedTask:
        """As `Task.suspend`."""
        waiting = Waiting(wait_for, wait_timeout)
        return await self._change(_calls.suspend(self.id, reason, request_id, waiting))

    async def resume(
        self, *, expected_epoch: int | None = None, request_id: RequestId = None
    ) -> TaskInfo:
        """As `Task.resume`."""
        return await self._send(_calls.resume(self.info, expected_epoch, request_id))

    async def complete(
        self,
        reason: str = "",
        *,
        wait_for: Enforcement = Enforcement.FENCED,
        wait_timeout: Length | None = None,
        request_id: RequestId = None,
    ) -> ChangedTask:
        """As `Task.complete`."""
        waiting = Waiting(wait_for, wait_timeout)
        return await self._end(_calls.complete(self.id, reason, request_id, waiting))

    async def fail(
        self,
        reason: str = "",
        *,
        wait_for: Enforcement = Enforcement.FENCED,
        wait_timeout: Length | None = None,
        request_id: RequestId = None,
    ) -> ChangedTask:
        """As `Task.fail`."""
        waiting = Waiting(wait_for, wait_timeout)
        return await self._end(_calls.fail(self.id, reason, request_id, waiting))

    async def cancel(
        self,
        reason: str = "",
        *,
        wait_for: Enforcement = Enforcement.FENCED,
        wait_timeout: Length | None = None,
        request_id: RequestId = None,
    ) -> ChangedTask:
        """As `Task.cancel`."""
        waiting = Waiting(wait_for, wait_timeout)
        return await self._end(_calls.cancel(self.id, reason, request_id, waiting))

    async def heartbeat(self) -> datetime:
        """Says that the orchestrator is still there. Answers when silence acts if no further one comes."""
        return await self._transport.send(_calls.heartbeat(self.id))

    async def delegate(
        self,
        *,
        agent: str,
        grant: Grant,
        tier: str = "",
        duration: Length | None = None,
        deadline: datetime | None = None,
        purpose: str = "",
        owner: str = "",
        labels: Mapping[str, str] | None = None,
        heartbeat_interval: Length | None = None,
        step: str = "",
        checkpoint: bytes = b"",
        instances: int = 0,
        expected_epoch: int | None = None,
        request_id: RequestId = None,
    ) -> AsyncTask:
        """As `Task.delegate`."""
        terms = _calls.new_task(
            agent=agent,
            grant=grant,
            purpose=purpose,
            owner=owner,
            labels=labels,
            deadline=deadline,
            duration_=duration,
            heartbeat_interval=heartbeat_interval,
            step=step,
            checkpoint=checkpoint,
            instances=instances,
            request_id=request_id,
        )
        call = _calls.delegate(self.info, expected_epoch, tier, terms)
        return AsyncTask(self._client, self._transport, await self._transport.send(call))

    async def credential(
        self,
        audience: str,
        *,
        grant: Grant | None = None,
        ttl: Length | None = None,
        proof: Proof | DpopKey | None = None,
        expected_epoch: int | None = None,
    ) -> AsyncCredential:
        """As `AsyncClient.credential`, for this task."""
        return await self._client.credential(
            self.id, audience, grant=grant, ttl=ttl, proof=proof, expected_epoch=expected_epoch
        )

    async def certificate(
        self,
        audience: str = "",
        *,
        grant: Grant | None = None,
        ttl: Length | None = None,
        expected_epoch: int | None = None,
    ) -> AsyncCredential:
        """As `AsyncClient.certificate`, for this task."""
        return await self._client.certificate(
            self.id, audience, grant=grant, ttl=ttl, expected_epoch=expected_epoch
        )

    def __repr__(self) -> str:
        return f"AsyncTask({self.id!r}, state={self.state.value!r}, epoch={self.epoch})"

    async def _send(self, call: _calls.TaskCall) -> TaskInfo:
        self.info = await self._transport.send(call)
        return self.info

    async def _change(self, call: _calls.ChangeCall) -> ChangedTask:
        changed = await self._transport.send(call)
        self.info, self.revocation = changed, changed.revocation
        return changed

    async def _end(self, call: _calls.ChangeCall) -> ChangedTask:
        changed = await self._change(call)
        self.ended_here = True
        return changed

    def _see(self, info: TaskInfo) -> None:
        self.info = info


@asynccontextmanager
async def _heartbeats(task: AsyncTask) -> AsyncIterator[None]:
    """Sends heartbeats while a block runs, if the task expects any."""
    interval = task.info.heartbeat_interval
    if interval is None:
        yield
        return
    beating = asyncio.create_task(_beat(task, interval.total_seconds()))
    try:
        yield
    finally:
        beating.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await beating


async def _beat(task: AsyncTask, interval: float) -> None:
    while True:
        await asyncio.sleep(beat_in(interval))
        try:
            await task.heartbeat()
        except TaskEndedError:
            return
        except LeaseholdError as error:
            log.warning("no heartbeat for task %s: %s", task.id, error)


async def _fail(task: AsyncTask, error: BaseException, waiting: Waiting) -> None:
    """Fails a task whose block was left by an exception, which matters more than what goes wrong here."""
    if task.ended_here:
        return
    try:
        reason = type(error).__name__
        await task.fail(reason, wait_for=waiting.wait_for, wait_timeout=waiting.timeout)
        waiting.tell(task.id, task.revocation)
    except TaskEndedError:
        pass
    except LeaseholdError as failure:
        log.error("task %s could not be failed: %s", task.id, failure)  # noqa: TRY400
