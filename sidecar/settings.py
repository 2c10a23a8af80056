"""The settings of a sidecar: frozen values with their defaults and bounds. Reads no file and no flag, `config` does; how a single
value is read from what the file has, `setting_values` says.
"""

from __future__ import annotations

from datetime import time
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from sidecar.setting_values import (
    Amount,
    Bind,
    BindOrSocket,
    Clock,
    Currency,
    Day,
    FileMode,
    FilePath,
    Flag,
    Host,
    Hosts,
    KeyId,
    Listed,
    ListenPort,
    Networks,
    Origins,
    PathsByKey,
    PerCent,
    Rates,
    Seconds,
    Seconds0,
    ShortTime,
    Size,
    TlsVersion,
    VariableName,
    Zone,
    ZoneName,
    socket_path,
    stays_here,
)  # fmt: skip

_CONFIG = ConfigDict(extra="forbid", arbitrary_types_allowed=True)


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Upstream:
    """OpenD, and how its connections are used."""

    host: Host = "127.0.0.1"
    port: Annotated[int, Field(strict=True, ge=1, le=65535)] = 11111
    rsa_key: FilePath | None = None
    max_connections: Annotated[int, Field(strict=True, ge=8, le=100_000)] = 100
    max_connections_per_key: Annotated[int, Field(strict=True, ge=1, le=100_000)] = 50
    connect_timeout: Seconds = 5.0
    request_timeout: Seconds = 20.0
    snapshots_kept: Annotated[int, Field(strict=True, ge=1, le=59)] = 20
    changes: Annotated[int, Field(strict=True, ge=2, le=10_000)] = 20
    changes_period: Seconds = 30.0
    changes_gap: Annotated[float, Field(strict=True, ge=0, le=5, allow_inf_nan=False)] = 0.04
    changes_kept: Annotated[int, Field(strict=True, ge=1, le=9_999)] = 5
    """Of `changes` in `changes_period` s of one account: so many are only for cancels."""
    shared_idle: Seconds = 600.0
    """How long the connection that a key's REST, gRPC and MCP clients share outlives their last request."""

    def __post_init__(self) -> None:
        if self.changes_kept >= self.changes:
            raise ValueError(
                f"`changes_kept` {self.changes_kept} leaves nothing of `changes` {self.changes}; make it less"
            )


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Keys:
    """Where keys.json is, and what holds when it is not readable or a record names no zone."""

    file: FilePath = Path("~/.config/futu/keys.json").expanduser()
    stale_keys_max: Seconds0 = 600.0
    timezone: ZoneName | None = None


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Audit:
    """The audit log. `file` None means audit.jsonl in the state directory (`Settings.audit_file`)."""

    file: FilePath | None = None
    min_free: Size = 64 * 1024**2
    reads: Flag = False


@dataclass(frozen=True, slots=True, config=_CONFIG)
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


@dataclass(frozen=True, slots=True, config=_CONFIG)
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


@dataclass(frozen=True, slots=True, config=_CONFIG)
class WebSocketListener:
    """The official JavaScript SDK's protocol, and OpenD's TCP frames as WebSocket messages."""

    bind: Bind = "127.0.0.1"
    port: ListenPort = 44444
    allowed_origins: Origins = ()
    """Web pages that may connect; programs send no Origin and are not asked for one."""
    tls: Tls = Tls()


@dataclass(frozen=True, slots=True, config=_CONFIG)
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


@dataclass(frozen=True, slots=True, config=_CONFIG)
class GrpcListener:
    """gRPC: `futu.service.FutuOpenD`, health, and server reflection."""

    bind: Bind = "127.0.0.1"
    port: ListenPort = 33333
    reflection: Flag = True
    tls: Tls = Tls()


@dataclass(frozen=True, slots=True, config=_CONFIG)
class McpListener:
    """Tools for language models, over streamable HTTP at `/mcp`."""

    bind: Bind = "127.0.0.1"
    port: ListenPort = 38765
    allowed_hosts: Hosts = ()
    """Further values of the Host header; localhost and the loopback addresses always pass."""
    allowed_origins: Origins = ()
    tls: Tls = Tls()


@dataclass(frozen=True, slots=True, config=_CONFIG)
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


@dataclass(frozen=True, slots=True, config=_CONFIG)
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


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Limits:
    """What one client may cost. Sizes in bytes."""

    request_body: Size = 4 * 1024**2
    reply_body: Size = 64 * 1024**2
    client_buffer: Size = 8 * 1024**2
    client_stall: Seconds = 5.0
    max_clients: Annotated[int, Field(strict=True, ge=1, le=100_000)] = 1100
    handshake_timeout: Seconds = 10.0
    frame_timeout: Seconds = 30.0


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Fx:
    """The operator's rates of exchange, for keys with cap_currency. All of them, or none."""

    as_of: Day | None = None
    base: Currency | None = None
    rates: Rates = ()
    """(currency, units of `base` for one unit of it) pairs; `{currency: rate}` in the file."""
    max_age_days: Annotated[int, Field(strict=True, ge=0, le=3660)] = 7

    def __post_init__(self) -> None:
        given = {"as_of": self.as_of is not None, "base": self.base is not None, "rates": bool(self.rates)}
        missing = [name for name, there in given.items() if not there]
        if missing and len(missing) < len(given):
            raise ValueError(f"`{missing[0]}` is missing; rates of exchange need as_of, base and rates")
        if self.base in dict(self.rates):
            raise ValueError(f"`{self.base}` is the base and needs no rate; its rate is 1")


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Policy:
    """What the rules are given besides the keys."""

    facts_timeout: Annotated[float, Field(strict=True, gt=0, le=10, allow_inf_nan=False)] = 2.0
    quote_max_age: Seconds = 3.0
    position_max_age: ShortTime = 3.0
    position_lag: ShortTime = 3.0
    instrument_max_age: Seconds = 86400.0
    price_buffer_pct: PerCent = Decimal(5)
    fx: Fx = Fx()
    day_rolls_at: Clock = time(0, 0)
    day_zone: Zone = ZoneInfo("UTC")
    tag_orders: Flag = True
    push_owner_wait: Seconds0 = 2.0
    idempotency_keys_kept: Annotated[float, Field(strict=True, ge=60, le=31_536_000, allow_inf_nan=False)] = 86_400.0


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Unlock:
    """Who unlocks real trading. In the mode `sidecar` the trade password comes from one of a file and a variable."""

    mode: Literal["owner", "sidecar"] = "owner"
    password_file: FilePath | None = None
    password_env: VariableName | None = None
    relock_idle: Annotated[float, Field(strict=True, ge=10, le=31_536_000, allow_inf_nan=False)] | None = 900.0
    """None: never locked again while it runs."""

    def __post_init__(self) -> None:
        given = sum(one is not None for one in (self.password_file, self.password_env))
        if self.mode == "sidecar" and given != 1:
            raise ValueError("mode `sidecar` takes the trade password from `password_file` or `password_env`; set one")
        if self.mode == "owner" and given:
            raise ValueError("in mode `owner` the sidecar holds no trade password; remove it, or set mode: sidecar")


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Breakers:
    """What halts a key by itself. None: that breaker is off."""

    refusals_in_a_row: Annotated[int, Field(strict=True, ge=2, le=100_000)] | None = None
    identical_orders: Annotated[int, Field(strict=True, ge=2, le=10_000)] | None = None
    identical_window: Annotated[float, Field(strict=True, ge=1, le=3600, allow_inf_nan=False)] = 60.0
    daily_loss: Amount | None = None
    daily_loss_currency: Currency | None = None

    def __post_init__(self) -> None:
        if (self.daily_loss is None) != (self.daily_loss_currency is None):
            missing = "daily_loss" if self.daily_loss is None else "daily_loss_currency"
            raise ValueError(f"`{missing}` is missing; a loss is an amount in a currency")


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Log:
    """The operator's log on stderr; the audit is apart from it."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    json: Flag = False


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Settings:
    """Everything a sidecar is told. Times in seconds, sizes in bytes, paths with `~` resolved."""

    upstream: Upstream = Upstream()
    keys: Keys = Keys()
    state_dir: FilePath = Path("~/.local/state/opend-sidecar").expanduser()
    audit: Audit = Audit()
    listeners: Listeners = Listeners()
    limits: Limits = Limits()
    policy: Policy = Policy()
    quarantine: Seconds = 600.0
    drain: Seconds0 = 20.0
    unlock: Unlock = Unlock()
    breakers: Breakers = Breakers()
    log: Log = Log()

    @property
    def audit_file(self) -> Path:
        """The file the audit is written to."""
        return self.audit.file or self.state_dir / "audit.jsonl"


def surface(section: Any = Settings) -> dict[str, Any]:
    """The names of all settings as a tree; the leaves are None. `listeners.tcp` is a list of one."""
    sections: dict[str, Any] = {
        "upstream": Upstream, "keys": Keys, "audit": Audit, "listeners": Listeners, "limits": Limits, "policy": Policy, "fx": Fx,
        "unlock": Unlock, "breakers": Breakers, "log": Log, "tcp": TcpListener, "admin": AdminListener,
        "websocket": WebSocketListener, "rest": RestListener, "grpc": GrpcListener, "mcp": McpListener,
        "tls": Tls,
    }  # fmt: skip
    return {name: surface(sections[name]) if name in sections else None for name in section.__dataclass_fields__}
