"""What is closed when its block is left."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TypeVar

_Closing = TypeVar("_Closing", bound="Closing")
_AsyncClosing = TypeVar("_AsyncClosing", bound="AsyncClosing")


class Closing(ABC):
    """Closes itself at the end of `with`."""

    @abstractmethod
    def close(self) -> None:
        """Whatever there is to close."""

    def __enter__(self: _Closing) -> _Closing:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncClosing(ABC):
    """Closes itself at the end of `async with`."""

    @abstractmethod
    def close(self) -> None:
        """Whatever there is to close."""

    async def __aenter__(self: _AsyncClosing) -> _AsyncClosing:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()
