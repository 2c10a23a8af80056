"""keys.json on disk: loaded whole or not at all, changed without losing anybody's change. Knows no plaintext key."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import tzinfo
from decimal import Decimal
from pathlib import Path
from typing import Any, NoReturn

import orjson

from sidecar.border import closest, shown
from sidecar.errors import ConfigError
from sidecar.keys.lock import exclusive
from sidecar.keys.record import JsonObject, Problem, StoredKey, read_record

DEFAULT_PATH = Path("~/.config/futu/keys.json").expanduser()
LARGEST_FILE = 4 * 1024 * 1024
_TOP_FIELDS = ("version", "keys")


@dataclass(frozen=True, slots=True)
class KeysFile:
    """What a good file holds. `revision` is the SHA-256 of its bytes in hex; `warnings` are prose for the operator."""

    records: tuple[StoredKey, ...]
    revision: str
    warnings: tuple[str, ...]


def load(path: Path, default_zone: tzinfo | None) -> KeysFile:
    """Reads and checks the whole file. `default_zone` is for records with hours_window that name no zone.

    Raises ConfigError that names every problem of the file, one a line, each with key id, field and what to do.
    """
    data, warnings = _read(path)
    return _parsed(data, path, default_zone, warnings)


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
            _parsed(data, path, default_zone, ())
            document = json.loads(data, parse_float=_NumberText)
        change(document)
        written = orjson.dumps(document, default=_verbatim, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
        result = _parsed(written, path, default_zone, ())
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
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    except (FileNotFoundError, NotADirectoryError):
        raise _missing(path) from None
    except OSError as error:
        raise ConfigError(f"keys file `{path}` cannot be opened: {_reason(error)}") from None
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


def _trusted(found: os.stat_result, path: Path) -> tuple[str, ...]:
    """SECURITY: whoever can write keys.json can give himself any key."""
    if not stat.S_ISREG(found.st_mode):
        raise ConfigError(
            f"keys file `{path}` is not a regular file; point keys.file (or --keys-file) at keys.json itself"
        )
    if sys.platform == "win32":
        return ()
    if found.st_nlink == 0:
        # A single mounted file stays the old one for ever after its name was given to a new file.
        raise ConfigError(
            f"keys file `{path}` was replaced outside; mount its folder instead of the file, so that changes arrive"
        )
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


def _parsed(data: bytes, path: Path, default_zone: tzinfo | None, warnings: Iterable[str]) -> KeysFile:
    document = _document(data, path)
    problems = _top_problems(document)
    records: list[StoredKey] = []
    notes = list(warnings)
    entries = document.get("keys")
    for place, raw in enumerate(entries if isinstance(entries, list) else (), start=1):
        stored, its_problems, its_warnings = read_record(raw, place, default_zone)
        problems += its_problems
        notes += its_warnings
        if stored is not None:
            records.append(stored)
    problems += _clashes(entries if isinstance(entries, list) else [])
    if problems:
        lines = "\n".join(f"  {problem}" for problem in problems)
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise ConfigError(f"keys file `{path}` has {count}:\n{lines}")
    return KeysFile(tuple(records), hashlib.sha256(data).hexdigest(), tuple(notes))


def _document(data: bytes, path: Path) -> JsonObject:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"keys file `{path}` is not UTF-8 (byte {error.start}); save it as UTF-8") from None
    if text.startswith("\N{BOM}"):
        raise ConfigError(f"keys file `{path}` begins with a byte order mark; save it as UTF-8 without one")
    if not text.strip():
        raise ConfigError(
            f'keys file `{path}` is empty; write {{"version": 1, "keys": []}} or make a key with `gen-key`'
        )
    try:
        document = json.loads(text, parse_float=Decimal, parse_constant=_refuse_constant, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        raise ConfigError(
            f"keys file `{path}` is not JSON: line {error.lineno}, column {error.colno}: {error.msg.lower()}"
        ) from None
    except RecursionError:
        raise ConfigError(f"keys file `{path}` is nested too deeply to be a keys file") from None
    except (ValueError, ArithmeticError) as error:
        raise ConfigError(f"keys file `{path}` holds a number that cannot be used: {error}") from None
    if not isinstance(document, JsonObject):
        raise ConfigError(f'keys file `{path}` is not an object; write {{"version": 1, "keys": [...]}}')
    return document


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"`{name}` is no limit; remove the field for no limit")


def _object(pairs: list[tuple[str, Any]]) -> JsonObject:
    made = JsonObject(pairs)
    if len(made) != len(pairs):
        names = [name for name, _ in pairs]
        made.repeated = tuple(dict.fromkeys(name for name in names if names.count(name) > 1))
    return made


def _top_problems(document: JsonObject) -> list[Problem]:
    found = [Problem("", name, "is written more than once; keep one of them") for name in document.repeated]
    found += [
        Problem("", name, f"unknown field{closest(name, _TOP_FIELDS) or '; remove it'}")
        for name in document
        if name not in _TOP_FIELDS
    ]
    version = document.get("version")
    if type(version) is not int or version != 1:
        told = shown(version) if "version" in document else "is missing"
        found.append(Problem("", "version", f'{told}; this program reads version 1: write "version": 1'))
    if not isinstance(document.get("keys"), list):
        found.append(Problem("", "keys", 'must be the list of key records; write "keys": [...]'))
    return found


def _clashes(entries: list[Any]) -> list[Problem]:
    """Records that share an id or a secret. Looked for in the raw records, so that other problems hide none."""
    problems: list[Problem] = []
    ids: set[str] = set()
    owners: dict[str, str] = {}
    for raw in entries:
        if not isinstance(raw, dict) or not isinstance(raw.get("id"), str):
            continue
        name = raw["id"]
        if name in ids:
            problems.append(Problem(shown(name), "id", "two records have this id; rename or delete one"))
        ids.add(name)
        for field in ("hash", "ws_hash"):
            value = raw.get(field)
            if not isinstance(value, str):
                continue
            digest = value.removeprefix("sha256:").lower()
            if digest in owners:
                other = shown(owners[digest])
                text = f"is also that of key {other}; one secret cannot be two keys: make a new one with `gen-key`"
                problems.append(Problem(shown(name), field, text))
            owners.setdefault(digest, name)
    return problems


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
