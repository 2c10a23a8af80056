"""A sidecar whose every listener has a certificate, and clients of every kind that trust its CA."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from certificates import Authority, Pair
from live import LiveSandbox, LiveSidecar, Stage
from raw_client import RawClient
from real_parts import need_program
from websocket_client import key_with_md5

DOORS = ("websocket", "rest", "grpc", "mcp")
TRADER = ("qot:read", "acc:read", "trade:simulate")


@dataclass(frozen=True)
class Curl:
    """What curl saw: its exit code (0: there was an answer), the status, the body."""

    exit: int
    status: int
    body: str
    said: str

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class TlsWorld:
    """`client_ca` True: clients must have a certificate of the same CA. `admin`: settings of the admin listener."""

    def __init__(self, stage: Stage, *, client_ca: bool = False, min_version: str = "1.2", **settings: Any) -> None:
        self.stage = stage
        self.authority = Authority(stage.folder / "ca")
        self.server = self.authority.issue("server")
        self.key = key_with_md5(stage.keys, "bot", *TRADER)
        self.other = key_with_md5(stage.keys, "other", *TRADER)
        more: dict[str, object] = {"client_ca": self.authority.cert} if client_ca else {}
        self.tls = self.server.tls(min_version=min_version, **more)
        self.sandbox: LiveSandbox = stage.sandbox(tick_interval=0)
        listeners = {"tcp": [{"port": 0, "tls": self.tls}], **{door: {"port": 0, "tls": self.tls} for door in DOORS}}
        listeners.update(settings.pop("listeners", {}))
        self.sidecar: LiveSidecar = stage.sidecar(self.sandbox.port, listeners=listeners, **settings)

    def context(self, shown: Pair | None = None, trust: Path | None = None) -> ssl.SSLContext:
        """A client's, that trusts the CA and shows a certificate of its own."""
        made = ssl.create_default_context(cafile=str(trust or self.authority.cert))
        if shown is not None:
            made.load_cert_chain(shown.cert, shown.key)
        return made

    def connect(self, port: int, shown: Pair | None = None) -> ssl.SSLSocket:
        plain = socket.create_connection(("127.0.0.1", port), 5)
        return self.context(shown).wrap_socket(plain, server_hostname="localhost")

    def raw(self, key: str, shown: Pair | None = None, place: int = 0) -> RawClient:
        port = self.sidecar.ports[place]
        return RawClient(port, key, opened=self.connect(port, shown))

    def curl(
        self, path: str, key: str | None = None, shown: Pair | None = None, *more: str, door: str = "rest",
        trust: Path | None = None,
    ) -> Curl:  # fmt: skip
        command = [need_program("curl"), "-sS", "--max-time", "8", "-w", "\n%{http_code}"]
        command += ["--cacert", str(trust or self.authority.cert)]
        if shown is not None:
            command += ["--cert", str(shown.cert), "--key", str(shown.key)]
        if key is not None:
            command += ["-H", f"Authorization: Bearer {key}"]
        url = f"https://localhost:{self.sidecar.doors[door]}{path}"
        ran = subprocess.run([*command, *more, url], capture_output=True, text=True, timeout=20)
        body, _, status = ran.stdout.rpartition("\n")
        return Curl(ran.returncode, int(status or 0), body, ran.stderr)

    def grpc(self, shown: Pair | None = None) -> dict[str, bytes]:
        """What grpcio takes for its credentials."""
        made = {"root_certificates": self.authority.cert.read_bytes()}
        if shown is not None:
            made |= {"private_key": shown.key.read_bytes(), "certificate_chain": shown.cert.read_bytes()}
        return made

    def recorded(self, ask: Callable[[], Any], **wanted: Any) -> dict[str, Any]:
        """The audit's line about what `ask` does. Refusals of one address without a key are recorded once a second, the others
        are only counted: it is asked again where it came too soon after another one."""
        for _ in range(4):
            ask()
            try:
                return self.sidecar.wait_audit(2.5, **wanted)
            except AssertionError:
                continue
        return self.sidecar.wait_audit(0.1, **wanted)

    def change(self, **fields: Any) -> None:
        """Fields of the key `bot`, in force."""
        self.stage.keys.change("bot", **fields)
        self.sidecar.wait_keys()


def s_client(port: int, *arguments: str, said: bytes = b"") -> str:
    """What `openssl s_client` prints about a connection."""
    command = [need_program("openssl"), "s_client", "-connect", f"127.0.0.1:{port}", *arguments]
    ran = subprocess.run(command, input=said, capture_output=True, timeout=15)
    return (ran.stdout + ran.stderr).decode(errors="replace")


@contextmanager
def forwarded(connect: Callable[[], socket.socket]) -> Any:
    """A port of this machine in clear, whose connections go on over what `connect` opens: what stunnel does."""
    listening = socket.create_server(("127.0.0.1", 0))
    opened: list[socket.socket] = [listening]

    def pump(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass
        finally:
            for end in (source, sink):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def serve() -> None:
        while True:
            try:
                near, _ = listening.accept()
                far = connect()
            except OSError:
                return
            opened.extend((near, far))
            for ends in ((near, far), (far, near)):
                threading.Thread(target=pump, args=ends, daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield listening.getsockname()[1]
    finally:
        for each in opened:
            each.close()
