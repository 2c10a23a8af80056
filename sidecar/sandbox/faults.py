"""Bad days on purpose: the closed list of faults, how one is written, and which request each strikes. Carries out none.

What happens to a struck request is in `connection`; every kind is something a link or a program can do to a client, none is
a word OpenD promises (inferred).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random

from sidecar.errors import ConfigError
from sidecar.wire.catalog import CATALOG, INIT_CONNECT, KEEP_ALIVE, Direction


class FaultKind(StrEnum):
    DELAY = "delay"
    """Handled at once, answered some seconds later: a slow OpenD."""
    DROP = "drop"
    """Lost on its way: neither handled nor answered."""
    REFUSE = "refuse"
    """Not handled; answered with a refusal in OpenD's manner."""
    TWICE = "twice"
    """Handled once, answered two times."""
    LATE = "late"
    """Handled at once, answered when the client has given up waiting."""
    SILENT = "silent"
    """Handled, pushes included, and never answered."""
    DISCONNECT = "disconnect"
    """Handled; then the connection is gone, without an answer."""


_KINDS = tuple(FaultKind)

_WAITING = {FaultKind.DELAY: 2.0, FaultKind.LATE: 15.0}
"""Seconds where a fault names none; the official Python SDK waits 12 s for an answer, the JavaScript one 5 s."""

_SPARED = frozenset({INIT_CONNECT, KEEP_ALIVE})
"""What a fault without a proto id leaves alone: with these struck nothing else would be tried."""

_FORM = re.compile(r"([a-z]+)(?::(\d+))?(?:=(\d+(?:\.\d+)?))?(?:@(%?)(\d+(?:\.\d+)?))?", re.ASCII)
_WRITTEN = "KIND[:PROTO_ID][=SECONDS][@N or @%P]"


@dataclass(frozen=True, slots=True)
class Fault:
    """One kind of bad day. Without a proto id it strikes every request but InitConnect and KeepAlive."""

    kind: FaultKind
    proto_id: int | None = None
    seconds: float = 0.0
    """How long an answer is held back; `delay` and `late` only."""
    nth: int | None = None
    """Only the nth request it could strike, counted from 1."""
    percent: float | None = None
    """Only so many requests of a hundred, by the seed."""

    @classmethod
    def parse(cls, text: str) -> Fault:
        """A fault as it is written on the command line: `disconnect:2202@1`, `delay=0.5@%20`. Raises ConfigError."""
        written = _FORM.fullmatch(text.strip())
        if written is None:
            raise ConfigError(f"`{text}` is no fault; {_hint(text)}")
        name, proto, seconds, share, count = written.groups()
        if name not in _KINDS:
            close = difflib.get_close_matches(name, _KINDS, n=1)
            hint = f"did you mean `{close[0]}`?" if close else f"there are {', '.join(_KINDS)}"
            raise ConfigError(f"`{name}` in `{text}` is no kind of fault; {hint}")
        kind = FaultKind(name)
        if seconds is not None and kind not in _WAITING:
            raise ConfigError(f"`{text}`: {kind} takes no seconds; only {' and '.join(_WAITING)} hold an answer back")
        percent = float(count) if share else None
        if percent is not None and not 0 < percent <= 100:
            raise ConfigError(f"`{text}`: the percentage must be above 0 and at most 100")
        if count and not share and not (count.isdecimal() and int(count) > 0):
            raise ConfigError(f"`{text}`: the number after @ must be 1 or more, or a percentage such as @%20")
        return cls(
            kind=kind,
            proto_id=_request_id(text, int(proto)) if proto else None,
            seconds=float(seconds) if seconds is not None else _WAITING.get(kind, 0.0),
            nth=int(count) if count and not share else None,
            percent=percent,
        )

    def concerns(self, proto_id: int) -> bool:
        return proto_id not in _SPARED if self.proto_id is None else proto_id == self.proto_id

    def __str__(self) -> str:
        """The form that `parse` reads."""
        proto = f":{self.proto_id}" if self.proto_id is not None else ""
        seconds = f"={self.seconds:g}" if self.kind in _WAITING else ""
        chosen = f"@{self.nth}" if self.nth is not None else f"@%{self.percent:g}" if self.percent is not None else ""
        return f"{self.kind}{proto}{seconds}{chosen}"


def _hint(text: str) -> str:
    """What is wrong with the form of one, as far as it shows; else how one is written."""
    kind, _, rest = text.strip().partition(":")
    if kind != kind.lower() and kind.lower() in _KINDS:
        return f"kinds are written small: `{text.strip().replace(kind, kind.lower(), 1)}`"
    if kind in _KINDS and rest[:1].isalpha():
        return "requests go by their number: place order is 2202, modify and cancel 2205"
    example = kind if kind in _KINDS else FaultKind.DISCONNECT
    return f"write {_WRITTEN}, for example `{example}:2202{'=3' if example in _WAITING else ''}@1`"


def _request_id(text: str, proto_id: int) -> int:
    row = CATALOG.get(proto_id)
    if row is None or row.direction is not Direction.REQUEST:
        raise ConfigError(f"`{text}`: {proto_id} is no request of OpenD; place order is 2202, modify and cancel 2205")
    if proto_id == INIT_CONNECT:
        raise ConfigError(f"`{text}`: InitConnect cannot be struck; stop the sandbox to see a client without OpenD")
    return proto_id


class FaultPlan:
    """The faults in force, and how often each has struck. Counting starts with the plan."""

    def __init__(self, faults: Iterable[Fault] = (), seed: int = 1) -> None:
        self.faults: Sequence[Fault] = tuple(faults)
        self.struck = [0] * len(self.faults)
        """How many requests each fault has struck, in the order of `faults`."""
        self._met = [0] * len(self.faults)
        self._random = Random(f"faults {seed}")  # noqa: S311 - a seed must give the same again

    def strike(self, proto_id: int) -> Fault | None:
        """The fault that this request meets, None for none: the first that is due, though each counts what it could strike."""
        due: int | None = None
        for number, fault in enumerate(self.faults):
            if not fault.concerns(proto_id):
                continue
            self._met[number] += 1
            chosen = fault.nth is None or self._met[number] == fault.nth
            if fault.percent is not None:
                chosen = self._random.random() * 100 < fault.percent
            if chosen and due is None:
                due = number
        if due is None:
            return None
        self.struck[due] += 1
        return self.faults[due]
