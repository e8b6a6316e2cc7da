"""Generates the messages of the contract from proto/ when the package is built: never older than it."""

from __future__ import annotations

import importlib.resources
from pathlib import Path
from typing import Any

from grpc_tools import protoc
from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class Contract(BuildHookInterface):  # type: ignore[type-arg]
    """The build hook that hatchling runs."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Writes `*_pb2.py` and their types beside the package's own code."""
        root = Path(self.root)
        # In a source distribution the contract lies inside; in the repository it is shared with the broker.
        places = (root / "proto", root.parent.parent / "proto")
        proto = next((place for place in places if place.is_dir()), None)
        if proto is None:
            raise FileNotFoundError(f"no contract: neither of {', '.join(map(str, places))} exists")
        files = sorted(str(file) for file in (proto / "leasehold" / "v1").glob("*.proto"))
        known = importlib.resources.files("grpc_tools") / "_proto"
        out = root / "src"
        arguments = [
            "protoc",
            f"-I{proto}",
            f"-I{known}",
            f"--python_out={out}",
            f"--pyi_out={out}",
        ]
        if not files or protoc.main([*arguments, *files]) != 0:
            raise RuntimeError(f"the messages could not be generated from {proto}")
