"""The single values of the settings: how each is read from what YAML gives, what it may be, and the words when it is none.
Which settings there are, and their defaults, `settings` says.
"""

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

from sidecar.border import cidr, currency, shown

SECTION = ConfigDict(extra="forbid", arbitrary_types_allowed=True)
"""Of every group of settings."""
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


_SizeText, _ModeText, _ClockText, _VariableName = (_pattern(one) for one in (_SIZE, _MODE, _CLOCK, _VARIABLE))
_DayText = Annotated[str, Field(json_schema_extra={"format": "date"})]
_CurrencyText = Literal["HKD", "USD", "CNH", "JPY", "SGD", "AUD", "CAD", "MYR", "NZD"]
"""As `border.CURRENCIES`."""
_PerCentNumber = Annotated[float, Field(ge=0, le=100)]
_AmountNumber = Annotated[float, Field(gt=0)]

FilePath = Annotated[Path, _read(_path)]
Size = Annotated[int, _read(_size, int | _SizeText)]
"""In bytes."""
Seconds = Annotated[float, Field(strict=True, gt=0, le=31_536_000, allow_inf_nan=False)]
Seconds0 = Annotated[float, Field(strict=True, ge=0, le=31_536_000, allow_inf_nan=False)]
ShortTime = Annotated[float, Field(strict=True, gt=0, le=30, allow_inf_nan=False)]
"""Seconds."""
Flag = Annotated[bool, Field(strict=True)]
Host = Annotated[str, _read(_host)]
Bind = Annotated[str, _read(_bind)]
BindOrSocket = Annotated[str, _read(_bind_or_socket)]
"""An IP address, or `unix:/path`: then the port means nothing. See `socket_path`."""
FileMode = Annotated[int, _read(_mode, _ModeText)]
Networks = Annotated[tuple[str, ...], _read(_networks, list[str])]
Origins = Annotated[tuple[str, ...], _read(_origins, list[str])]
Hosts = Annotated[tuple[str, ...], _read(_hosts, list[str])]
"""As they stand in the Host header, with or without a port."""
ListenPort = Annotated[int, Field(strict=True, ge=0, le=65535)]
"""0 takes any free port, which tests want."""
TlsVersion = Annotated[Literal["1.2", "1.3"], BeforeValidator(_version)]
KeyId = Annotated[str, _read(_key_id)]
PathsByKey = Annotated[tuple[tuple[str, Path], ...], _read(_paths_by_key, dict[str, str])]
"""(key id, path) pairs; `{id: path}` in the file."""
Listed = BeforeValidator(_list)
"""Of a list of listeners: what is none says so in these words."""
Day = Annotated[date, _read(_day, _DayText)]
Clock = Annotated[time, _read(_clock, _ClockText)]
"""A time of day."""
Zone = Annotated[ZoneInfo, _read(_zone)]
ZoneName = Annotated[str, _read(_zone_name)]
PerCent = Annotated[Decimal, _read(_per_cent, _PerCentNumber)]
Amount = Annotated[Decimal, _read(_amount, _AmountNumber)]
Currency = Annotated[str, _read(_currency, _CurrencyText)]
Rates = Annotated[tuple[tuple[str, Decimal], ...], _read(_rates, dict[_CurrencyText, float | str])]
"""(currency, rate) pairs; `{currency: rate}` in the file."""
VariableName = Annotated[str, _read(_variable, _VariableName)]
"""Of an environment variable."""
