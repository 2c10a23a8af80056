"""The audit as it grows, and one record of it as a line for people. Judges nothing and writes no file."""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO

from rich.text import Text

from sidecar.policy.exact import plain

Record = Mapping[str, Any]
"""The fields of one line, numbers as Decimal or int."""

_NEEDED = ("timestamp", "iface", "endpoint", "key_id", "outcome")
"""Texts that every record has."""
_TEXTS = (
    "reason", "message", "op", "decision_id", "market", "symbol", "side", "order_type", "currency", "order_id", "order_id_ex",
)  # fmt: skip
"""Texts that some have."""
_NUMBERS = ("qty", "price", "value")
_MOST_DIGITS = 60
"""Of a number, before and after the point: an exponent stands for so many zeros when it is shown."""

_MARKS = {
    "allow": ("✓", "green"),
    "success": ("✓", "green"),
    "reject": ("✗", "red"),
    "failure": ("✗", "red"),
    "unknown": ("?", "yellow"),
}


def record_of(line: bytes) -> dict[str, Any] | None:
    """None for what is no record: the file may be somebody else's, or was edited."""
    try:
        record = json.loads(line, parse_float=Decimal)
        if not isinstance(record, dict) or not all(isinstance(record.get(name), str) for name in _NEEDED):
            return None
        datetime.fromisoformat(record["timestamp"]).astimezone()
        texts = (record[name] for name in _TEXTS if name in record)
        if not record["endpoint"].strip() or not all(isinstance(text, str) for text in texts):
            return None
        return record if all(_shows(record[name]) for name in _NUMBERS if name in record) else None
    except (ValueError, OverflowError, ArithmeticError, RecursionError):
        return None


def _shows(value: object) -> bool:
    return (
        isinstance(value, int | Decimal)
        and Decimal(value).is_finite()
        and abs(Decimal(value).adjusted()) < _MOST_DIGITS
    )


class Following:
    """Reads what was appended to the audit file since the last look, across its rotation."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._begun = b""
        """The start of a line whose end is not there yet."""

    def new(self) -> list[Record]:
        """The whole lines since the last call, in order; raises OSError if the file cannot be read."""
        if self._file is None:
            if not self._path.exists():
                return []
            self._file = self._path.open("rb")
        data = self._begun + self._file.read()
        if not data and self._rotated():
            self.close()
            return self.new()
        *lines, self._begun = data.split(b"\n")
        return [record for record in map(record_of, lines) if record is not None]

    def last(self, count: int, wanted: Callable[[bytes], bool]) -> list[Record]:
        """The last `count` whole lines there are now that are wanted; `new` goes on after them."""
        if self._file is None:
            if not self._path.exists():
                return []
            self._file = self._path.open("rb")
        kept: deque[bytes] = deque(maxlen=count)
        for line in self._file:
            if not line.endswith(b"\n"):
                self._begun = line
            elif wanted(line):
                kept.append(line)
        return [record for record in map(record_of, kept) if record is not None]

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _rotated(self) -> bool:
        try:
            there = self._path.stat()
        except FileNotFoundError:
            return False
        return self._file is not None and not os.path.samestat(os.fstat(self._file.fileno()), there)


def line_of(record: Record, *, dated: bool = False) -> Text:
    """`10:58:00 ✗ sim-bot place_order HK.00700 BUY 400 × 300 = 120000 HKD order_value: ...`, coloured; `dated` with the day."""
    mark, colour = _MARKS.get(record["outcome"], ("?", "yellow"))
    at = datetime.fromisoformat(record["timestamp"]).astimezone()
    door = record["iface"] if record["iface"] != "tcp" else ""
    verb = record.get("op") or record["endpoint"].split()[0]
    parts = [record["key_id"], door, verb, _subject(record), _verdict(record)]
    text = Text(f"{at:%Y-%m-%d %H:%M:%S} " if dated else f"{at:%H:%M:%S} ")
    text.append(mark, colour)
    # SECURITY: symbols, remarks and reasons come from outside; escape sequences in them must not reach the terminal
    text.append("".join(f" {_printable(part)}" for part in parts if part))
    return text


def _subject(record: Record) -> str:
    """What it was about: the order and its value, or the order's id."""
    if "symbol" not in record:
        named = record.get("order_id_ex") or record.get("order_id")
        return f"order {named}" if named else ""
    subject = f"{record['symbol']} {record.get('side', '')} {_number(record.get('qty'))}"
    if "price" in record:
        subject += f" × {_number(record['price'])}"
    if "value" in record:
        subject += f" = {_number(record['value'])} {record.get('currency', '')}"
    return subject


def _verdict(record: Record) -> str:
    outcome, message = record["outcome"], record.get("message", "")
    if record["endpoint"] in ("halt", "resume"):
        return f"→ {message}"
    if outcome == "allow":
        return "→ allowed"
    if outcome == "success":
        order = record.get("order_id_ex") or record.get("order_id")
        return f"→ OpenD took it as order {order}" if "symbol" in record and order else "→ OpenD did it"
    if outcome == "failure":
        return f"→ OpenD refused it: {message}" if "ret_type" in record else f"→ {record.get('reason', '')}: {message}"
    if outcome == "unknown":
        return f"→ what became of it is unknown: {message}"
    return f"→ {record.get('reason', '')}: {message}"


def _number(value: Any) -> str:
    return plain(Decimal(value)) if isinstance(value, int | Decimal) else str(value)


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
