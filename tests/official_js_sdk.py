"""The official JavaScript SDK in a process of its own, driven by `official_js/sdk_driver.cjs`."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import threading
import time
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Self

from real_parts import PROJECT, need, need_program

DRIVER = Path(__file__).resolve().parent / "official_js" / "sdk_driver.cjs"


@dataclass(frozen=True)
class Answer:
    """What a call of the SDK resolved to (`ok`) or was rejected with."""

    ok: bool
    message: Any

    @property
    def text(self) -> str:
        """OpenD's retMsg, or the SDK's own word."""
        return str(self.message["retMsg"] if isinstance(self.message, dict) else self.message)


def node_modules() -> Path:
    """The folder with `futu-api` and `ws`; skips the test where it is not there."""
    folder = Path(os.environ.get("SIDECAR_NODE_MODULES") or PROJECT / "node_modules")
    need("npm futu-api", all((folder / name).is_dir() for name in ("futu-api", "ws")))
    return folder


class JsSdk:
    """One node process; `start` makes a connection of its own under a name. Use as `with`."""

    def __init__(self, *, trust: Path | None = None) -> None:
        """`trust`: a CA besides those node knows."""
        more = {} if trust is None else {"NODE_EXTRA_CA_CERTS": str(trust)}
        self._process = subprocess.Popen(
            [need_program("node"), str(DRIVER), str(node_modules())],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env={**os.environ, **more},
        )  # fmt: skip
        self._ids = count(1)
        self.events: list[dict[str, Any]] = []
        """All that happened, oldest first."""
        self._news: queue.Queue[dict[str, Any]] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        self.wait("ready")
        return self

    def __exit__(self, *failure: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(5)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._news.put(json.loads(line))

    def _command(self, **command: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        self._process.stdin.flush()

    def start(self, port: int, key: str | None, name: str = "main", *, ssl: bool = False) -> None:
        """`start(ip, port, ssl, key)` of the SDK; its outcome is the event `login`."""
        self._command(op="start", name=name, ip="127.0.0.1", port=port, ssl=ssl, key=key)

    def call(self, method: str, c2s: dict[str, Any] | None = None, name: str = "main", timeout: float = 8.0) -> Answer:
        """Call a method of the SDK with a request; wait for its promise."""
        number = next(self._ids)
        self._command(op="call", id=number, name=name, method=method, args=[] if c2s is None else [{"c2s": c2s}])
        event = self.wait("answer", timeout, id=number)
        return Answer(event["ok"], event["message"])

    def wait(self, event: str, timeout: float = 8.0, *, after: int = 0, **wanted: Any) -> dict[str, Any]:
        """The first event of this kind with these fields, of those from number `after` on."""
        deadline = time.monotonic() + timeout
        seen = after
        while True:
            for one in self.events[seen:]:
                seen += 1
                if one["event"] == event and all(one.get(name) == value for name, value in wanted.items()):
                    return one
            try:
                self.events.append(self._news.get(timeout=max(deadline - time.monotonic(), 0.001)))
            except queue.Empty:
                raise AssertionError(
                    f"no {event} with {wanted} within {timeout:g} s; there were {self.events}"
                ) from None

    def logged_in(self, name: str = "main", timeout: float = 8.0, *, after: int = 0) -> int:
        """Wait until the SDK is in; the connID that packetIDs need."""
        event = self.wait("login", timeout, name=name, after=after)
        assert event["ok"], event
        return int(event["detail"])

    def of(self, event: str, name: str = "main") -> list[dict[str, Any]]:
        """The events of a kind so far."""
        while not self._news.empty():
            self.events.append(self._news.get())
        return [one for one in self.events if one["event"] == event and one["name"] == name]
