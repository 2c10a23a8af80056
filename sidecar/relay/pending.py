"""What was sent to OpenD for one client and has no answer yet: kept by serial, and answered in the end by OpenD or by us.
Reads and sends nothing upstream.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from sidecar.asked import Forward
from sidecar.relay.client import Replies
from sidecar.returns import Returns
from sidecar.wire.catalog import Row
from sidecar.wire.frame import PROTOBUF


@dataclass(frozen=True, slots=True)
class Pending:
    """A request sent upstream whose answer cannot be passed as it is."""

    row: Row
    serial: int
    fmt: int
    forward: Forward | None = None
    given_up: bool = False
    """The client was told that OpenD did not answer; an order is still settled when it does."""

    @property
    def is_write(self) -> bool:
        return self.forward is not None and self.forward.record is not None


class Unanswered:
    """INVARIANT: every request that was sent is answered once: by OpenD, or given up."""

    __slots__ = ("_overdue", "_replies", "_returns", "sent")

    def __init__(self, replies: Replies, returns: Returns) -> None:
        self._replies = replies
        self._returns = returns
        self._overdue: tuple[int, ...] = ()
        self.sent: dict[int, int | Pending] = {}
        """Upstream serial → the proto id of a request passed as it was, or what to do with the answer. Written by the relay
        itself, frame by frame: another dict takes its place when all are given up."""

    def __len__(self) -> int:
        return len(self.sent)

    @property
    def owes_orders(self) -> bool:
        """Whether the answer to an order or a change of one is still to come."""
        return any(isinstance(entry, Pending) and entry.is_write for entry in self.sent.values())

    def give_up_all(self, reason: str) -> None:
        """OpenD's session has ended: no answer comes any more."""
        given_up, self.sent = self.sent, {}
        for serial, entry in given_up.items():
            self._give_up(serial, entry, reason)

    def give_up_overdue(self) -> None:
        """Answer what was pending at the last call and still is. Called every half of `request_timeout`: never silence."""
        for serial in self._overdue:
            entry = self.sent.get(serial)
            if entry is None:
                continue
            self._give_up(serial, entry, "OpenD did not answer in time")
            if isinstance(entry, Pending) and entry.is_write:
                self.sent[serial] = replace(entry, given_up=True)
            else:
                del self.sent[serial]
        self._overdue = tuple(
            serial for serial, entry in self.sent.items() if isinstance(entry, int) or not entry.given_up
        )

    def _give_up(self, serial: int, entry: int | Pending, reason: str) -> None:
        """Tell the client that an answer does not come, and record it of an order."""
        if isinstance(entry, int):
            self._replies.refuse(entry, serial, PROTOBUF, self._returns.gave_up(None, reason))
        elif not entry.given_up:
            self._replies.refuse(entry.row.id, entry.serial, entry.fmt, self._returns.gave_up(entry.forward, reason))

    def forget_all(self) -> None:
        """Nobody waits any more: what orders have no answer is recorded."""
        for entry in self.sent.values():
            if isinstance(entry, Pending) and entry.forward is not None and entry.is_write and not entry.given_up:
                self._returns.order_lost(entry.forward, "the client has gone and OpenD did not answer in time")
        self.sent.clear()
