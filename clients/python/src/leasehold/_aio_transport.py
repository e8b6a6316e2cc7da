"""Calls over gRPC, with `await`: as `_transport`, for one event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio

from ._rpc import Answer, AnyCall, Call, Result
from ._status import error_of
from ._transport import UNREACHABLE, Tries, Way, closed
from .errors import LeaseholdError
from .identity import KeyPair


class _Line:
    """A connection, and how many are using it."""

    def __init__(self, channel: grpc.aio.Channel, pair: KeyPair | None) -> None:
        self.channel = channel
        self.pair = pair
        self.users = 0
        self.retired = False


class AioTransport:
    """Sends calls."""

    def __init__(self, way: Way, timeout: float) -> None:
        self.way = way
        self._timeout = timeout
        self._line: _Line | None = None
        self._closed = False

    async def send(self, call: AnyCall[Result], timeout: float | None = None) -> Result:
        """The result of a call, tried again while that is worth it."""
        return (await self.send_as(call, timeout))[0]

    async def send_as(
        self,
        call: AnyCall[Result],
        timeout: float | None = None,
    ) -> tuple[Result, KeyPair | None]:
        """The same, and the certificate that the call was made with."""
        tries = self.tries(call, timeout)
        while True:
            try:
                return await self._send(call, tries.left)
            except LeaseholdError as error:
                wait = tries.wait_after(error)
                if wait is None:
                    raise
            await asyncio.sleep(wait)

    async def _send(
        self,
        call: Call[Answer, Result],
        seconds: float,
    ) -> tuple[Result, KeyPair | None]:
        async with self._connected() as line:
            method: Any = line.channel.unary_unary(
                call.rpc.path,
                request_serializer=lambda message: message.SerializeToString(),
                response_deserializer=call.rpc.answer.FromString,
            )
            metadata = self.way.metadata(call)
            try:
                answer = await method(call.request, timeout=seconds, metadata=metadata)
            except grpc.aio.AioRpcError as failure:
                raise self._failed(failure, call, line) from None
            return call.read(answer), line.pair

    def tries(self, call: AnyCall[Any], timeout: float | None = None) -> Tries:
        """How often and how long a call is tried."""
        return Tries(self.way, call, self._timeout if timeout is None else timeout)

    async def stream(self, call: AnyCall[Result]) -> AsyncGenerator[Result, None]:
        """The answers of a call that has any number of them, as they come; tried once.

        The first one comes within the time that a call may take, or none does.
        """
        async with self._connected() as line:
            method: Any = line.channel.unary_stream(
                call.rpc.path,
                request_serializer=lambda message: message.SerializeToString(),
                response_deserializer=call.rpc.answer.FromString,
            )
            answers = method(call.request, metadata=self.way.metadata(call))
            timeout: float | None = self._timeout
            try:
                while True:
                    answer = await asyncio.wait_for(answers.read(), timeout)
                    timeout = None
                    if answer is grpc.aio.EOF:
                        return
                    yield call.read(answer)
            except grpc.aio.AioRpcError as failure:
                raise self._failed(failure, call, line) from None
            except asyncio.TimeoutError:
                code = grpc.StatusCode.DEADLINE_EXCEEDED
                raise error_of(code, None, None, address=self.way.address) from None
            except asyncio.CancelledError:
                # So gRPC says that its connection was closed here.
                if self._closed:
                    raise closed() from None
                raise
            finally:
                answers.cancel()

    def _failed(
        self, failure: grpc.aio.AioRpcError, call: AnyCall[Any], line: _Line
    ) -> LeaseholdError:
        error = error_of(
            failure.code(),
            failure.details(),
            list(failure.trailing_metadata() or ()),
            address=self.way.address,
            request_id=call.request_id,
            shown=line.pair,
        )
        if error.reason == UNREACHABLE:
            # The next call connects anew, without waiting because this one failed.
            line.retired = True
            self._line = None if self._line is line else self._line
        return error

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[_Line]:
        """The connection for the present identity. An earlier one is closed when nobody uses it any more."""
        if self._closed:
            raise closed()
        pair, line = self.way.key_pair(), self._line
        if line is None or line.pair is not pair:
            channel = grpc.aio.secure_channel(
                self.way.target, self.way.credentials(pair), self.way.options
            )
            earlier, line = line, _Line(channel, pair)
            self._line = line
            if earlier is not None:
                earlier.retired = True
                await self._close_unused(earlier)
        line.users += 1
        try:
            yield line
        finally:
            line.users -= 1
            await self._close_unused(line)

    async def _close_unused(self, line: _Line) -> None:
        if line.retired and line.users == 0:
            await line.channel.close()

    async def aclose(self) -> None:
        """Closes the connection."""
        self._closed = True
        line, self._line = self._line, None
        if line is not None:
            await line.channel.close()
