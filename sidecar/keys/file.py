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
from sidecar.keys.mounted import mounted_alone
from sidecar.keys.saving import edited_alone, replace, write_over

__all__ = ["KeysFile", "edit", "load"]

LARGEST_FILE = 4 * 1024 * 1024
_OPENINGS = 3


def load(path: Path, default_zone: tzinfo | None, *, connections: bool = True) -> KeysFile:
    """Reads and checks the whole file. `default_zone` is for records with hours_window that name no zone; `connections`:
    whether there is a door (TCP, WebSocket) at which a key has connections of its own.

    Raises ConfigError that names every problem of the file, one a line, each with key id, field and what to do.
    """
    data, warnings = _read(path)
    loaded = parsed(data, path, default_zone, warnings)
    if not connections:
        _refuse_waiting_for_connections(loaded, path)
    return loaded


def _refuse_waiting_for_connections(loaded: KeysFile, path: Path) -> None:
    """SECURITY: such a record would promise cancels that nothing ever sets off."""
    waiting = [record.key.id for record in loaded.records if record.key.cancel_on_disconnect is not None]
    if waiting:
        raise ConfigError(
            f"keys file `{path}`: cancel_on_disconnect of {', '.join(f'`{one}`' for one in waiting)} waits for the end of "
            "connections, and no TCP or WebSocket listener is open; open one, or remove the field"
        )


def edit(
    path: Path, change: Callable[[dict[str, Any]], None], default_zone: tzinfo | None, *, create: bool = False
) -> KeysFile:
    """Changes the file under a lock: `change` alters the raw document ({"version": 1, "keys": [...]}) in place.

    What it does not touch is written back as it was: fields, layout, order, the text of numbers. The result is checked
    as on load before it replaces the file (atomic rename, synced). A ConfigError, also `change`'s, leaves the old file.
    A file that is mounted by itself cannot be replaced, and is written over in place.
    """
    target = path.resolve()
    if create:
        _make_folder(target.parent)
    if not target.parent.is_dir():
        raise _missing(path)
    alone = mounted_alone(target)
    with edited_alone(target, mounted=alone):
        if create and not target.exists():
            document: dict[str, Any] = {"version": 1, "keys": []}
        else:
            data, _ = _read(target)
            parsed(data, path, default_zone, ())
            document = json.loads(data, parse_float=_NumberText)
        change(document)
        written = orjson.dumps(document, default=_verbatim, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
        result = parsed(written, path, default_zone, ())
        if alone:
            write_over(target, written)
        else:
            replace(target, written)
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
        if mounted_alone(path):
            warnings += (
                f"keys file `{path}` is mounted as a single file: when it is replaced outside (as `gen-key`, `revoke-key` and most "
                "editors do), this is still the old one; mount its folder instead",
            )
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
    # SECURITY: a single mounted file stays the old one for ever after its name was given to a new file, revoked keys and all.
    raise ConfigError(
        f"keys file `{path}` is missing: it was replaced outside, and only the old one is mounted here; "
        "start the container again, and mount its folder instead of the file, so that changes arrive"
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


def _missing(path: Path) -> ConfigError:
    return ConfigError(
        f"keys file `{path}` does not exist; make a first key with `opend-sidecar gen-key --id NAME --scopes qot:read`"
    )


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
