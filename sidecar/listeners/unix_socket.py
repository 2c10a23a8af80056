"""A unix socket at a path the owner chose: bound with its mode, found dead or alive, and who is at its other end. Speaks nothing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
import struct
from dataclasses import dataclass
from pathlib import Path

from sidecar.errors import ConfigError

_LONGEST = 100
"""Bytes of a path that every system takes as the address of a socket."""
_UCRED = struct.Struct("3i")
"""Linux, unix(7): pid, uid, gid."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """Of the process that connected, as it was then."""

    pid: int
    uid: int
    gid: int


class BoundSocket:
    """A socket that is bound and not listening yet. Raises ConfigError."""

    def __init__(self, path: Path, mode: int, remedy: str) -> None:
        self.path = path
        if not hasattr(socket, "AF_UNIX"):
            raise ConfigError(f"cannot listen on `{path}`: this system has no unix sockets; use an IP address")
        if len(os.fsencode(path)) > _LONGEST:
            raise ConfigError(f"cannot listen on `{path}`: a socket's path has {_LONGEST} bytes at most; use another")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.setblocking(False)
        try:
            _remove_dead(path, remedy)
            # SECURITY: there is no moment in which others could connect. The mask is everybody's in this process, so it may
            # only ever take away
            before = os.umask(0o177)
            try:
                self.socket.bind(str(path))
            finally:
                os.umask(before)
            path.chmod(mode)
            made = path.lstat()
        except OSError as error:
            self.socket.close()
            reason = (error.strerror or str(error)).lower()
            raise ConfigError(f"cannot listen on `{path}` ({reason}); choose another path with {remedy}") from None
        except BaseException:
            self.socket.close()
            raise
        self._made = made.st_dev, made.st_ino

    def remove(self) -> None:
        """Take the path away, unless another program has put its own there."""
        with contextlib.suppress(OSError):
            found = self.path.lstat()
            if (found.st_dev, found.st_ino) == self._made:
                self.path.unlink()


def _remove_dead(path: Path, remedy: str) -> None:
    """What a sidecar left behind that was killed. Raises OSError, ConfigError."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise ConfigError(f"cannot listen on `{path}`: it exists and is no socket; choose another path with {remedy}")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.settimeout(1.0)
        try:
            asking.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
            return
        except TimeoutError:
            pass  # alive, and busy
    raise ConfigError(f"cannot listen on `{path}`: another program does already; choose another path with {remedy}")


def credentials(transport: asyncio.BaseTransport) -> Credentials | None:
    """Who connected to a unix socket; None where it is no such socket, or the platform does not tell (Linux does)."""
    opened = transport.get_extra_info("socket")
    if opened is None or not hasattr(socket, "SO_PEERCRED") or opened.family != socket.AF_UNIX:
        return None
    with contextlib.suppress(OSError):
        pid, uid, gid = _UCRED.unpack(opened.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
        return Credentials(pid, uid, gid)
    return None


def peer_of(transport: asyncio.BaseTransport) -> str:
    """A client's address as audit and log have it: its IP address, `unix:` and its uid, or `local`."""
    peer = transport.get_extra_info("peername")
    if isinstance(peer, tuple):
        return str(peer[0])
    known = credentials(transport)
    return "local" if known is None else f"unix:{known.uid}"
