"""The TCP sockets of this machine (on Linux, of this network namespace), whose they are, and which addresses are its own."""

from __future__ import annotations

import contextlib
import ipaddress
import re
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")

_ESTABLISHED, _LISTENING = "01", "0A"
"""proc_pid_net(5), the column `st`."""
_INODE = re.compile(r"socket:\[(\d+)\]")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class TcpSocket:
    """`inode` names it; 0 where it is nobody's any more. `uid` is its owner's."""

    local: Address
    port: int
    remote: Address
    remote_port: int
    listening: bool
    uid: int
    inode: int

    def __str__(self) -> str:
        return f"[{self.local}]:{self.port}" if self.local.version == 6 else f"{self.local}:{self.port}"


def tcp_sockets(proc: Path = PROC) -> tuple[TcpSocket, ...] | None:
    """Those that listen or are connected; None where the system does not tell (Linux does)."""
    found: list[TcpSocket] = []
    told = False
    for name in ("tcp", "tcp6"):
        try:
            lines = (proc / "net" / name).read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        told = True
        found += [one for line in lines if (one := _read(line.split())) is not None]
    return tuple(found) if told else None


def processes(proc: Path = PROC) -> dict[int, int]:
    """Inode of a socket → the process that has it open, as far as this user may look."""
    found: dict[int, int] = {}
    for folder in proc.iterdir():
        if folder.name.isdigit():
            for inode in inodes_of(int(folder.name), proc) or ():
                found.setdefault(inode, int(folder.name))
    return found


def inodes_of(pid: int, proc: Path = PROC) -> frozenset[int] | None:
    """The sockets a process has open; None where this user may not look, or the process is gone."""
    links = []
    try:
        for each in (proc / str(pid) / "fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed in the meantime
                links.append(str(each.readlink()))
    except OSError:
        return None
    return frozenset(int(match[1]) for link in links if (match := _INODE.fullmatch(link)))


def named(pid: int, proc: Path = PROC) -> str:
    """`process 4711 (python bot.py)`. SECURITY: the program and what it runs, no option and nothing behind: they may be secrets."""
    try:
        words = (proc / str(pid) / "cmdline").read_bytes().decode(errors="replace").split("\0")[:2]
    except OSError:
        words = []
    shown = " ".join(
        Path(word).name if word.startswith("/") else word for word in words if word and not word.startswith("-")
    )
    shown = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in shown)[:60]
    return f"process {pid} ({shown})" if shown else f"process {pid}"


def addresses_of(host: str) -> tuple[Address, ...]:
    """What a name stands for; empty where nobody knows."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return ()
    return tuple(dict.fromkeys(_plain(ipaddress.ip_address(str(one[4][0]).partition("%")[0])) for one in found))


def is_here(address: Address) -> bool:
    """Whether it is an address of this machine, or of this container: one can bind to no other."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as trying:
            trying.bind((str(address), 0))
    except OSError:
        return False
    return True


def _read(fields: list[str]) -> TcpSocket | None:
    if len(fields) < 10 or fields[3] not in (_ESTABLISHED, _LISTENING):
        return None
    (local, port), (remote, remote_port) = _place(fields[1]), _place(fields[2])
    return TcpSocket(local, port, remote, remote_port, fields[3] == _LISTENING, int(fields[7]), int(fields[9]))


def _place(text: str) -> tuple[Address, int]:
    """`0100007F:2B67` is 127.0.0.1:11111: words of 32 bits as they lie in memory."""
    address, _, port = text.partition(":")
    raw = bytes.fromhex(address)
    if sys.byteorder == "little":
        raw = b"".join(_words(raw))
    return _plain(ipaddress.ip_address(raw)), int(port, 16)


def _words(raw: bytes) -> Iterator[bytes]:
    for start in range(0, len(raw), 4):
        yield raw[start : start + 4][::-1]


def _plain(address: Address) -> Address:
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return address if mapped is None else mapped
