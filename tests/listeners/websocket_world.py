"""A sidecar with small limits and a sandbox, for the tests of the WebSocket door; one for a whole module."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from live import LiveSandbox, LiveSidecar, Stage
from websocket_client import FrameClient, JsClient, key_with_md5

ORIGIN = "https://desk.example.com"
REQUEST_BODY = 64 * 1024
HANDSHAKE = 1.0

BOT = ("qot:read", "acc:read", "trade:simulate")


class World(Stage):
    """`bot` is a key that reads and trades on one paper account, `reader` one for quotes; both have a `ws_hash`."""

    def __init__(self, folder: Path, *, max_connections_per_key: int = 50, **limits: Any) -> None:
        super().__init__(folder)
        self.bot = key_with_md5(self.keys, "bot", *BOT, allowed_acc_ids=[1001001], max_order_value=100_000)
        self.reader = key_with_md5(self.keys, "reader", "qot:read")
        self.opend: LiveSandbox = self.sandbox(tick_interval=0, relaxed_paper=True)
        self.car: LiveSidecar = self.sidecar(
            self.opend.port,
            upstream={"max_connections_per_key": max_connections_per_key},
            listeners={"websocket": {"port": 0, "allowed_origins": [ORIGIN]}},
            limits={"request_body": REQUEST_BODY, "handshake_timeout": HANDSHAKE, **limits},
        )

    def __enter__(self) -> Self:
        super().__enter__()
        return self

    @property
    def port(self) -> int:
        return self.car.doors["websocket"]

    def frames(self, key: str | None = None, **how: Any) -> FrameClient:
        return FrameClient(self.port, key=key, **how)

    def js(self, **how: Any) -> JsClient:
        return JsClient(self.port, **how)

    def nothing_new_upstream(self, before: int) -> bool:
        """Whether OpenD was asked nothing since clients had asked it `before` times."""
        return not self.opend.asked_by_clients()[before:]
