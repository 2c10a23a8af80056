"""The test's end of an official-SDK process: contexts, calls by name, pushes. What runs in it is `official_sdk_driver`."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DRIVER = Path(__file__).with_name("official_sdk_driver.py")


@dataclass(frozen=True)
class Answer:
    """What a method of the SDK returned: `ret` is RET_OK (0) or RET_ERROR (-1), `data` the table as rows, or a text."""

    ret: int
    data: Any
    seconds: float
    rest: tuple[Any, ...] = ()

    @property
    def ok(self) -> bool:
        return self.ret == 0

    def code(self) -> str | None:
        """The sidecar's code where this is one of its refusals."""
        if self.ret != -1 or not isinstance(self.data, str) or not self.data.startswith("[sidecar:"):
            return None
        return self.data[len("[sidecar:") :].partition("]")[0]


class SdkProcess:
    """One process with the official SDK in it. `home` keeps the SDK's own log files away from the user's."""

    def __init__(
        self, port: int, key: str | None, home: Path, *, rsa: Path | None = None, encrypt: bool | None = None,
        as_json: bool = False, python: str | None = None,
    ) -> None:  # fmt: skip
        home.mkdir(parents=True, exist_ok=True)
        config = {
            "port": port, "key": key, "rsa": None if rsa is None else str(rsa), "json": as_json,
            "encrypt": rsa is not None if encrypt is None else encrypt,
        }  # fmt: skip
        self._log = (home / "sdk.log").open("ab")
        self._process = subprocess.Popen(
            [python or sys.executable, str(DRIVER), json.dumps(config)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True,
            env={"HOME": str(home), "PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"},
        )  # fmt: skip
        self._numbers = itertools.count(1)
        self._waiting: dict[int, Future[Answer]] = {}
        self._seen: list[dict[str, Any]] = []
        self._lock = threading.Lock()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            reply = json.loads(line)
            future = self._waiting.pop(reply["id"])
            if "error" in reply:
                future.set_exception(AssertionError(f"the SDK raised:\n{reply['error']}"))
            else:
                ret, *rest = reply["answer"] if isinstance(reply["answer"], list) else [reply["answer"]]
                future.set_result(Answer(ret, rest[0] if rest else None, reply["seconds"], tuple(rest[1:])))
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(AssertionError("the SDK's process has ended"))

    def begin(self, do: str, **command: Any) -> Future[Answer]:
        """Start a command and do not wait."""
        number = next(self._numbers)
        future: Future[Answer] = Future()
        self._waiting[number] = future
        assert self._process.stdin is not None
        with self._lock:
            self._process.stdin.write(json.dumps({"id": number, "do": do, **command}) + "\n")
            self._process.stdin.flush()
        return future

    def open(self, name: str, kind: str, timeout: float = 30, **options: Any) -> None:
        """Make a context: `kind` is quote, trade or future. Returns when the SDK is connected."""
        self.begin("open", name=name, kind=kind, **options).result(timeout)

    def call(self, context: str, method: str, *args: Any, timeout: float = 30, **kwargs: Any) -> Answer:
        """A method of a context, by name, as a script would call it."""
        return self.begin("call", context=context, method=method, args=args, kwargs=kwargs).result(timeout)

    def raw(self, context: str, query: str, **kwargs: Any) -> Answer:
        """A request packed by the SDK's own `query` class, without what its methods check before; (ret, msg, data)."""
        return self.begin("raw", context=context, query=query, kwargs=kwargs).result(30)

    def together(self, calls: list[dict[str, Any]], timeout: float = 60) -> list[Answer]:
        answers = self.begin("together", calls=calls).result(timeout).data
        return [Answer(each[0], each[1], 0.0) for each in answers]

    def close(self, name: str) -> None:
        self.begin("close", name=name).result(20)

    # -- the usual ------------------------------------------------------------------------------------------------

    def place(self, code: str, price: float, qty: float, side: str = "BUY", **kwargs: Any) -> Answer:
        """place_order in a paper account, unless `trd_env` says otherwise, over the context `trade`."""
        kwargs.setdefault("trd_env", "SIMULATE")
        return self.call("trade", "place_order", price=price, qty=qty, code=code, trd_side=side, **kwargs)

    def cancel(self, order_id: str, **kwargs: Any) -> Answer:
        kwargs.setdefault("trd_env", "SIMULATE")
        return self.call("trade", "modify_order", modify_order_op="CANCEL", order_id=order_id, qty=0, price=0, **kwargs)

    # -- pushes ---------------------------------------------------------------------------------------------------

    def pushes(self) -> list[dict[str, Any]]:
        """Every push so far, each with its kind (quote, book, order, deal, ...), context, time and data."""
        self._seen.extend(self.begin("pushes").result(20).data)
        return self._seen

    def forget_pushes(self) -> None:
        self.pushes()
        self._seen.clear()

    def wait_push(self, kind: str, wanted: Callable[[Any], bool] = lambda data: True, timeout: float = 10) -> Any:
        """The data of the first push of `kind` that is `wanted`, waiting for it."""
        deadline = time.monotonic() + timeout
        while True:
            for push in self.pushes():
                if push["kind"] == kind and wanted(push["data"]):
                    return push["data"]
            seen = [push["kind"] for push in self._seen]
            assert time.monotonic() < deadline, f"no such push of kind `{kind}` in {timeout:g} s, only {seen}"
            time.sleep(0.05)

    def end(self) -> None:
        if self._process.stdin is not None and not self._process.stdin.closed:
            self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()
