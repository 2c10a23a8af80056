"""The settings of a sidecar: frozen values with their defaults and bounds. Those of the doors are in `listener_settings`, how a single
value is read in `setting_values`; the file and the flags are read by `config`.
"""

from __future__ import annotations

from datetime import time
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import Field
from pydantic.dataclasses import dataclass

from sidecar.listener_settings import (
    AdminListener,
    GrpcListener,
    Listeners,
    McpListener,
    RestListener,
    TcpListener,
    Tls,
    WebSocketListener,
)
from sidecar.setting_values import (
    SECTION,
    Amount,
    Clock,
    Currency,
    Day,
    FilePath,
    Flag,
    Host,
    PerCent,
    Rates,
    Seconds,
    Seconds0,
    ShortTime,
    Size,
    VariableName,
    Zone,
    ZoneName,
)


@dataclass(frozen=True, slots=True, config=SECTION)
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


@dataclass(frozen=True, slots=True, config=SECTION)
class Keys:
    """Where keys.json is, and what holds when it is not readable or a record names no zone."""

    file: FilePath = Path("~/.config/futu/keys.json").expanduser()
    stale_keys_max: Seconds0 = 600.0
    timezone: ZoneName | None = None


@dataclass(frozen=True, slots=True, config=SECTION)
class Audit:
    """The audit log. `file` None means audit.jsonl in the state directory (`Settings.audit_file`)."""

    file: FilePath | None = None
    min_free: Size = 64 * 1024**2
    reads: Flag = False


@dataclass(frozen=True, slots=True, config=SECTION)
class Limits:
    """What one client may cost. Sizes in bytes."""

    request_body: Size = 4 * 1024**2
    reply_body: Size = 64 * 1024**2
    client_buffer: Size = 8 * 1024**2
    client_stall: Seconds = 5.0
    max_clients: Annotated[int, Field(strict=True, ge=1, le=100_000)] = 1100
    handshake_timeout: Seconds = 10.0
    frame_timeout: Seconds = 30.0


@dataclass(frozen=True, slots=True, config=SECTION)
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


@dataclass(frozen=True, slots=True, config=SECTION)
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


@dataclass(frozen=True, slots=True, config=SECTION)
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


@dataclass(frozen=True, slots=True, config=SECTION)
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


@dataclass(frozen=True, slots=True, config=SECTION)
class Log:
    """The operator's log on stderr; the audit is apart from it."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    json: Flag = False


@dataclass(frozen=True, slots=True, config=SECTION)
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
