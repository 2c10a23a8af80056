"""The log of everything a sandbox received, in memory and as JSON Lines. Judges nothing, changes nothing."""

from __future__ import annotations

import base64
import math
import os
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

import orjson
from google.protobuf.message import Message

from sidecar.errors import ConfigError


class Record:
    """One received frame. `c2s` is the decoded request as a dict, None where the body was not readable."""

    __slots__ = ("_message", "client_id", "conn", "proto_id", "serial", "t")

    def __init__(
        self, t: float, conn: int, proto_id: int, serial: int, client_id: str, message: Message | None
    ) -> None:
        self.t = t
        self.conn = conn
        """connID of the connection it came over."""
        self.proto_id = proto_id
        self.serial = serial
        self.client_id = client_id
        self._message = message

    @property
    def c2s(self) -> dict[str, Any] | None:
        if self._message is None:
            return None
        tree = as_dict(self._message)
        c2s: dict[str, Any] = tree.get("c2s", tree)
        return c2s

    def __repr__(self) -> str:
        return f"Record(proto_id={self.proto_id}, serial={self.serial}, client_id={self.client_id!r}, c2s={self.c2s})"


class ReceivedLog:
    """The last `kept` frames, oldest first, and, where `path` is given, a line on disk for each as it comes.

    Raises ConfigError when the file cannot be opened.
    """

    def __init__(self, kept: int, path: str | None) -> None:
        self._records: deque[Record] = deque(maxlen=kept)
        self._file: int | None = None
        if path is not None:
            try:
                self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            except OSError as error:
                raise ConfigError(f"cannot write the log `{path}`: {(error.strerror or str(error)).lower()}") from None

    def __iter__(self) -> Iterator[Record]:
        return iter(tuple(self._records))

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Record:
        return self._records[index]

    def of(self, proto_id: int) -> list[Record]:
        """The frames of one proto id, oldest first."""
        return [record for record in self._records if record.proto_id == proto_id]

    def clear(self) -> None:
        """Forget what is in memory; the file keeps its lines."""
        self._records.clear()

    def frame(self, conn: int, proto_id: int, serial: int, client_id: str, message: Message | None) -> None:
        record = Record(time.time(), conn, proto_id, serial, client_id, message)
        self._records.append(record)
        if self._file is not None:
            self._line(
                {
                    "t": record.t,
                    "conn": conn,
                    "proto_id": proto_id,
                    "serial": serial,
                    "client_id": client_id,
                    "c2s": record.c2s,
                }
            )

    def event(self, conn: int, event: str, detail: str = "") -> None:
        """A connect, a disconnect or a violation of the protocol; these go to the file only."""
        if self._file is not None:
            line: dict[str, Any] = {"t": time.time(), "conn": conn, "event": event}
            if detail:
                line["detail"] = detail
            self._line(line)

    def _line(self, tree: dict[str, Any]) -> None:
        if self._file is not None:
            os.write(self._file, orjson.dumps(tree, option=orjson.OPT_APPEND_NEWLINE))

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def as_dict(message: Message) -> dict[str, Any]:
    """The fields that are set, by their .proto names; bytes as base64, NaN and infinities as text. Ten times json_format."""
    return {field.name: _value(value) for field, value in message.ListFields()}


def _value(value: Any) -> Any:
    if isinstance(value, Message):
        return as_dict(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, (int, str)):
        return value
    return [_value(part) for part in value]
