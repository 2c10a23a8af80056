"""The settings of a sidecar: frozen values with their defaults and bounds. Reads no file and no flag; `config` does."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import BeforeValidator, ConfigDict, Field, PlainValidator
from pydantic.dataclasses import dataclass

from sidecar.border import cidr, currency, shown

_CONFIG = ConfigDict(extra="forbid", arbitrary_types_allowed=True)
_SIZE = re.compile(r"(\d{1,12}) ?(B|KiB|MiB|GiB)?")
_UNITS = {None: 1, "B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
_ORIGIN = re.compile(r"https?://[a-z0-9.\[\]:_-]+")
_HOST_PORT = re.compile(r"[a-z0-9.\[\]:_-]+")
_PER_CENT = re.compile(r"\d{1,3}(\.\d{1,6})?")
_SMALLEST_RATE = Decimal("0.000001")
_AMOUNT = re.compile(r"\d{1,12}(\.\d{1,6})?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_CLOCK = re.compile(r"([01]\d|2[0-3]):([0-5]\d)")
_MODE = re.compile(r"0?([0-7]{3})")
_SOCKET = "unix:"


def is_off(value: object) -> bool:
    """Whether a setting says `off`; YAML 1.1 reads the bare word as false."""
    return value is False or (isinstance(value, str) and value.lower() == "off")


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{shown(value)} is not text; write it in quotes")
    return value


def _path(value: object) -> Path:
    if isinstance(value, Path):
        return value.expanduser()
    text = _text(value)
    if text.startswith("-----BEGIN"):
        raise ValueError("holds a private key itself; keep it in a file of its own and write that file's path")
    return Path(text).expanduser()


def _host(value: object) -> str:
    text = _text(value)
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        pass
    if not re.fullmatch(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,252})", text):
        raise ValueError(f"{shown(text)} is not a host name or an IP address; the port is a setting of its own")
    return text


def _bind(value: object) -> str:
    text = _text(value)
    if text.startswith(_SOCKET):
        raise ValueError(f"{shown(text)}: only the listeners tcp and admin can be unix sockets; write an IP address")
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise ValueError(
            f"{shown(text)} is not an IP address to listen on; write e.g. `127.0.0.1` or `0.0.0.0`"
        ) from None


def _bind_or_socket(value: object) -> str:
    text = _text(value)
    if not text.startswith(_SOCKET):
        return _bind(text)
    path = Path(text.removeprefix(_SOCKET)).expanduser()
    if not path.is_absolute() or not path.name:
        raise ValueError(f"{shown(text)} is not the path of a socket; write e.g. `unix:/run/opend-sidecar/tcp.sock`")
    return f"{_SOCKET}{path}"


def socket_path(bind: str) -> Path | None:
    """Where the unix socket of a `bind` is; None where it is an IP address."""
    return Path(bind.removeprefix(_SOCKET)) if bind.startswith(_SOCKET) else None


def stays_here(bind: str) -> bool:
    """Whether nothing but this machine reaches a `bind`: a unix socket, or a loopback address."""
    return socket_path(bind) is not None or ipaddress.ip_address(bind).is_loopback


def _version(value: object) -> object:
    """YAML takes a version without quotes for a number."""
    return str(value) if isinstance(value, float) else value


def _mode(value: object) -> int:
    match = _MODE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        # a number could be octal or decimal, and YAML takes it for one or the other
        raise ValueError(f'{shown(value)} is not the mode of a file; write it in quotes, e.g. "0660"')
    return int(match.group(1), 8)


def _size(value: object) -> int:
    match = _SIZE.fullmatch(str(value)) if type(value) in (int, str) else None
    if match is None:
        raise ValueError(f"{shown(value)} is not a size; write bytes, or e.g. `512 KiB`, `64 MiB`, `2 GiB`")
    size = int(match.group(1)) * _UNITS[match.group(2)]
    if not 1024 <= size <= 1024**4:
        raise ValueError(f"{shown(value)} is not between 1 KiB and 1024 GiB")
    return size


def _clock(value: object) -> time:
    if isinstance(value, time):
        return value
    # A YAML that reads 09:30 without quotes as a number in base 60 gives 570.
    match = _CLOCK.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f'{shown(value)} is not a time of day; write it in quotes, e.g. "00:00" or "17:30"')
    return time(int(match.group(1)), int(match.group(2)))


def _per_cent(value: object) -> Decimal:
    """Exact: a YAML number is taken as it was written, not as the nearest binary fraction."""
    text = str(value) if type(value) in (int, float, Decimal) else ""
    if not _PER_CENT.fullmatch(text) or not Decimal(text) <= 100:
        raise ValueError(f"{shown(value)} is not a percentage from 0 to 100; write e.g. 5 or 2.5")
    return Decimal(text)


def _currency(value: object) -> str:
    return currency(_text(value))


def _day(value: object) -> date:
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    try:
        return date.fromisoformat(_text(value))
    except ValueError:
        raise ValueError(f"{shown(str(value))} is not a day; write e.g. 2026-11-20") from None


def _rates(value: object) -> tuple[tuple[str, Decimal], ...]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{shown(value)} is not a mapping; write currencies and rates, e.g. {{USD: 7.78, CNH: 1.07}}")
    return tuple((_currency(name), _rate(rate)) for name, rate in value.items())


def _rate(value: object) -> Decimal:
    """Exact: a number of up to 15 digits comes through YAML as it was written, a longer one need not."""
    try:
        rate = Decimal(str(value)) if type(value) in (int, float, str) else Decimal(0)
    except ArithmeticError:
        rate = Decimal(0)
    if not rate.is_finite() or not _SMALLEST_RATE <= rate <= 1 / _SMALLEST_RATE:
        raise ValueError(f"{shown(value)} is not a rate of exchange; write e.g. 7.78")
    digits = len(rate.as_tuple().digits)
    if digits > (28 if isinstance(value, str) else 15):
        raise ValueError(f"{shown(value)} has {digits} digits; write up to 15, or in quotes up to 28")
    return rate


def _amount(value: object) -> Decimal:
    text = str(value) if type(value) in (int, float, Decimal) else ""
    if not _AMOUNT.fullmatch(text) or not Decimal(text) > 0:
        raise ValueError(f"{shown(value)} is not an amount above 0; write e.g. 5000 or 99.5")
    return Decimal(text)


def _zone(value: object) -> ZoneInfo:
    if isinstance(value, ZoneInfo):
        return value
    text = _text(value)
    try:
        return ZoneInfo(text)
    except (OSError, ValueError, KeyError):  # a folder, a path, a name that is none
        raise ValueError(f"unknown time zone {shown(text)}; write an IANA name such as `Asia/Hong_Kong`") from None


def _zone_name(value: object) -> str:
    return str(_zone(value))


def _variable(value: object) -> str:
    text = _text(value)
    if not _VARIABLE.fullmatch(text):
        # not shown: it may be the password itself
        raise ValueError(
            "is not the name of an environment variable, e.g. `TRADE_PASSWORD`; the password goes in there"
        )
    return text


def _key_id(value: object) -> str:
    text = _text(value)
    if text.startswith("fc_"):
        raise ValueError("holds a plaintext key; write the key's id, and take that key as leaked: make a new one")
    return text


def _list(value: object) -> object:
    if not isinstance(value, list | tuple):
        raise ValueError(f"{shown(value)} is not a list; begin each listener with `-`, or write `off`")
    return tuple(value)


def _networks(value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple):
        raise ValueError(f"{shown(value)} is not a list; write e.g. [127.0.0.1, 10.0.0.0/24]")
    if not value:
        raise ValueError(
            "the list is empty; remove the setting or list addresses, `off` as the port closes the listener"
        )
    return tuple(dict.fromkeys(cidr(_text(one)) for one in value))


def _origins(value: object) -> tuple[str, ...]:
    origins = _names(value, "https://app.example.com")
    for one in origins:
        if not _ORIGIN.fullmatch(one):
            raise ValueError(f"{shown(one)} is not an origin; write scheme and host, e.g. `https://app.example.com`")
    return origins


def _hosts(value: object) -> tuple[str, ...]:
    hosts = _names(value, "opend.example.com")
    for one in hosts:
        if not _HOST_PORT.fullmatch(one):
            raise ValueError(
                f"{shown(one)} is not a host; write what clients have in their URL, e.g. `opend.lan:38765`"
            )
    return hosts


def _names(value: object, example: str) -> tuple[str, ...]:
    if not isinstance(value, list | tuple):
        raise ValueError(f"{shown(value)} is not a list; write e.g. [{example}]")
    return tuple(dict.fromkeys(_text(one).lower().rstrip("/") for one in value))


def _paths_by_key(value: object) -> tuple[tuple[str, Path], ...]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{shown(value)} is not a mapping; write key ids and paths, e.g. {{bot: /path/to/bot.pem}}")
    return tuple((_key_id(name), _path(path)) for name, path in value.items())


def _pattern(of: re.Pattern[str]) -> Any:
    return Annotated[str, Field(pattern=f"^({of.pattern})$")]


def _read(read: Callable[[object], Any], written: Any = str) -> PlainValidator:
    """A value by `read`, which says what is wrong in prose; `written` is what the file has, for its JSON Schema."""
    return PlainValidator(read, json_schema_input_type=written)


SizeText, ModeText, ClockText, VariableName = (_pattern(one) for one in (_SIZE, _MODE, _CLOCK, _VARIABLE))
DayText = Annotated[str, Field(json_schema_extra={"format": "date"})]
Currency = Literal["HKD", "USD", "CNH", "JPY", "SGD", "AUD", "CAD", "MYR", "NZD"]
"""As `border.CURRENCIES`."""
PerCent = Annotated[float, Field(ge=0, le=100)]
Amount = Annotated[float, Field(gt=0)]

FilePath = Annotated[Path, _read(_path)]
Size = Annotated[int, _read(_size, int | SizeText)]
Seconds = Annotated[float, Field(strict=True, gt=0, le=31_536_000, allow_inf_nan=False)]
Seconds0 = Annotated[float, Field(strict=True, ge=0, le=31_536_000, allow_inf_nan=False)]
ShortTime = Annotated[float, Field(strict=True, gt=0, le=30, allow_inf_nan=False)]
Flag = Annotated[bool, Field(strict=True)]
Bind = Annotated[str, _read(_bind)]
BindOrSocket = Annotated[str, _read(_bind_or_socket)]
"""An IP address, or `unix:/path`: then the port means nothing. See `socket_path`."""
FileMode = Annotated[int, _read(_mode, ModeText)]
Origins = Annotated[tuple[str, ...], _read(_origins, list[str])]
Hosts = Annotated[tuple[str, ...], _read(_hosts, list[str])]
ListenPort = Annotated[int, Field(strict=True, ge=0, le=65535)]
"""0 takes any free port, which tests want."""


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Upstream:
    """OpenD, and how its connections are used."""

    host: Annotated[str, _read(_host)] = "127.0.0.1"
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
    timezone: Annotated[str, _read(_zone_name)] | None = None


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
    min_version: Annotated[Literal["1.2", "1.3"], BeforeValidator(_version)] = "1.2"

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
    key: Annotated[str, _read(_key_id)] | None = None
    rsa_key: FilePath | None = None
    rsa_keys: Annotated[tuple[tuple[str, Path], ...], _read(_paths_by_key, dict[str, str])] = ()
    """(key id, path of its RSA private key) pairs; `{id: path}` in the file."""
    allowed_ips: Annotated[tuple[str, ...], _read(_networks, list[str])] | None = None
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
    return door.bind if door.bind.startswith(_SOCKET) else f"{door.bind}:{door.port}"


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Listeners:
    """Every open door; closed ones (`off`) are not in here."""

    tcp: Annotated[tuple[TcpListener, ...], BeforeValidator(_list)] = (TcpListener(),)
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
            own = "path" if twice.startswith(_SOCKET) else "port"
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

    as_of: Annotated[date, _read(_day, DayText)] | None = None
    base: Annotated[str, _read(_currency, Currency)] | None = None
    rates: Annotated[tuple[tuple[str, Decimal], ...], _read(_rates, dict[Currency, float | str])] = ()
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
    price_buffer_pct: Annotated[Decimal, _read(_per_cent, PerCent)] = Decimal(5)
    fx: Fx = Fx()
    day_rolls_at: Annotated[time, _read(_clock, ClockText)] = time(0, 0)
    day_zone: Annotated[ZoneInfo, _read(_zone)] = ZoneInfo("UTC")
    tag_orders: Flag = True
    push_owner_wait: Seconds0 = 2.0
    idempotency_keys_kept: Annotated[float, Field(strict=True, ge=60, le=31_536_000, allow_inf_nan=False)] = 86_400.0


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Unlock:
    """Who unlocks real trading. In the mode `sidecar` the trade password comes from one of a file and a variable."""

    mode: Literal["owner", "sidecar"] = "owner"
    password_file: FilePath | None = None
    password_env: Annotated[str, _read(_variable, VariableName)] | None = None
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
    daily_loss: Annotated[Decimal, _read(_amount, Amount)] | None = None
    daily_loss_currency: Annotated[str, _read(_currency, Currency)] | None = None

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
