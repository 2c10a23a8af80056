"""The directory that holds what must survive a restart, and the lock that keeps a second instance out; knows no file
in it but the lock."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from types import TracebackType

from sidecar.errors import ConfigError

if sys.platform == "win32":
    import msvcrt

    def _lock(fd: int) -> None:
        # Far behind the pid, because locked bytes cannot be read by others on Windows.
        os.lseek(fd, 1 << 20, os.SEEK_SET)
        msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        os.lseek(fd, 0, os.SEEK_SET)

else:
    import fcntl

    def _lock(fd: int) -> None:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


class StateDir:
    """The state directory, locked for this process until `release` (or the process ends, however it ends).

    INVARIANT: one writer. Two instances on one ledger would each allow the whole of a limit.
    """

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self._fd = fd

    @classmethod
    def acquire(cls, path: Path) -> StateDir:
        """Create the directory (0700) if it is not there and lock it.

        Raises ConfigError if another process has it (naming its pid) or it cannot be written.
        """
        path = path.expanduser()
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"state directory `{path}` cannot be created: {error.strerror}") from error
        try:
            fd = os.open(path / "lock", os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
        except OSError as error:
            raise ConfigError(
                f"state directory `{path}` cannot be written: {error.strerror}; "
                "give this user write access or choose another"
            ) from error
        try:
            try:
                _lock(fd)
            except OSError as error:
                holder = os.read(fd, 32).decode("ascii", "replace").strip()
                raise ConfigError(
                    f"state directory `{path}` is in use by process {holder or 'unknown'}; "
                    "stop that instance first or choose another directory"
                ) from error
            try:
                os.ftruncate(fd, 0)
                os.write(fd, f"{os.getpid()}\n".encode("ascii"))
            except OSError as error:
                raise ConfigError(f"state directory `{path}` cannot be written: {error.strerror}") from error
        except BaseException:
            os.close(fd)
            raise
        return cls(path, fd)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is risky about the directory, for people; empty when nothing is."""
        mode = stat.S_IMODE(self.path.stat().st_mode)
        if sys.platform != "win32" and mode & 0o022:
            return (f"state directory `{self.path}` can be written by others (mode {mode:04o}); chmod 700 it",)
        return ()

    def release(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> StateDir:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
