"""The protobuf messages of the installed `futu-api`, without importing `futu` (which would pull in pandas)."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

from google.protobuf.message import Message

from sidecar.errors import ConfigError


@cache
def pb_folder() -> Path:
    """The folder of the generated `*_pb2` modules. Raises ConfigError when futu-api is not installed."""
    spec = importlib.util.find_spec("futu")
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError("the package `futu-api` is not installed; run `pip install futu-api`")
    folder = Path(spec.submodule_search_locations[0]) / "common" / "pb"
    if str(folder) not in sys.path:
        sys.path.append(str(folder))  # the generated modules import each other by bare name
    return folder


@cache
def module(name: str) -> ModuleType:
    """The generated module of one .proto file, e.g. `module("Trd_PlaceOrder")`."""
    pb_folder()
    return importlib.import_module(f"{name}_pb2")


@cache
def message_class(full_name: str) -> type[Message]:
    """The class of `Module.Message`, e.g. `Trd_PlaceOrder.Request`."""
    module_name, _, message_name = full_name.partition(".")
    found: type[Message] = getattr(module(module_name), message_name)
    return found
