"""Stubs of the shipped .proto file, compiled by grpcio-tools as a user would, for clients that nobody here wrote."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from real_parts import need

PROTO = Path(__file__).resolve().parent.parent / "sidecar/listeners/futu_service.proto"
PARTS = ("grpc", "grpc_tools", "grpc_reflection", "grpc_health")


def need_grpcio() -> None:
    need("grpcio", all(importlib.util.find_spec(part) for part in PARTS))


@cache
def stubs() -> tuple[Any, Any]:
    """The modules `futu_service_pb2` and `futu_service_pb2_grpc`."""
    need_grpcio()
    from grpc_tools import protoc

    folder = mkdtemp(prefix="futu_service")
    said = protoc.main(
        ["protoc", f"-I{PROTO.parent}", f"--python_out={folder}", f"--grpc_python_out={folder}", PROTO.name]
    )
    assert said == 0
    sys.path.insert(0, folder)
    try:
        return importlib.import_module("futu_service_pb2"), importlib.import_module("futu_service_pb2_grpc")
    finally:
        sys.path.remove(folder)
