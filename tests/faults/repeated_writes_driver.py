"""A sidecar that asks at its own desk for one order under one idempotency key, and may be made to die at a given moment.

Arguments: folder (with keys.json), OpenD's port, key, idempotency key, moment. Prints what the asker was told, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog
from faults_world import order

from sidecar.app import App
from sidecar.audit.log import AuditLog
from sidecar.desks import Reply
from sidecar.ledger.sqlite import SqliteStore
from sidecar.listener_settings import Listeners
from sidecar.returns import Returns
from sidecar.settings import Audit, Keys, Settings, Upstream
from sidecar.upstream.session import Session
from sidecar.wire.messages import message_class

PLACE = 2202


def die() -> Any:
    """As a power cut would."""
    os.kill(os.getpid(), signal.SIGKILL)


def before(owner: type, name: str, when: Callable[..., bool] = lambda *_: True, *, linger: float = 0.0) -> None:
    """Die in place of the first call of a method for which `when` holds; `linger`: call it, and die some seconds later."""
    method = getattr(owner, name)

    def dying(self: Any, *args: Any, **kwargs: Any) -> Any:
        if when(*args):
            if not linger:
                die()
            asyncio.get_running_loop().call_later(linger, die)
        return method(self, *args, **kwargs)

    setattr(owner, name, dying)


def holds_an_order(changes: Any, *_: Any) -> bool:
    return any(hasattr(change, "reservation") for change in changes)


MOMENTS: dict[str, Callable[[], None]] = {
    "never": lambda: None,
    "before the reservation is written": lambda: before(SqliteStore, "commit", holds_an_order),
    "before the audit record is written": lambda: before(
        AuditLog, "append", lambda records, *_: any(record.essential for record in records)
    ),
    "before the first byte": lambda: before(Session, "send", lambda proto_id, *_: proto_id == PLACE),
    "after it was sent": lambda: before(Session, "send", lambda proto_id, *_: proto_id == PLACE, linger=0.15),
    "when the answer has come": lambda: before(Returns, "order_answered"),
    "when the asker was told": lambda: None,
}


async def main(folder: Path, port: int, key: str, token: str, moment: str) -> None:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    MOMENTS[moment]()
    if moment != "never":
        # only OpenD's answer says what became of the order
        Returns.learn = lambda *_: None  # type: ignore[method-assign, assignment]
    app = App(
        Settings(
            upstream=Upstream(port=port, connect_timeout=5.0),
            keys=Keys(file=folder / "keys.json", timezone="UTC"),
            state_dir=folder / "state",
            audit=Audit(file=folder / "audit.jsonl", min_free=1024),
            listeners=Listeners(tcp=(), admin=None, websocket=None, rest=None, grpc=None, mcp=None),
            drain=1.0,
        )
    )
    running = asyncio.ensure_future(app.run())
    await app.started.wait()
    while not app.house.up:
        await asyncio.sleep(0.01)
    caller = app.grants.identify("rest", key, "127.0.0.1")

    def read_body(_row: Any, prepare: Any) -> Any:
        message = order()
        prepare(message)
        return message

    await asyncio.to_thread(sys.stdin.readline)  # the test says when
    answer = await app.desks.ask(caller, PLACE, read_body, idempotency_key=token)
    if isinstance(answer, Reply):
        response: Any = message_class("Trd_PlaceOrder.Response").FromString(answer.body)
        told = {"order": response.s2c.orderID, "ex": response.s2c.orderIDEx, "replayed": answer.replayed}
    else:
        told = {"code": answer.code.value, "unknown": answer.unknown}
    print(json.dumps(told), flush=True)
    if moment == "when the asker was told":
        die()
    app.stop()
    await running


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:6]))
