"""An exclusive lock between processes, on a file. Stops nobody who does not ask for it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sidecar.errors import ConfigError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_RETRY = 0.02


@contextmanager
def exclusive(path: Path, patience: float = 30.0, *, create: bool = True) -> Iterator[None]:
    """Holds the lock for the block. Raises ConfigError when it cannot be had within `patience` seconds.

    The file stays behind: deleting it would let two processes hold two locks of one name. Without `create` it must exist.
    """
    # An owner may edit a file that is read-only, by replacing it; elsewhere (NFS) a lock takes the right to write.
    mode = os.O_RDWR | os.O_CREAT if create else os.O_RDWR if os.access(path, os.W_OK) else os.O_RDONLY
    try:
        descriptor = os.open(path, mode | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0), 0o600)
    except OSError as error:
        raise ConfigError(
            f"the lock file `{path}` cannot be opened: {(error.strerror or str(error)).lower()}"
        ) from None
    try:
        deadline = time.monotonic() + patience
        while not _taken(descriptor):
            if time.monotonic() > deadline:
                raise ConfigError(
                    f"another process has held the lock `{path}` for over {patience:.0f} s; end it and try again"
                )
            time.sleep(_RETRY)
        yield
    finally:
        os.close(descriptor)  # which also releases it


def _taken(descriptor: int) -> bool:
    try:
        if sys.platform == "win32":
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True
