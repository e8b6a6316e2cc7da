"""The way in: a broker, who we are, and the tasks there."""

from __future__ import annotations

import logging
import os
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from types import TracebackType

from . import _calls
from ._calls import RequestId
from ._heartbeats import Heartbeats
from ._renewal import Proof, Terms, token_terms
from ._times import Length
from ._transport import Transport, way_of
from .credential import Credential
from .dpop import DpopKey
from .enforcement import Enforcement, Revocation, Waiting
from .errors import LeaseholdError, TaskEndedError
from .grant import Grant
from .identity import Identity
from .models import ChangedTask, Introspection, TaskInfo, TaskState
from .watch import Watch

__all__ = ["Client", "Task"]

log = logging.getLogger("leasehold")
DEFAULT_TIMEOUT = 10.0


class Client:
    """A broker, as one caller sees it. Safe to share between threads.

    What is left out comes from the environment, by the names that the command line uses: `LEASEHOLD_BROKER`,
    `LEASEHOLD_CA`, and `LEASEHOLD_CERT` with `LEASEHOLD_KEY`, or `LEASEHOLD_TOKEN_FILE`.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        ca: str | os.PathLike[str] | None = None,
        identity: Identity | None = None,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> None:
        """`ca`: the PEM of the CA that issued the broker's certificate.

        `timeout`: how many seconds a call may take, tries and waits together.
        """
        self._transport = Transport(way_of(address, ca, identity), timeout)
        self._credentials: weakref.WeakSet[Credential] = weakref.WeakSet()

    @property
    def address(self) -> str:
        """Where the broker is."""
        return self._transport.way.address

    def begin(
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
    ) -> Task:
        """Begins a task for an agent. For orchestrators.

        `agent`: a principal, or the pattern of one agent class. `grant`: what its credentials may at most allow, such
        as `{"https://ledger.example": ["read"]}`. When it ends by itself: exactly one of `deadline` and `duration`
        (seconds or a `timedelta`). After three missed heartbeats the tier's `on_silence` acts; `Task.heartbeat` sends
        one.
        """
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
        return Task(self, self._transport, self._transport.send(_calls.begin(tier, terms)))

    @contextmanager
    def task(
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
    ) -> Iterator[Task]:
        """Begins a task as `begin` does, and ends it with the block: completed at its end, failed by an exception.

        With `heartbeat_interval` the heartbeats are sent until then. The record of a failed task names the exception's
        class alone, since its message may hold a secret. `wait_for` and `wait_timeout` say what its end waits for, as
        those of `Task.complete`; a warning names who is missing, and `task.revocation` has it.
        """
        waiting = Waiting(wait_for, wait_timeout)
        waiting.fields()
        task = self.begin(
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
        with Heartbeats(task.id, task.info.heartbeat_interval, task.heartbeat):
            try:
                yield task
            except BaseException as error:
                _fail(task, error, waiting)
                raise
            if not task.ended_here:
                task.complete(wait_for=wait_for, wait_timeout=wait_timeout)
                waiting.tell(task.id, task.revocation)

    def get(self, task_id: str) -> Task:
        """A task that somebody else began. For its orchestrators, its agent, and operators."""
        return Task(self, self._transport, self._transport.send(_calls.get(task_id)))

    def watch(self, task_id: str) -> Watch:
        """A task that somebody else began, as it is, then each change of it, its end last. For whoever may `get` it.

        ```python
        for info in client.watch(task_id):
            print(info.state, info.epoch)
        ```
        """
        return Watch(self._transport, task_id, lambda _: None)

    def list(self, *, state: TaskState | None = None) -> Iterator[TaskInfo]:
        """The tasks that we may see."""
        token: str | None = ""
        while token is not None:
            page, following = self._transport.send(_calls.list_page(state, token))
            yield from page
            token = following or None

    def credential(
        self,
        task_id: str,
        audience: str,
        *,
        grant: Grant | None = None,
        ttl: Length | None = None,
        proof: Proof | DpopKey | None = None,
        expected_epoch: int | None = None,
    ) -> Credential:
        """Gets a token for one resource, and renews it for as long as the task lives.

        For the task's agent. `grant`: what it shall allow, within the task's; default: all that the task's says of the
        audience. `proof`: what it is bound to, the `"certificate"` that we call with (default, where we have one), a
        fresh `"key"` for which the broker signs a certificate, a fresh key that signs a proof for every request
        (`"dpop"`; or such a `DpopKey`), or nothing (`"bearer"`, only where the tier allows it).
        """
        identity = self._transport.way.identity
        more = (task_id, audience, grant, ttl, expected_epoch)
        return self._keep(token_terms(*more, proof=proof, identity=identity))

    def certificate(
        self,
        task_id: str,
        audience: str = "",
        *,
        grant: Grant | None = None,
        ttl: Length | None = None,
        expected_epoch: int | None = None,
    ) -> Credential:
        """Gets an X.509-SVID for a fresh key, and renews it while the task lives. For the task's agent."""
        terms = Terms(task_id, "certificate", audience, grant, ttl, expected_epoch, "key")
        return self._keep(terms)

    def introspect(
        self, token: str | None = None, *, certificate: bytes | None = None
    ) -> Introspection:
        """Asks whether a token, or a certificate in DER, is active now. For the verifier that its audience names."""
        return self._transport.send(_calls.introspect(token, certificate))

    def close(self) -> None:
        """Stops renewing what was issued through it, and closes its connection."""
        for credential in list(self._credentials):
            credential.close()
        self._transport.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({self.address!r})"

    def _keep(self, terms: Terms) -> Credential:
        credential = Credential(self._transport, terms)
        self._credentials.add(credential)
        return credential


class Task:
    """One task: the orchestrator drives it, the agent gets its credentials."""

    #: How far the last change by this object was that killed its credentials; None before there was one.
    revocation: Revocation | None = None

    def __init__(self, client: Client, transport: Transport, info: TaskInfo) -> None:
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

    def refresh(self) -> TaskInfo:
        """Asks how it stands."""
        return self._send(_calls.get(self.id))

    def watch(self) -> Watch:
        """As it is, then again whenever it or one above it changed, its end last."""
        return Watch(self._transport, self.id, self._see)

    def wait_ended(self) -> TaskInfo:
        """Waits until it has ended, by whomever, and gives it as it is then: stop then. For a thread of its own.

        Raises if nobody will tell any more: the task is not the caller's, or the client was closed.
        """
        for _ in self.watch():
            pass
        return self.info

    def advance(
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
        """Says that it changed: its credentials die, and it goes on in a new epoch. What is left out stays as it is.

        `agent` hands it to another one. Children end unless `keep_children` is set, which is refused when grant or
        agent change. `expected_epoch`: the epoch that is changed; default: as this object last saw it. `wait_for` and
        `wait_timeout`: as those of `complete`.
        """
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
        return self._change(call)

    def suspend(
        self,
        reason: str = "",
        *,
        wait_for: Enforcement = Enforcement.FENCED,
        wait_timeout: Length | None = None,
        request_id: RequestId = None,
    ) -> ChangedTask:
        """Stops it and all below it; its credentials die; it can go on. Waits as `complete` does."""
        waiting = Waiting(wait_for, wait_timeout)
        return self._change(_calls.suspend(self.id, reason, request_id, waiting))

    def resume(
        self, *, expected_epoch: int | None = None, request_id: RequestId = None
    ) -> TaskInfo:
        """Lets it go on after a suspension."""
        return self._send(_calls.resume(self.info, expected_epoch, request_id))

    def complete(
        self,
        reason: str = "",
        *,
        wait_for: Enforcement = Enforcement.FENCED,
        wait_timeout: Length | None = None,
        request_id: RequestId = None,
    ) -> ChangedTask:
        """Ends it as done.

        Once this has returned, nothing of it is issued, and of nothing issued does the broker say that it is active.
        `wait_for`: how far it is to be before this returns. FENCED: no verifier that follows the feed accepts its
        credentials any more; DRAINED: nothing runs any more that one had let in; RECORDED: no more than that.
        `wait_timeout`: for how long at most, up to a minute; default: until FENCED is certain, and 10 seconds for
        DRAINED. What is not reached by then is no error: the ending stands, and `revocation` says how far it is, who is
        missing, and until when. The wait comes on top of the client's `timeout`.
        """
        waiting = Waiting(wait_for, wait_timeout)
        return self._end(_calls.complete(self.id, reason, request_id, waiting))

    def fail(
        self,
        reason: str = "",
        *,
        wait_for: Enforcement = Enforcement.FENCED,
        wait_timeout: Length | None = None,
        request_id: RequestId = None,
    ) -> ChangedTask:
        """Ends it as failed. Waits as `complete` does."""
        waiting = Waiting(wait_for, wait_timeout)
        return self._end(_calls.fail(self.id, reason, request_id, waiting))

    def cancel(
        self,
        reason: str = "",
        *,
        wait_for: Enforcement = Enforcement.FENCED,
        wait_timeout: Length | None = None,
        request_id: RequestId = None,
    ) -> ChangedTask:
        """Ends it as not wanted any more. Waits as `complete` does."""
        waiting = Waiting(wait_for, wait_timeout)
        return self._end(_calls.cancel(self.id, reason, request_id, waiting))

    def heartbeat(self) -> datetime:
        """Says that the orchestrator is still there. Answers when silence acts if no further one comes."""
        return self._transport.send(_calls.heartbeat(self.id))

    def delegate(
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
    ) -> Task:
        """Begins a child for another agent, with no more than this one has; tier and deadline by default this one's."""
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
        return Task(self._client, self._transport, self._transport.send(call))

    def credential(
        self,
        audience: str,
        *,
        grant: Grant | None = None,
        ttl: Length | None = None,
        proof: Proof | DpopKey | None = None,
        expected_epoch: int | None = None,
    ) -> Credential:
        """As `Client.credential`, for this task."""
        return self._client.credential(
            self.id, audience, grant=grant, ttl=ttl, proof=proof, expected_epoch=expected_epoch
        )

    def certificate(
        self,
        audience: str = "",
        *,
        grant: Grant | None = None,
        ttl: Length | None = None,
        expected_epoch: int | None = None,
    ) -> Credential:
        """As `Client.certificate`, for this task."""
        return self._client.certificate(
            self.id, audience, grant=grant, ttl=ttl, expected_epoch=expected_epoch
        )

    def __repr__(self) -> str:
        return f"Task({self.id!r}, state={self.state.value!r}, epoch={self.epoch})"

    def _send(self, call: _calls.TaskCall) -> TaskInfo:
        self.info = self._transport.send(call)
        return self.info

    def _change(self, call: _calls.ChangeCall) -> ChangedTask:
        changed = self._transport.send(call)
        self.info, self.revocation = changed, changed.revocation
        return changed

    def _end(self, call: _calls.ChangeCall) -> ChangedTask:
        changed = self._change(call)
        self.ended_here = True
        return changed

    def _see(self, info: TaskInfo) -> None:
        self.info = info


def _fail(task: Task, error: BaseException, waiting: Waiting) -> None:
    """Fails a task whose block was left by an exception, which matters more than what goes wrong here."""
    if task.ended_here:
        return
    try:
        reason = type(error).__name__
        task.fail(reason, wait_for=waiting.wait_for, wait_timeout=waiting.timeout)
        waiting.tell(task.id, task.revocation)
    except TaskEndedError:
        pass
    except LeaseholdError as failure:
        log.error("task %s could not be failed: %s", task.id, failure)  # noqa: TRY400
