"""The answers a client with a bad key gets: accepted and told why, because refusing InitConnect makes the official SDK retry for ever."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from sidecar.grants import Caller
from sidecar.wire import body, catalog, replies
from sidecar.wire.frame import JSON, PROTOBUF
from sidecar.wire.messages import message_class


@dataclass(frozen=True, slots=True)
class Quarantine:
    """`reason` is what every request is answered with; `caller` is asked about again after a reload; `until` is loop time."""

    reason: str
    caller: Caller
    until: float

    def answer(self, proto_id: int, fmt: int) -> bytes:
        """The body of the answer to one request; nothing of it goes upstream."""
        if proto_id == catalog.KEEP_ALIVE:
            reply: Any = message_class("KeepAlive.Response")()
            reply.retType = 0
            reply.s2c.time = int(time.time())
            return body.serialise(reply, JSON if fmt == JSON else PROTOBUF)
        return replies.refusal(fmt, self.reason)
