"""The settings of the doors: where each one is, who may come to it, its certificate. The other settings are in `settings`."""

from __future__ import annotations

from typing import Annotated

from pydantic.dataclasses import dataclass

from sidecar.setting_values import (
    SECTION,
    Bind,
    BindOrSocket,
    FileMode,
    FilePath,
    Flag,
    Hosts,
    KeyId,
    Listed,
    ListenPort,
    Networks,
    Origins,
    PathsByKey,
    TlsVersion,
    socket_path,
    stays_here,
)


@dataclass(frozen=True, slots=True, config=SECTION)
class Tls:
    """The certificate of one listener. Without `cert` it speaks in clear."""

    cert: FilePath | None = None
    """PEM: the listener's own certificate, then those between it and its CA."""
    key: FilePath | None = None
    """PEM, without a passphrase: the private key of `cert`."""
    client_ca: FilePath | None = None
    """PEM: certificates of CAs. Given, every client must show a certificate that one of them has signed."""
    min_version: TlsVersion = "1.2"

    def __post_init__(self) -> None:
        if (self.cert is None) != (self.key is None):
            missing = "cert" if self.cert is None else "key"
            raise ValueError(f"`{missing}` is missing; TLS needs a certificate and its private key")
        if self.client_ca is not None and self.cert is None:
            raise ValueError("`client_ca` asks clients for certificates, which needs `cert` and `key` of our own")

    @property
    def on(self) -> bool:
        return self.cert is not None


@dataclass(frozen=True, slots=True, config=SECTION)
class TcpListener:
    """One address at which the official SDKs' raw TCP is spoken. `key` is a key id that holds for whoever connects."""

    bind: BindOrSocket = "127.0.0.1"
    port: ListenPort = 11110
    socket_mode: FileMode = 0o660
    """Of a unix socket; it means nothing elsewhere."""
    key: KeyId | None = None
    rsa_key: FilePath | None = None
    rsa_keys: PathsByKey = ()
    """(key id, path of its RSA private key) pairs; `{id: path}` in the file."""
    allowed_ips: Networks | None = None
    tls: Tls = Tls()

    def __post_init__(self) -> None:
        if self.rsa_keys and (self.key is not None or self.rsa_key is not None):
            other = "key" if self.key is not None else "rsa_key"
            raise ValueError(f"`rsa_keys` tells keys apart, `{other}` does not; use two listeners")
        if socket_path(self.bind) is not None:
            self._check_socket()
        if self.key is not None and self._lets_anyone_in():
            # SECURITY: with a bound key the address is the whole secret.
            raise ValueError(
                f"`{self.bind}` gives key `{self.key}` to whoever connects; add `allowed_ips` or `tls.client_ca`, "
                "or bind to 127.0.0.1"
            )

    def _lets_anyone_in(self) -> bool:
        return self.allowed_ips is None and self.tls.client_ca is None and not stays_here(self.bind)

    def _check_socket(self) -> None:
        if self.allowed_ips is not None:
            raise ValueError("a unix socket has no client addresses; remove `allowed_ips`, `socket_mode` says who may")
        if self.tls.on:
            raise ValueError("a unix socket needs no TLS, its bytes never leave this machine; remove `tls`")
        if self.key is not None and self.socket_mode & 0o002:
            # SECURITY: with a bound key the socket's mode is the whole secret.
            raise ValueError(
                f"`socket_mode` {self.socket_mode:04o} gives key `{self.key}` to every user of this machine; "
                'make it "0660" or less'
            )


@dataclass(frozen=True, slots=True, config=SECTION)
class WebSocketListener:
    """The official JavaScript SDK's protocol, and OpenD's TCP frames as WebSocket messages."""

    bind: Bind = "127.0.0.1"
    port: ListenPort = 44444
    allowed_origins: Origins = ()
    """Web pages that may connect; programs send no Origin and are not asked for one."""
    tls: Tls = Tls()


@dataclass(frozen=True, slots=True, config=SECTION)
class RestListener:
    """HTTP with JSON bodies, and a WebSocket of pushes at `/ws`."""

    bind: Bind = "127.0.0.1"
    port: ListenPort = 22222
    metrics: Flag = True
    """`/metrics` without a key."""
    docs: Flag = True
    """`/docs` and `/openapi.json` without a key."""
    allowed_origins: Origins = ()
    """Web pages that may read answers (CORS) and connect to `/ws`."""
    tls: Tls = Tls()


@dataclass(frozen=True, slots=True, config=SECTION)
class GrpcListener:
    """gRPC: `futu.service.FutuOpenD`, health, and server reflection."""

    bind: Bind = "127.0.0.1"
    port: ListenPort = 33333
    reflection: Flag = True
    tls: Tls = Tls()


@dataclass(frozen=True, slots=True, config=SECTION)
class McpListener:
    """Tools for language models, over streamable HTTP at `/mcp`."""

    bind: Bind = "127.0.0.1"
    port: ListenPort = 38765
    allowed_hosts: Hosts = ()
    """Further values of the Host header; localhost and the loopback addresses always pass."""
    allowed_origins: Origins = ()
    tls: Tls = Tls()


@dataclass(frozen=True, slots=True, config=SECTION)
class AdminListener:
    """The operator's own address: the page, health, metrics, revision. All but the page ask for no key: keep it private."""

    bind: BindOrSocket = "127.0.0.1"
    port: ListenPort = 11180
    socket_mode: FileMode = 0o660
    """Of a unix socket; it means nothing elsewhere."""
    allowed_hosts: Hosts = ()
    """Further values of the Host header, with or without a port."""
    tls: Tls = Tls()

    def __post_init__(self) -> None:
        if socket_path(self.bind) is not None and self.tls.on:
            raise ValueError("a unix socket needs no TLS, its bytes never leave this machine; remove `tls`")


Listener = TcpListener | WebSocketListener | RestListener | GrpcListener | McpListener | AdminListener


def address_of(door: Listener) -> str:
    """`127.0.0.1:11110` or `unix:/path`, for people."""
    return door.bind if socket_path(door.bind) is not None else f"{door.bind}:{door.port}"


@dataclass(frozen=True, slots=True, config=SECTION)
class Listeners:
    """Every open door; closed ones (`off`) are not in here."""

    tcp: Annotated[tuple[TcpListener, ...], Listed] = (TcpListener(),)
    websocket: WebSocketListener | None = WebSocketListener()
    rest: RestListener | None = RestListener()
    grpc: GrpcListener | None = GrpcListener()
    mcp: McpListener | None = McpListener()
    admin: AdminListener | None = AdminListener()

    @property
    def connections(self) -> bool:
        """Whether there is a door at which a key has connections of its own."""
        return bool(self.tcp) or self.websocket is not None

    def named(self) -> tuple[tuple[str, Listener], ...]:
        """Every open door with its name in the settings: `listeners.rest`, `listeners.tcp[0]`."""
        found: list[tuple[str, Listener]] = [(f"listeners.tcp[{place}]", door) for place, door in enumerate(self.tcp)]
        for name in ("websocket", "rest", "grpc", "mcp", "admin"):
            door = getattr(self, name)
            if door is not None:
                found.append((f"listeners.{name}", door))
        return tuple(found)

    def __post_init__(self) -> None:
        doors = [*self.tcp, self.websocket, self.rest, self.grpc, self.mcp, self.admin]
        taken = [address_of(door) for door in doors if door is not None and (door.port or socket_path(door.bind))]
        twice = next((one for one in taken if taken.count(one) > 1), None)
        if twice is not None:
            own = "path" if socket_path(twice) is not None else "port"
            raise ValueError(f"two listeners have the address {twice}; give each its own {own}")
