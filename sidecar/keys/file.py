"""keys.json on disk: loaded whole or not at all, changed without losing anybody's change. Knows no plaintext key."""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Callable
from datetime import tzinfo
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson

from sidecar.errors import ConfigError
from sidecar.keys.document import KeysFile, parsed
from sidecar.keys.lock import exclusive

__all__ = ["KeysFile", "edit", "load"]

LARGEST_FILE = 4 * 1024 * 1024
_OPENINGS = 3


def load(path: Path, default_zone: tzinfo | None) -> KeysFile:
    """Reads and checks the whole file. `default_zone` is for records with hours_window that name no zone.

    Raises ConfigError that names every problem of the file, one a line, each with key id, field and what to do.
    """
    data, warnings = _read(path)
    return parsed(data, path, default_zone, warnings)


def edit(
    path: Path, change: Callable[[dict[str, Any]], None], default_zone: tzinfo | None, *, create: bool = False
) -> KeysFile:
    """Changes the file under a lock: `change` alters the raw document ({"version": 1, "keys": [...]}) in place.

    What it does not touch is written back as it was: fields, layout, order, the text of numbers. The result is checked
    as on load before it replaces the file (atomic rename, synced). A ConfigError, also `change`'s, leaves the old file.
    """
    target = path.resolve()
    if create:
        _make_folder(target.parent)
    if not target.parent.is_dir():
        raise _missing(path)
    with exclusive(target.with_name(target.name + ".lock")):
        if create and not target.exists():
            document: dict[str, Any] = {"version": 1, "keys": []}
        else:
            data, _ = _read(target)
            parsed(data, path, default_zone, ())
            document = json.loads(data, parse_float=_NumberText)
        change(document)
        written = orjson.dumps(document, default=_verbatim, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
        result = parsed(written, path, default_zone, ())
        _replace(target, written)
    return result


class _NumberText:
    """A JSON number with a fraction or exponent, kept as it was written. No dataclass: orjson would write its fields."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


def _verbatim(value: object) -> orjson.Fragment:
    if isinstance(value, _NumberText):
        return orjson.Fragment(value.text)
    if isinstance(value, Decimal):
        return orjson.Fragment(format(value, "f"))
    raise TypeError(f"{type(value).__name__} cannot be written to keys.json")


def _read(path: Path) -> tuple[bytes, tuple[str, ...]]:
    """The bytes of a file found trustworthy, both through one descriptor, so that nothing changes in between."""
    descriptor = _opened(path)
    try:
        warnings = _trusted(os.fstat(descriptor), path)
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            data = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise ConfigError(f"keys file `{path}` cannot be read: {_reason(error)}") from None
    finally:
        os.close(descriptor)
    if len(data) > LARGEST_FILE:
        raise ConfigError(f"keys file `{path}` is over {LARGEST_FILE // 1024 // 1024} MiB; is it the right file?")
    return data, warnings


def _opened(path: Path) -> int:
    """A descriptor of the file that has the name now. One that lost it to an edit between two calls is opened again."""
    try:
        for _ in range(_OPENINGS):
            # Not blocking: a pipe in the file's place must be refused, not waited for.
            descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
            if os.fstat(descriptor).st_nlink or sys.platform == "win32":
                return descriptor
            os.close(descriptor)
    except (FileNotFoundError, NotADirectoryError):
        raise _missing(path) from None
    except OSError as error:
        raise ConfigError(f"keys file `{path}` cannot be opened: {_reason(error)}") from None
    # A single mounted file stays the old one for ever after its name was given to a new file.
    raise ConfigError(
        f"keys file `{path}` was replaced outside; mount its folder instead of the file, so that changes arrive"
    )


def _trusted(found: os.stat_result, path: Path) -> tuple[str, ...]:
    """SECURITY: whoever can write keys.json can give himself any key."""
    if not stat.S_ISREG(found.st_mode):
        raise ConfigError(
            f"keys file `{path}` is not a regular file; point keys.file (or --keys-file) at keys.json itself"
        )
    if sys.platform == "win32":
        return ()
    mode = stat.S_IMODE(found.st_mode)
    if mode & 0o022:
        raise ConfigError(f"keys file `{path}` may be written by others (mode {mode:04o}); run `chmod 600 {path}`")
    if mode & 0o004:
        raise ConfigError(f"keys file `{path}` may be read by everybody (mode {mode:04o}); run `chmod 600 {path}`")
    if mode & 0o040:
        return (
            f"keys file `{path}` may be read by its group (mode {mode:04o}); `chmod 600 {path}` unless that is meant",
        )
    return ()


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"the folder `{folder}` for the keys file cannot be made: {_reason(error)}") from None


def _replace(target: Path, data: bytes) -> None:
    """INVARIANT: at every moment, and after a crash, `target` is the whole old file or the whole new one."""
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
        mounted = "; is it mounted as a single file? mount its folder instead" if target.exists() else ""
        raise ConfigError(f"keys file `{target}` cannot be written: {_reason(error)}{mounted}") from None


def _keep_readers(descriptor: int, previous: os.stat_result | None) -> None:
    """Who could read the old file can read the new one: an edit by root must not take a service's keys away."""
    if previous is None or sys.platform == "win32":
        return
    made = os.fstat(descriptor)
    if (previous.st_uid, previous.st_gid) != (made.st_uid, made.st_gid):
        os.fchown(descriptor, previous.st_uid, previous.st_gid)
    os.fchmod(descriptor, 0o600 | stat.S_IMODE(previous.st_mode) & 0o040)


def _missing(path: Path) -> ConfigError:
    return ConfigError(
        f"keys file `{path}` does not exist; make a first key with `opend-sidecar gen-key --id NAME --scopes qot:read`"
    )


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
