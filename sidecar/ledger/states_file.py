"""`states.json`, in which trading states survive a restart, and the file `HALT` beside it, with which anybody who may write
there halts all trading. Read and written whole; what holds is not decided here.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import orjson

from sidecar.border import one_line
from sidecar.policy.trading import ACTIVE, Standing, TradingState

FILE_NAME = "states.json"
HALT_NAME = "HALT"
CANCEL_LINE = "cancel-orders"
"""A line in the file HALT that has all working orders cancelled too."""
LONGEST_REASON = 200
"""Characters."""
_LARGEST_HALT = 16 * 1024
_LARGEST = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Change:
    """One halt or resume: of which key (None: of everybody), when (aware), why and by whom."""

    state: TradingState
    key_id: str | None
    at: datetime
    reason: str
    by: str


Mark = tuple[int, int, int]
"""By which a file is known again: inode, time of its last change in ns, size."""


@dataclass(frozen=True, slots=True)
class HaltFile:
    """The file HALT as it was found. `cancel_orders`: it also wants all working orders cancelled. `mark` None: whether there
    is one cannot be told."""

    reason: str
    cancel_orders: bool = False
    mark: Mark | None = None


@dataclass(frozen=True, slots=True)
class Document:
    """What the file says. `keys` holds none that is ACTIVE; `unrecorded` are changes made while no sidecar ran, which the
    audit does not know yet. `cancels`: whose working orders are still to be cancelled (None: everybody's); `halt_mark`: the
    file HALT that was carried out last."""

    overall: Standing = ACTIVE
    keys: Mapping[str, Standing] = field(default_factory=lambda: MappingProxyType({}))
    unrecorded: tuple[Change, ...] = ()
    cancels: frozenset[str | None] = frozenset()
    halt_mark: Mark | None = None


def read(folder: Path) -> Document | None:
    """The whole file, None where there is none. Raises ValueError with the reason when it cannot be read or understood."""
    try:
        descriptor = os.open(folder / FILE_NAME, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _CAREFULLY)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ValueError(_reason(error)) from None
    try:
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise ValueError("it is not a regular file")
            data = file.read(_LARGEST + 1)
    except OSError as error:
        raise ValueError(_reason(error)) from None
    if len(data) > _LARGEST:
        raise ValueError("it is larger than it can be")
    try:
        return _parsed(orjson.loads(data))
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"it is damaged: {type(error).__name__}") from None


def write(folder: Path, document: Document) -> None:
    """Replace the file. INVARIANT: at every moment, and after a crash, it is the whole old one or the whole new one.

    Durable when it returns. Raises OSError. Whoever calls holds the lock of the state directory.
    """
    temporary = folder / f".{FILE_NAME}.new"
    data = orjson.dumps(_tree(document), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _CAREFULLY, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        temporary.replace(folder / FILE_NAME)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    _sync_folder(folder)


def mark(folder: Path) -> Mark | None:
    """Of the file that is there now; None where there is none or it cannot be told."""
    try:
        return _mark(os.lstat(folder / FILE_NAME))
    except OSError:
        return None


def _mark(found: os.stat_result) -> Mark:
    return found.st_ino, found.st_mtime_ns, found.st_size


def set_aside(folder: Path, name: str) -> bool:
    """Keep a file that cannot be understood under another name; whether that could be done."""
    try:
        (folder / FILE_NAME).replace(folder / name)
    except OSError:
        return False
    return True


def halt_wanted(folder: Path) -> HaltFile | None:
    """The file `HALT`; None where there is none. Its first line is the reason, unless that is `cancel-orders`, which may be
    any line.

    INVARIANT: whatever has that name halts, and so does a folder that cannot be looked into.
    """
    path = folder / HALT_NAME
    try:
        found = _mark(os.lstat(path))
    except FileNotFoundError:
        return None
    except OSError as error:
        return HaltFile(f"whether there is a file {HALT_NAME} cannot be told ({_reason(error)})")
    content = b""
    with contextlib.suppress(OSError):
        # Not blocking: a pipe of that name must halt trading, not the sidecar.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _CAREFULLY)
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                content = file.read(_LARGEST_HALT) or b""
    lines = content.decode("utf-8", "replace").split("\n")
    cancels = [_says_cancel(line) for line in lines]
    first = next((line for line, cancel in zip(lines, cancels, strict=True) if not cancel), "")
    reason = reason_of(first) or f"there is a file {HALT_NAME} in the state directory"
    return HaltFile(reason, any(cancels), found)


def halt_mark(folder: Path) -> Mark | None:
    """Of the file HALT that is there now, as `halt_wanted` gives it; None where there is none or it cannot be told."""
    try:
        return _mark(os.lstat(folder / HALT_NAME))
    except OSError:
        return None


def _says_cancel(line: str) -> bool:
    """Written in a hurry: `cancel orders`, `--cancel-orders` and `CANCEL_ORDERS` mean the same."""
    words = line.strip().lower().lstrip("-").replace("_", "-").split()
    return "-".join(words) == CANCEL_LINE


def make_halt_file(folder: Path, reason: str, *, cancel_orders: bool = False) -> None:
    """As the owner would by hand. Raises OSError."""
    lines = [reason, *([CANCEL_LINE] if cancel_orders else [])]
    (folder / HALT_NAME).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    _sync_folder(folder)


def remove_halt_file(folder: Path) -> None:
    """Does nothing where there is none; the next `write` makes it durable. Raises OSError."""
    (folder / HALT_NAME).unlink(missing_ok=True)


def reason_of(text: str) -> str:
    """A reason as everybody may read it. SECURITY: clients and terminals are shown it."""
    return one_line(text.strip(), LONGEST_REASON)


def _parsed(tree: Any) -> Document:
    if tree["version"] != 1:
        raise ValueError("of a later version")
    if tree.keys() - {"version", "all", "keys", "unrecorded", "cancel", "halt_file"}:
        raise ValueError("fields that are not known")
    overall = _standing(tree["all"], None)
    keys = {str(key_id): _standing(one, str(key_id)) for key_id, one in tree["keys"].items()}
    cancel = tree.get("cancel", {"all": False, "keys": []})
    cancels = frozenset([*(str(key_id) for key_id in cancel["keys"]), *([None] if cancel["all"] else [])])
    unrecorded = tuple(_change(one) for one in tree.get("unrecorded", []))
    return Document(overall, MappingProxyType(keys), unrecorded, cancels, _mark_of(tree.get("halt_file")))


def _mark_of(tree: Any) -> Mark | None:
    if tree is None:
        return None
    inode, changed, size = tree
    return int(inode), int(changed), int(size)


def _standing(tree: Any, key_id: str | None) -> Standing:
    since = None if tree["since"] is None else datetime.fromisoformat(tree["since"])
    state = TradingState[tree["state"]]
    if since is not None and since.utcoffset() is None:
        raise ValueError("a time without a zone")
    if not (isinstance(tree["reason"], str) and isinstance(tree["by"], str)):
        raise TypeError
    breaker = tree.get("breaker", "")
    if not isinstance(breaker, str):
        raise TypeError
    return Standing(state, key_id, since, reason_of(tree["reason"]), reason_of(tree["by"]), reason_of(breaker))


def _change(tree: Any) -> Change:
    standing = _standing({**tree, "since": tree["at"]}, tree["key"])
    if standing.since is None or not isinstance(tree["key"], str | None):
        raise TypeError
    return Change(standing.state, standing.key_id, standing.since, standing.reason, standing.by)


def _tree(document: Document) -> dict[str, Any]:
    return {
        "version": 1,
        "all": _standing_tree(document.overall),
        "keys": {key_id: _standing_tree(one) for key_id, one in sorted(document.keys.items())},
        "unrecorded": [
            {"state": one.state.name, "key": one.key_id, "at": one.at.isoformat(), "reason": one.reason, "by": one.by}
            for one in document.unrecorded
        ],
        "cancel": {
            "all": None in document.cancels,
            "keys": sorted(key_id for key_id in document.cancels if key_id is not None),
        },
        "halt_file": None if document.halt_mark is None else list(document.halt_mark),
    }


def _standing_tree(one: Standing) -> dict[str, Any]:
    since = None if one.since is None else one.since.isoformat()
    tree = {"state": one.state.name, "since": since, "reason": one.reason, "by": one.by}
    return {**tree, "breaker": one.breaker} if one.breaker else tree


def _sync_folder(folder: Path) -> None:
    if sys.platform != "win32":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


_CAREFULLY = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
