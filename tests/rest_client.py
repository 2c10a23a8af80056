"""A client of the REST door over real sockets: whole requests by name, and bytes as they are for what no client would send."""

from __future__ import annotations

import http.client
import json
import socket
from dataclasses import dataclass, field
from typing import Any

PAPER_HK = 1001001
"""A paper account of the sandbox."""


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    """By lower-case name; the last of several."""
    raw: bytes
    connection: http.client.HTTPConnection | None = field(default=None, compare=False)

    @property
    def json(self) -> Any:
        return json.loads(self.raw)

    @property
    def code(self) -> str | None:
        found: str | None = self.json.get("code")
        return found

    @property
    def s2c(self) -> Any:
        assert self.status == 200, (self.status, self.raw)
        assert self.json["ret_type"] == 0, self.raw
        return self.json["s2c"]


class RestClient:
    """Asks one door with one key; a connection for each request, unless told to keep it."""

    def __init__(self, port: int, key: str | None = None) -> None:
        self.port = port
        self.key = key

    def request(
        self, method: str, path: str, body: Any = None, *, headers: dict[str, str] | None = None, timeout: float = 10.0
    ) -> Answer:
        """`body`: bytes go as they are, anything else as JSON. A header given as "" is left out."""
        wanted = {"Content-Type": "application/json"} if body is not None else {}
        if self.key is not None:
            wanted["Authorization"] = f"Bearer {self.key}"
        wanted.update(headers or {})
        wanted = {name: value for name, value in wanted.items() if value}
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(method, path, data, wanted)
            reply = connection.getresponse()
            return Answer(reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Answer:
        return self.request("GET", path, headers=headers)

    def post(self, path: str, body: Any = None, **headers: str) -> Answer:
        return self.request("POST", path, {} if body is None else body, headers=headers)

    def raw(self, data: bytes, *, timeout: float = 5.0) -> Answer:
        """The answer to bytes; the connection is closed by the sidecar, or not at all (then this fails)."""
        with socket.create_connection(("127.0.0.1", self.port), timeout) as line:
            line.sendall(data)
            return read_answer(line)


def read_answer(line: socket.socket) -> Answer:
    """One HTTP answer off a connection."""
    reply = http.client.HTTPResponse(line)
    reply.begin()
    return Answer(reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read())


def header(acc_id: int = PAPER_HK, env: int = 0, market: int = 1) -> dict[str, Any]:
    return {"trd_env": env, "acc_id": str(acc_id), "trd_market": market}


def order(*, price: float = 300, qty: float = 100, code: str = "00700", side: int = 1, **more: Any) -> dict[str, Any]:
    """Buy 100 Tencent at 300 HKD on paper, unless told otherwise."""
    return {
        "header": header(), "trd_side": side, "order_type": 1, "code": code, "qty": qty, "price": price, "sec_market": 1,
        **more,
    }  # fmt: skip
