"""A sandbox and a sidecar that really run: the sandbox in a thread of the tests, the sidecar as a process of its own."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from official_sdk import SdkProcess
from prometheus_client.parser import text_string_to_metric_families

from sidecar.app import App
from sidecar.config import load_settings
from sidecar.keys.secret import hash_of, new_plaintext
from sidecar.sandbox import Sandbox, SandboxSettings
from sidecar.sandbox.limits import FrequencyLimits

PROJECT = Path(__file__).resolve().parent.parent
T = TypeVar("T")

INIT_CONNECT = 1001
KEEP_ALIVE = 1004
PLACE_ORDER = 2202
MODIFY_ORDER = 2205


def eventually(look: Callable[[], T], timeout: float = 10.0, what: str = "") -> T:
    """The first true value of `look`, asked every 20 ms; fails after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {timeout:g} s: {what or look}; last seen: {found!r}"
        time.sleep(0.02)


def new_rsa_key(path: Path) -> Path:
    """A 1024-bit RSA key as OpenD wants it (PKCS#1); the SDK can use no other size."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    form = serialization.PrivateFormat.TraditionalOpenSSL
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    path.chmod(0o600)
    return path


class LiveSandbox:
    """A paper OpenD in a thread. `delays` may be changed while it runs: proto id → seconds a reply is held back."""

    def __init__(self, **settings: Any) -> None:
        settings.setdefault("port", 0)
        settings.setdefault("limits", False)
        self.delays: dict[int, float] = {}
        self._loop = asyncio.new_event_loop()
        self.sandbox = Sandbox(SandboxSettings(delays=self.delays, **settings))
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.start()

    def start(self) -> None:
        self._wait(asyncio.run_coroutine_threadsafe(self.sandbox.start(), self._loop))

    def stop(self) -> None:
        """As if OpenD had ended: the port is closed and every connection is gone; `start` brings it back."""
        self._wait(asyncio.run_coroutine_threadsafe(self.sandbox.stop(), self._loop))

    def close(self) -> None:
        self._wait(asyncio.run_coroutine_threadsafe(self.sandbox.close(), self._loop))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def do(self, action: Callable[..., T], *args: Any) -> T:
        """Call something of the sandbox in its own thread."""

        async def run() -> T:
            return action(*args)

        return self._wait(asyncio.run_coroutine_threadsafe(run(), self._loop))

    @staticmethod
    def _wait(future: Future[T]) -> T:
        return future.result(20)

    @property
    def port(self) -> int:
        return self.sandbox.port

    def received(self, proto_id: int) -> list[Any]:
        """Every frame of one id that arrived, oldest first (`serial`, `conn`, `client_id`, `c2s`)."""
        return self.do(lambda: self.sandbox.received.of(proto_id))

    def orders(self) -> list[dict[str, Any]]:
        """The c2s of every order that arrived."""
        return [record.c2s for record in self.received(PLACE_ORDER)]

    def everything(self) -> list[Any]:
        return self.do(lambda: list(self.sandbox.received))

    def asked_by_clients(self) -> list[Any]:
        """Everything but openings, keep-alives and what the sidecar asks for itself, over the connection it makes first."""
        all_frames = self.everything()
        own = all_frames[0].conn if all_frames else 0
        return [one for one in all_frames if one.conn != own and one.proto_id not in (INIT_CONNECT, KEEP_ALIVE)]

    def set_faults(self, *faults: str) -> None:
        """Bad days from now on (`disconnect:2202@1`); none at all ends them."""
        self.do(self.sandbox.set_faults, *faults)

    def set_market_state(self, market: str, state: int | None) -> None:
        self.do(self.sandbox.set_market_state, market, state)

    def set_price(self, symbol: str, price: str, volume: int | None = None) -> None:
        self.do(self.sandbox.set_price, symbol, price, volume)

    def limit(self) -> None:
        """From now on requests are limited in their frequency, as OpenD limits them."""
        self.do(setattr, self.sandbox, "_limits", FrequencyLimits())

    def working(self, acc_id: int | None = None) -> list[Any]:
        """The working orders of an account, or of all, as the sandbox has them."""

        def look() -> list[Any]:
            accounts = self.sandbox.accounts.values()
            return [one for account in accounts if acc_id in (None, account.acc_id) for one in account.working()]

        return self.do(look)


class KeysFile:
    """A keys.json that tests write: `add` returns the plaintext of a new key."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records: list[dict[str, Any]] = []
        self.write()

    def add(self, key_id: str, *scopes: str, **limits: Any) -> str:
        plaintext = new_plaintext()
        self.records.append({"id": key_id, "hash": hash_of(plaintext), "scopes": list(scopes), **limits})
        self.write()
        return plaintext

    def change(self, key_id: str, **fields: Any) -> None:
        next(one for one in self.records if one["id"] == key_id).update(fields)
        self.write()

    def remove(self, key_id: str) -> None:
        self.records = [one for one in self.records if one["id"] != key_id]
        self.write()

    def write(self) -> None:
        self.write_text(json.dumps({"version": 1, "keys": self.records}))

    def write_text(self, text: str) -> None:
        """Replace the file in one step, as the commands do."""
        beside = self.path.with_suffix(".new")
        beside.write_text(text)
        beside.chmod(0o600)
        beside.replace(self.path)


class _Running:
    """A sidecar in a folder of its own, and what it says."""

    def __init__(self, folder: Path, opend_port: int, keys: KeysFile, /, **settings: Any) -> None:
        self.folder = folder
        self.keys = keys
        self.audit_file = folder / "audit.jsonl"
        self.log_file = folder / "sidecar.log"
        self.config_file = folder / "sidecar.yaml"
        self.ports: list[int] = []
        """Of the TCP listeners."""
        self.doors: dict[str, int] = {}
        """Of all others (`websocket`, `rest`, `grpc`, `mcp`, `admin`)."""
        tree: dict[str, Any] = {
            "upstream": {"host": "127.0.0.1", "port": opend_port},
            "keys": {"file": str(keys.path)},
            "state_dir": str(folder / "state"),
            "audit": {"file": str(self.audit_file)},
            "listeners": {
                "tcp": [{"port": 0}],
                "admin": {"port": 0},
                "websocket": {"port": 0},
                "rest": {"port": 0},
                "grpc": {"port": 0},
                "mcp": {"port": 0},
            },
            "log": {"json": True},
        }
        for section, values in settings.items():
            tree[section] = {**tree.get(section, {}), **values} if isinstance(values, dict) else values
        self.settings = tree

    def write_settings(self) -> None:
        self.config_file.write_text(json.dumps(self.settings))

    @property
    def port(self) -> int:
        return self.ports[0]

    @property
    def admin_port(self) -> int:
        return self.doors.get("admin", 0)

    def _opened(self, ports: dict[str, list[int]]) -> None:
        self.ports = ports.get("tcp", [])
        self.doors = {name: found[0] for name, found in ports.items() if name != "tcp"}

    # -- what it says ---------------------------------------------------------------------------------------------

    def log_text(self) -> str:
        return self.log_file.read_text(errors="replace")

    def log(self, after: int = 0) -> list[dict[str, Any]]:
        """The operator's log, as dicts, from byte `after` on."""
        if not self.log_file.exists():
            return []
        lines = self.log_file.read_bytes()[after:].split(b"\n")
        found = []
        for line in lines:
            if line.startswith(b"{") and line.endswith(b"}"):
                found.append(json.loads(line))
        return found

    def audit(self, **wanted: Any) -> list[dict[str, Any]]:
        """The lines of the audit whose fields are as `wanted`, oldest first."""
        if not self.audit_file.exists():
            return []
        text = self.audit_file.read_bytes()
        lines = [json.loads(line) for line in text[: text.rfind(b"\n") + 1].splitlines()]
        return [line for line in lines if all(line.get(name) == value for name, value in wanted.items())]

    def revision(self) -> str:
        """The revision of keys.json in force."""
        found: str = json.loads(self.get("/api/revision")[1])["revision"]
        return found

    def wait_keys(self, timeout: float = 5.0) -> float:
        """Wait until keys.json as it is now is in force; the seconds that took."""
        wanted = hashlib.sha256(self.keys.path.read_bytes()).hexdigest()
        started = time.monotonic()
        eventually(lambda: self.revision() == wanted, timeout, "the changed keys to be in force")
        return time.monotonic() - started

    def wait_audit(self, timeout: float = 10.0, **wanted: Any) -> dict[str, Any]:
        """The first line of the audit that is as `wanted`, waiting for it."""
        return eventually(lambda: self.audit(**wanted), timeout, f"an audit line with {wanted}")[0]

    def get(self, path: str) -> tuple[int, str]:
        """A page of the admin listener: status and text."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.admin_port}{path}", timeout=5) as reply:
                return reply.status, reply.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels; 0 where there are none."""
        total = 0.0
        for family in text_string_to_metric_families(self.get("/metrics")[1]):
            for sample in family.samples:
                if sample.name == name and all(sample.labels.get(label) == value for label, value in labels.items()):
                    total += sample.value
        return total


class LiveSidecar(_Running):
    """`opend-sidecar run` as a process. It takes free ports at its first start and keeps them over a restart."""

    _process: subprocess.Popen[bytes] | None = None

    # -- life -----------------------------------------------------------------------------------------------------

    def start(self, *, ready: bool = True) -> LiveSidecar:
        """Run it, and wait until its doors are open; with `ready`, until it has found the sandbox too."""
        self.write_settings()
        before = self.log_file.stat().st_size if self.log_file.exists() else 0
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "sidecar.cli.main", "run", "--config", str(self.config_file)],
                cwd=PROJECT, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={**os.environ, "HOME": str(self.folder), "PYTHONPATH": str(PROJECT)},
            )  # fmt: skip

        def opened() -> list[dict[str, Any]]:
            assert self._process is not None
            assert self._process.poll() is None, f"the sidecar ended at once:\n{self.log_text()}"
            return [line for line in self.log(before) if line.get("event") == "the sidecar is open"]

        line = eventually(opened, 20, "the sidecar's doors")[0]
        self._opened({name: ports for name, ports in line.items() if name in self.settings["listeners"]})
        for listener, port in zip(self.settings["listeners"]["tcp"], self.ports, strict=True):
            if isinstance(port, int):  # a unix socket has none
                listener["port"] = port
        for name, port in self.doors.items():
            if isinstance(port, int):
                self.settings["listeners"][name]["port"] = port
        if ready:
            eventually(lambda: self.get("/readyz")[0] == 200, 10, "the sidecar to be ready")
        return self

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def hangup(self) -> None:
        os.kill(self.pid, signal.SIGHUP)

    def kill(self) -> None:
        """kill -9: no goodbye of any kind."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        if self._process is None:
            return 0
        if self._process.poll() is None:
            self._process.terminate()
        try:
            return self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise AssertionError("the sidecar did not end within 30 s after SIGTERM") from None


class LiveApp(_Running):
    """A sidecar in a thread of the tests, so that a test can reach its parts (`app`) and make them slow or broken."""

    app: App

    def start(self) -> LiveApp:
        self.write_settings()
        self._made = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        assert self._made.wait(10)
        eventually(self.app.started.is_set, 20, "the sidecar's doors")
        self._opened(self.app.doors.ports)
        eventually(lambda: self.app.house.up, 10, "the house connection")
        return self

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.app = App(load_settings(self.config_file, {}))
        self._made.set()
        await self.app.run()

    def do(self, action: Callable[..., T], *args: Any) -> T:
        """Call something of the app in its own thread."""

        async def run() -> T:
            return action(*args)

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(20)

    def stop(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self.app.stop)
            self._thread.join(30)
            assert not self._thread.is_alive(), "the sidecar did not stop within 30 s"


class Stage:
    """Everything that runs for one test, or for all tests of a module; all of it ends with the `with` block."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.keys = KeysFile(folder / "keys.json")
        self._ends = ExitStack()
        self._numbers = itertools.count()

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *failure: object) -> None:
        self._ends.close()

    def sandbox(self, **settings: Any) -> LiveSandbox:
        made = LiveSandbox(**settings)
        self._ends.callback(made.close)
        return made

    def sidecar(self, opend_port: int, /, *, start: bool = True, **settings: Any) -> LiveSidecar:
        folder = self.folder / f"sidecar{next(self._numbers)}"
        folder.mkdir()
        made = LiveSidecar(folder, opend_port, self.keys, **settings)
        self._ends.callback(made.stop)
        return made.start() if start else made

    def app(self, opend_port: int, /, **settings: Any) -> LiveApp:
        folder = self.folder / f"app{next(self._numbers)}"
        folder.mkdir()
        made = LiveApp(folder, opend_port, self.keys, **settings).start()
        self._ends.callback(made.stop)
        return made

    def sdk(self, port: int, key: str | None, **options: Any) -> SdkProcess:
        made = SdkProcess(port, key, self.folder / f"sdk{next(self._numbers)}", **options)
        self._ends.callback(made.end)
        return made
