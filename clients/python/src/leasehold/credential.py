"""A task's credential, as its user holds it: always a living one, and never in anything that is printed."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import ssl
import threading
import time
import weakref
from types import TracebackType

from . import _clock
from ._renewal import (
    LEASE_IS_OVER,
    IssuedCredential,
    Proof,
    Renewal,
    Terms,
    release_call,
)
from ._tls import client_context
from ._transport import Transport, closed
from .errors import LeaseholdError, UnavailableError

__all__ = ["Credential", "IssuedCredential", "Proof"]

log = logging.getLogger("leasehold")


class Credential:
    """Keeps a credential of a task alive: renews it in the background, until the task ends or this is closed.

    Safe to share between threads. As a context manager it gives the lease back at the end.
    """

    def __init__(self, transport: Transport, terms: Terms) -> None:
        self._transport = transport
        self._renewal = Renewal(terms, random.random)
        self._lock = threading.Lock()
        self._renewing = threading.Lock()
        self._wake = threading.Event()
        with self._renewing:
            self._renew()
        weakref.finalize(self, self._wake.set)
        # The thread holds no reference: who forgets a credential without closing it keeps nothing alive.
        name = f"leasehold {terms.audience}"
        arguments = (weakref.ref(self), self._wake)
        threading.Thread(target=_keep_alive, args=arguments, name=name, daemon=True).start()

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
        with self._lock:
            return self._renewal.end

    def current(self) -> IssuedCredential:
        """One that lives: token and certificate that belong together. Renewed first if the latest has died.

        Raises `TaskEndedError` when the task has ended, and whatever else keeps the broker from issuing.
        """
        found = self._usable()
        if found is not None:
            return found
        with self._renewing:
            return self._usable() or self._renew()

    def token(self) -> str:
        """The token of `current`."""
        return self.current().token

    def headers(
        self, method: str | None = None, url: str | None = None, *, nonce: str | None = None
    ) -> dict[str, str]:
        """The headers by which a request shows it: those of `current`, see `IssuedCredential.headers`."""
        return self.current().headers(method, url, nonce=nonce)

    def ssl_context(self, ca: str | os.PathLike[str] | None = None) -> ssl.SSLContext:
        """TLS that shows the certificate of `current`, towards servers that the CA vouches for.

        Without a CA: the machine's roots.
        For connections that are made soon: after a renewal another certificate may belong to the token.
        """
        return client_context(ca, self.current().key_pair)

    def refresh(self) -> IssuedCredential:
        """Gets a new one now: after the task changed, without waiting for a server to say so."""
        with self._renewing:
            self._usable()
            return self._renew()

    def replace(self, refused: IssuedCredential) -> IssuedCredential | None:
        """Another one than a server has refused; none if the broker is away.

        Raises `TaskEndedError` and the like if that is why it was refused.
        """
        with self._renewing:
            latest = self._usable()
            if latest is not None and latest is not refused:
                return latest
            with self._lock:
                wait = self._renewal.replace_in(_clock.now())
            time.sleep(wait)
            try:
                return self._renew()
            except UnavailableError:
                return None

    def release(self) -> None:
        """Gives the lease back: its credentials die. It is no error if it is over already."""
        self.close()
        with self._renewing, self._lock:
            lease = self._renewal.give_up_lease()
        if lease is None:
            return
        try:
            self._transport.send(release_call(lease))
        except LeaseholdError as error:
            if error.reason not in LEASE_IS_OVER:
                raise

    def close(self) -> None:
        """Stops renewing. What was issued lives to its end; `release` ends it."""
        with self._lock:
            self._renewal.stop(closed())
        self._wake.set()

    def __enter__(self) -> Credential:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # What went wrong inside matters more than a lease that ends by itself.
        with contextlib.suppress(LeaseholdError):
            self.release()

    def __repr__(self) -> str:
        return f"Credential(task_id={self.task_id!r}, audience={self.audience!r}, token=[hidden])"

    def _usable(self) -> IssuedCredential | None:
        with self._lock:
            return self._renewal.usable(_clock.now())

    def _renew(self) -> IssuedCredential:
        """Asks the broker. Whoever calls holds `_renewing`."""
        while True:
            with self._lock:
                attempt = self._renewal.attempt()
            asked_at = _clock.now()
            try:
                answer, pair = self._transport.send_as(attempt.call)
            except LeaseholdError as error:
                with self._lock:
                    again = self._renewal.failed(attempt, error, _clock.now())
                if not again:
                    raise
                continue
            with self._lock:
                issued = self._renewal.took(attempt, answer, pair, asked_at)
            log.debug("lease %s lives until %s", issued.lease_id, issued.expires_at.isoformat())
            return issued

    def _tick(self) -> float | None:
        """Renews if that is due. How long to wait after that; nothing if there is nothing to wait for."""
        with self._renewing:
            if self.error is None and self._wait() <= 0:
                try:
                    self._renew()
                except LeaseholdError as error:
                    # Transitions are told, not every try.
                    level = logging.WARNING if self._renewal.failures == 1 else logging.DEBUG
                    log.log(level, "no renewal for `%s`: %s", self.audience, error)
            return None if self.error is not None else max(self._wait(), 0.0)

    def _wait(self) -> float:
        with self._lock:
            return self._renewal.due_at - _clock.now()


def _keep_alive(reference: weakref.ref[Credential], wake: threading.Event) -> None:
    while True:
        credential = reference()
        if credential is None:
            return
        wait = credential._tick()  # noqa: SLF001
        del credential
        if wait is None:
            return
        wake.wait(wait)
