"""The doors as their clients meet them: one driver each. A driver knows how its door speaks, and nothing of the rules."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from google.protobuf import json_format
from scenarios.scenario_table import Ask

from sidecar.wire.catalog import CATALOG
from sidecar.wire.dialect import envelope
from sidecar.wire.messages import message_class

REFUSAL = re.compile(r"\[sidecar:(\w+)\] (.*?)(?: \(decision (\w{26})\)(?:; .*)?)?$", re.DOTALL)
"""What follows the decision is advice to a model."""
UNKNOWN_FIELD = bytes([0xCA, 0x30, 0x03]) + b"odd"
"""Field 777 with the bytes `odd`, which no message has."""


class ClientGone(Exception):
    """The connection ended before an answer came."""


@dataclass(frozen=True)
class Answer:
    """What a client was told. `code` None: it is OpenD's answer (or the sidecar's in its stead), `response` the message."""

    code: str | None
    message: str
    """The refusal's prose, or OpenD's retMsg."""
    decision_id: str | None = None
    response: Any = None
    native: Any = None
    """What the door itself calls it: the HTTP or gRPC status; None where it has no such thing."""
    retry_after: int | None = None
    by_closing: bool = False
    """It was not answered by itself: the connection was closed, and this is the reason that was given."""

    @property
    def order_id(self) -> str:
        return str(self.tree.get("order_id_ex", ""))

    @property
    def tree(self) -> dict[str, Any]:
        """OpenD's s2c, with names in snake_case; {} where it said no."""
        if hasattr(self.response, "tree"):
            found: dict[str, Any] = self.response.tree
            return found
        return {} if self.response is None else envelope(self.response)["s2c"] or {}


class Client(Protocol):
    refused: Answer | None
    """The refusal, where the door refused the connection itself."""

    async def ask(self, ask: Ask) -> Answer:
        """Raises ClientGone, TimeoutError."""

    async def leave(self) -> None:
        """Hang up at once, whatever is under way."""

    async def close(self) -> None: ...


class Driver(Protocol):
    name: ClassVar[str]
    listener: ClassVar[str]
    """Its field of sidecar.settings.Listeners."""
    iface: ClassVar[str]
    """Its word in metrics and audit."""

    async def connect(self, port: int, key: str | None) -> Client:
        """A client that shows this secret, or none."""


@dataclass
class Registry:
    drivers: dict[str, type[Driver]] = field(default_factory=dict)

    def add(self, driver: type[Driver]) -> type[Driver]:
        self.drivers[driver.name] = driver
        return driver


DOORS = Registry()


def understood(text: str) -> tuple[str | None, str, str | None]:
    """Code, prose and decision id of a refusal's text; the code is None where it is none."""
    match = REFUSAL.search(text)
    return (None, text, None) if match is None else (match[1], match[2], match[3])


def answered(proto_id: int, body: bytes, native: Any = None) -> Answer:
    """The answer in the body of a protobuf Response."""
    row = CATALOG.get(proto_id)
    name = (row.response if row is not None else None) or "KeepAlive.Response"
    response: Any = message_class(name)()
    response.MergeFromString(body)
    if not response.IsInitialized():  # a refusal of an id without a message of its own
        response = message_class("KeepAlive.Response")()
        response.MergeFromString(body)
    if response.retType == 0:
        return Answer(None, "", response=response, native=native)
    code, message, decision_id = understood(response.retMsg)
    return Answer(code, message, decision_id, response, native)


def protobuf_body(ask: Ask, packet: tuple[int, int] | None = None) -> bytes:
    """The whole Request of an Ask. A required field may be missing, since that is what some scenarios are about.

    `packet`: connID and serialNo of the packetID, None = leave it out."""
    if ask.extras.get("garbage"):
        return b"\xff\xff\xff not a message"
    row = CATALOG.get(ask.proto_id)
    if row is None or row.request is None:
        return b""
    request: Any = message_class(row.request)()
    tree = {"c2s": _quoted(ask.c2s)} if "c2s" in request.DESCRIPTOR.fields_by_name else ask.c2s
    json_format.ParseDict(tree, request)
    c2s = getattr(request, "c2s", None)
    if packet is not None and c2s is not None and "packetID" in c2s.DESCRIPTOR.fields_by_name:
        c2s.packetID.connID, c2s.packetID.serialNo = packet
    if c2s is not None:
        c2s.SetInParent()
    if ask.extras.get("unknown_field"):
        c2s.MergeFromString(UNKNOWN_FIELD)
    body: bytes = request.SerializePartialToString()
    padding = int(ask.extras.get("padding", 0))
    if padding:
        body += b"\xd2\x30" + _varint(padding) + bytes(padding)  # field 778: unknown, and never read
    return body


def _quoted(value: Any) -> Any:
    """Not-numbers as json_format wants them."""
    if isinstance(value, dict):
        return {name: _quoted(part) for name, part in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])
