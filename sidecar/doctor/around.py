"""Whether OpenD can be reached without the sidecar, as far as it shows from here: where it listens, what else it has open, who
is connected, who could be. It asks OpenD nothing.

SECURITY: OpenD asks nobody who he is. What the sidecar refuses, anybody who reaches OpenD's ports may do.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from sidecar.doctor.check import Check, bad, doubt, good
from sidecar.doctor.sockets import (
    PROC,
    Address,
    TcpSocket,
    addresses_of,
    inodes_of,
    is_here,
    named,
    processes,
    tcp_sockets,
)
from sidecar.settings import Settings

NOBODY = 65534
_PATIENCE = 3
"""Seconds for a connection on this machine."""
_FIREWALL = (
    "let only the sidecar's user reach OpenD (deploy/nftables), or give OpenD a network of its own (docs/containers.md)"
)


def around_checks(
    settings: Settings,
    sidecar: int | None,
    *,
    proc: Path = PROC,
    as_nobody: Callable[[str, int], bool | None] | None = None,
) -> Iterator[Check]:
    """`sidecar`: the process that runs, if one does. `as_nobody`: whether another user connects; None: it cannot be tried."""
    upstream = settings.upstream
    addresses = addresses_of(upstream.host)
    if not addresses:
        return  # that OpenD is not found is told elsewhere
    if not all(map(is_here, addresses)):
        yield _elsewhere(settings)
        return
    table = tcp_sockets(proc)
    if table is None:
        yield doubt(
            "around", "whether OpenD can be reached around the sidecar cannot be seen on this system", _FIREWALL
        )
        return
    listening = [one for one in table if one.listening and one.port == upstream.port and _serves(one, addresses)]
    if not listening:
        return
    yield from _exposed(listening)
    owners = processes(proc)
    yield from _other_doors(table, listening, owners, sidecar, proc)
    yield from _others_connected(table, settings, owners, sidecar, proc)
    yield from _other_users(upstream.host, upstream.port, as_nobody or connects_as_nobody)


def _elsewhere(settings: Settings) -> Check:
    upstream = settings.upstream
    clear = "" if upstream.rsa_key else "; and what the sidecar says to it travels in clear"
    text = f"OpenD at {upstream.host} is not on this machine: who else reaches it there cannot be seen from here{clear}"
    remedy = "a network in which only the sidecar is (docs/containers.md), or a firewall there"
    return doubt("around", text, remedy if upstream.rsa_key else f"{remedy}; an RSA key for both (upstream.rsa_key)")


def _exposed(listening: list[TcpSocket]) -> Iterator[Check]:
    open_to_all = [one for one in listening if not one.local.is_loopback]
    for one in open_to_all:
        text = f"OpenD listens on {one}: whoever reaches this machine's network trades without the sidecar"
        yield bad("opend_bind", text, "`ip` 127.0.0.1 in FutuOpenD.xml, or a firewall before that port")
    if not open_to_all:
        yield good("opend_bind", f"OpenD listens on {listening[0]} only")


def _other_doors(
    table: tuple[TcpSocket, ...], listening: list[TcpSocket], owners: dict[int, int], sidecar: int | None, proc: Path
) -> Iterator[Check]:
    pid = next((owners[one.inode] for one in listening if one.inode in owners), None)
    if pid is None:
        yield doubt(
            "opend_doors", "which other ports OpenD has open cannot be seen as this user", "run doctor as root, once"
        )
        return
    if pid == sidecar or pid == os.getpid():
        return  # a demo: all in one
    doors = [one for one in table if one.listening and owners.get(one.inode) == pid and one not in listening]
    for one in doors:
        text = f"OpenD ({named(pid, proc)}) also listens on {one}: its telnet takes any command, its WebSocket any order, without a key"
        yield bad(
            "opend_doors",
            text,
            "take `telnet_port` and `websocket_port` out of FutuOpenD.xml; the sidecar needs neither",
        )
    if not doors:
        yield good("opend_doors", "OpenD has no other port open (telnet, WebSocket)")


def _others_connected(
    table: tuple[TcpSocket, ...], settings: Settings, owners: dict[int, int], sidecar: int | None, proc: Path
) -> Iterator[Check]:
    own = frozenset() if sidecar is None else inodes_of(sidecar, proc)
    if own is None:
        yield doubt(
            "others_connected",
            "whose the connections to OpenD are cannot be seen as this user",
            "run doctor as root, once",
        )
        return
    past = [
        one
        for one in table
        if not one.listening and one.remote_port == settings.upstream.port and is_here(one.remote)
        and one.inode and one.inode not in own and owners.get(one.inode) != os.getpid()
    ]  # fmt: skip
    for who in sorted({_who(one, owners, proc) for one in past}):
        yield bad(
            "others_connected",
            f"{who} is connected to OpenD without the sidecar",
            "give it the sidecar's port, and a key",
        )
    if not past:
        yield good("others_connected", "nobody else is connected to OpenD")


def _other_users(host: str, port: int, as_nobody: Callable[[str, int], bool | None]) -> Iterator[Check]:
    connected = as_nobody(host, port)
    if connected is None:
        text = "whether other users of this machine reach OpenD can only be tried by root"
        yield doubt("other_users", text, f"run doctor as root, once; {_FIREWALL}")
    elif connected:
        yield doubt("other_users", "other users of this machine reach OpenD without the sidecar", _FIREWALL)
    else:
        yield good("other_users", "other users of this machine do not reach OpenD")


def connects_as_nobody(host: str, port: int) -> bool | None:
    """Tried by a child that gives up being root for it; None where this is not root, or not a system with users of that kind."""
    if sys.platform == "win32" or os.geteuid() != 0:
        return None
    child = os.fork()
    if child == 0:
        code = 2
        try:
            signal.alarm(_PATIENCE + 1)
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            code = 1
            socket.create_connection((host, port), _PATIENCE).close()
            code = 0
        finally:
            os._exit(code)  # whatever happened: nothing of the parent's runs twice
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    return None if code == 2 else code == 0


def _serves(one: TcpSocket, addresses: tuple[Address, ...]) -> bool:
    return one.local.is_unspecified or one.local in addresses


def _who(one: TcpSocket, owners: dict[int, int], proc: Path) -> str:
    pid = owners.get(one.inode)
    return f"a process of user {one.uid}" if pid is None else named(pid, proc)
