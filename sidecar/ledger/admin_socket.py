"""A unix socket in the state directory: bound for its owner alone, and found again by commands. Speaks nothing."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

from sidecar.errors import ConfigError

NAME = "admin.sock"
_LONGEST = 100
"""Bytes of a path that every system takes as the address of a socket."""


def bound(folder: Path) -> socket.socket:
    """Bound, not listening yet; only this user may connect. Whoever calls holds the lock of the state directory, so a socket
    that is there already is a dead one's. Raises ConfigError."""
    _check()
    path = folder / NAME
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.unlink(missing_ok=True)
        before = os.umask(0o177)  # SECURITY: there is no moment in which others could connect
        try:
            with _address(folder) as address:
                made.bind(address)
        finally:
            os.umask(before)
        made.setblocking(False)
    except OSError as error:
        made.close()
        raise ConfigError(f"the socket `{path}` cannot be made: {(error.strerror or str(error)).lower()}") from None
    return made


def connected(folder: Path, patience: float) -> socket.socket | None:
    """None where nobody listens. Raises OSError."""
    _check()
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    made.settimeout(patience)
    try:
        with _address(folder) as address:
            made.connect(address)
    except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
        made.close()
        return None
    except BaseException:
        made.close()
        raise
    return made


def _check() -> None:
    if not hasattr(socket, "AF_UNIX"):
        raise ConfigError("this system has no unix sockets, over which halt, resume and status reach a running sidecar")


@contextlib.contextmanager
def _address(folder: Path) -> Iterator[str]:
    """The socket's address, by way of an open folder where the path is too long for one."""
    path = str(folder / NAME)
    if len(os.fsencode(path)) <= _LONGEST or not sys.platform.startswith("linux"):
        yield path
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/{NAME}"
    finally:
        os.close(descriptor)
