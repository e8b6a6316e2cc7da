"""What is missing where an extra was not installed."""

from __future__ import annotations

import importlib


def needs(module: str, extra: str) -> None:
    """That a module of an extra is there. `ImportError` says how to get it."""
    try:
        importlib.import_module(module)
    except ImportError as fault:
        raise ImportError(
            f"`{module}` is not installed; `pip install 'leasehold[{extra}]'` brings it"
        ) from fault
