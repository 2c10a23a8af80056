"""How a changed keys.json gets onto the disk: one edit at a time, in place of the old file. Knows nothing of what is in it."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from sidecar.errors import ConfigError
from sidecar.keys.lock import exclusive


@contextmanager
def edited_alone(target: Path, *, mounted: bool) -> Iterator[None]:
    """Keeps other edits out: those in this folder, and those in containers in which only the file is mounted. The latter have no
    folder to put a lock into, so the file itself is locked as well. `mounted`: this is such a container.
    Raises ConfigError when a lock cannot be had."""
    with ExitStack() as held:
        if not mounted:
            held.enter_context(exclusive(target.with_name(target.name + ".lock")))
        if sys.platform != "win32" and target.exists():  # there a lock would keep readers out
            held.enter_context(exclusive(target, create=False))
        yield


def replace(target: Path, data: bytes) -> None:
    """INVARIANT: at every moment, and after a crash, `target` is the whole old file or the whole new one. Raises ConfigError."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}.new")
    try:
        previous = target.stat() if target.exists() else None
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                _keep_readers(descriptor, previous)
                file.write(data)
                file.flush()
                os.fsync(descriptor)
            temporary.replace(target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        if sys.platform != "win32":
            folder = os.open(target.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
    except OSError as error:
        raise _unwritable(target, error) from None


def write_over(target: Path, data: bytes) -> None:
    """For a mounted file, whose name cannot be given to another one. Raises ConfigError.

    A crash in the middle leaves a broken file, which does not load: the keys in force stay, and no key is made up.
    """
    try:
        descriptor = os.open(target, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0))
        try:
            previous = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
            try:
                _fill(descriptor, data)
            except OSError:
                _fill(descriptor, previous)  # its room on the disk is still its own
                raise
        finally:
            os.close(descriptor)
    except OSError as error:
        raise _unwritable(target, error) from None


def _fill(descriptor: int, data: bytes) -> None:
    written = 0
    while written < len(data):
        written += os.pwrite(descriptor, data[written:], written)
    os.ftruncate(descriptor, len(data))
    os.fsync(descriptor)


def _keep_readers(descriptor: int, previous: os.stat_result | None) -> None:
    """Who could read the old file can read the new one: an edit by root must not take a service's keys away."""
    if previous is None or sys.platform == "win32":
        return
    made = os.fstat(descriptor)
    if (previous.st_uid, previous.st_gid) != (made.st_uid, made.st_gid):
        os.fchown(descriptor, previous.st_uid, previous.st_gid)
    os.fchmod(descriptor, 0o600 | stat.S_IMODE(previous.st_mode) & 0o040)


def _unwritable(target: Path, error: OSError) -> ConfigError:
    return ConfigError(f"keys file `{target}` cannot be written: {(error.strerror or str(error)).lower()}")
