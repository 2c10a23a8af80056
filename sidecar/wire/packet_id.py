"""The packetID of orders and their changes: OpenD takes each only once, and only on the connection it names.

A client with a connection of its own writes it itself; for those that share one it is lent here, and numbered when sent.
"""

from __future__ import annotations

from typing import Any

from google.protobuf.message import Message


def lend(request: Message) -> None:
    """Put an empty packetID where the request has one, whatever the client wrote there."""
    packet = _packet_of(request)
    if packet is not None:
        packet.connID, packet.serialNo = 0, 0


def number(request: Message, conn_id: int, serial: int) -> None:
    """Name the connection it goes out on, and a serial that was not used on it before."""
    packet = _packet_of(request)
    if packet is not None:
        packet.connID, packet.serialNo = conn_id, serial


def without(request: Message) -> Message:
    """What the request says apart from it (a copy where it has one): the same order sent twice is the same."""
    if _packet_of(request) is None:
        return request
    bare = type(request)()
    bare.CopyFrom(request)
    lend(bare)
    return bare


def _packet_of(request: Message) -> Any:
    if "c2s" not in request.DESCRIPTOR.fields_by_name:
        return None
    c2s = request.c2s  # type: ignore[attr-defined]  # generated messages are only known at run time
    return c2s.packetID if "packetID" in c2s.DESCRIPTOR.fields_by_name else None
