"""How lines hang together: each carries its number, the hash of the one before it and its own; reads and writes no
file.

A line is one JSON object whose last members are `seq`, `prev` and `hash`. `hash` is the SHA-256 (lower-case hex) of the
line's bytes without its `hash` member: everything up to it, closed with `}`. `prev` is the `hash` of the line before,
64 zeros for the first. So every byte of a line but its line feed is covered by its own hash, and its place by the next.
"""

from __future__ import annotations

import re
from hashlib import sha256
from typing import Any, NamedTuple

from sidecar.audit.record import to_json


class Head(NamedTuple):
    """The end of a chain: the number and hash of its last line."""

    seq: int
    hash: str


GENESIS = Head(0, "0" * 64)

_TAIL = re.compile(rb',"seq":([1-9][0-9]{0,18}),"prev":"([0-9a-f]{64})","hash":"([0-9a-f]{64})"}\Z')


class Link(NamedTuple):
    """One line that is sound in itself."""

    seq: int
    prev: str
    hash: str

    @property
    def head(self) -> Head:
        return Head(self.seq, self.hash)

    def follows(self, head: Head) -> bool:
        return self.seq == head.seq + 1 and self.prev == head.hash


def link(fields: dict[str, Any], head: Head) -> tuple[bytes, Head]:
    """The line (with its line feed) that comes after `head`, and the new head."""
    body = to_json({**fields, "seq": head.seq + 1, "prev": head.hash})
    digest = sha256(body).hexdigest()
    return body[:-1] + b',"hash":"' + digest.encode("ascii") + b'"}\n', Head(head.seq + 1, digest)


def read_link(line: bytes) -> Link | None:
    """What a line (without its line feed) says of its place, or None if its hash does not fit its bytes."""
    tail = _TAIL.search(line)
    if tail is None:
        return None
    digest = tail.group(3).decode("ascii")
    if sha256(line[: tail.start(3) - len(b',"hash":"')] + b"}").hexdigest() != digest:
        return None
    return Link(int(tail.group(1)), tail.group(2).decode("ascii"), digest)
