"""The clients of one door: how many there is room for, who gives way, and how those are noticed whose machine has vanished."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

from sidecar.metrics import Metrics

_PROBE_AFTER, _PROBE_EVERY, _PROBES = 60, 10, 3
"""Seconds of silence before the system asks whether a client's machine is still there, between questions, and how often."""


class Guest(Protocol):
    """One client connection."""

    @property
    def is_stranger(self) -> bool:
        """Whether it is here without a good key: not introduced yet, refused, or in quarantine."""

    def drop(self) -> None:
        """End it at once and `leave`, whatever is unsent."""


G = TypeVar("G", bound=Guest)


class Room(Generic[G]):
    """At most `most` clients, of which `most_strangers` (None: all) without a good key. Counts them for the metrics."""

    def __init__(self, iface: str, most: int, metrics: Metrics, *, most_strangers: int | None = None) -> None:
        self._iface = iface
        self._most = most
        self._most_strangers = most_strangers
        self._metrics = metrics
        self._guests: dict[G, None] = {}
        """In the order in which they came."""

    def __iter__(self) -> Iterator[G]:
        """Those here now; they may leave meanwhile."""
        return iter(tuple(self._guests))

    def __len__(self) -> int:
        return len(self._guests)

    def has_place(self) -> bool:
        """Whether one more may enter. SECURITY: whoever has shown no good key gives way, the longest here first, so that
        strangers cannot keep clients with a key out."""
        if len(self._guests) >= self._most or self._is_full_of_strangers():
            stranger = next((guest for guest in self._guests if guest.is_stranger), None)
            if stranger is None:
                return False
            stranger.drop()
        return True

    def enter(self, guest: G) -> None:
        self._guests[guest] = None
        self._metrics.clients(self._iface, +1)

    def leave(self, guest: G) -> None:
        """The client's connection has ended. Safe to call twice."""
        if guest in self._guests:
            del self._guests[guest]
            self._metrics.clients(self._iface, -1)

    def _is_full_of_strangers(self) -> bool:
        if self._most_strangers is None:
            return False
        return sum(guest.is_stranger for guest in self._guests) >= self._most_strangers


def notice_when_gone(transport: asyncio.BaseTransport) -> None:
    """Let the system find out when a client's machine has vanished: its connection to OpenD would be kept for ever."""
    sock = transport.get_extra_info("socket")
    options = {"TCP_KEEPIDLE": _PROBE_AFTER, "TCP_KEEPINTVL": _PROBE_EVERY, "TCP_KEEPCNT": _PROBES}
    with contextlib.suppress(OSError):  # not a TCP socket, or closed already
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in options.items():
            if hasattr(socket, name):  # macOS and Windows have not all of them
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
