"""What it takes to read both settings and keys.json: spelling, addresses, currencies, durations. Knows neither file's fields."""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Iterable

_PLAINTEXT = re.compile(r"fc_[0-9A-Za-z]{8,}")


def shown(value: object) -> str:
    """A value as a message may quote it: in backticks, on one line, cut short. SECURITY: keys are left out."""
    return f"`{one_line(value if isinstance(value, str) else _as_json(value))}`"


def one_line(text: str, longest: int = 80) -> str:
    """Text of somebody else's as everybody may read it: on one line, cut to `longest`. SECURITY: keys are left out."""
    text = _PLAINTEXT.sub("fc_(left out)", text)
    text = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
    return text if len(text) <= longest else text[: longest - 3] + "..."


def _as_json(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case dict():
            return "{...}"
        case list():
            return "[...]" if value else "[]"
        case _:
            return str(value)


def closest(word: str, known: Iterable[str]) -> str:
    """`; did you mean `x`?` for the known word most like `word`, or an empty string when none is."""
    by_fold = {one.casefold(): one for one in known}
    near = difflib.get_close_matches(word.casefold(), list(by_fold), n=1, cutoff=0.6)
    return f"; did you mean `{by_fold[near[0]]}`?" if near else ""


def cidr(text: str) -> str:
    """A network in CIDR form, v4 or v6, normalised (`10.0.0.1` → `10.0.0.1/32`). Raises ValueError with prose."""
    try:
        return str(_not_mapped(ipaddress.ip_network(text), text))
    except ValueError as error:
        if str(error).startswith("`"):
            raise
    try:
        interface = ipaddress.ip_interface(text)
    except ValueError:
        raise ValueError(
            f"`{text}` is not an IP address or network; write e.g. `10.0.0.5`, `10.0.0.0/24` or `fd00::/8`"
        ) from None
    raise ValueError(f"`{text}` names one address inside a network; write `{interface.network}` or `{interface.ip}`")


Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _not_mapped(network: Network, text: str) -> Network:
    # Client addresses are compared unmapped (a dual-stack socket says ::ffff:10.0.0.5); a mapped one matches none.
    if network.version == 6 and network.network_address.ipv4_mapped is not None and network.prefixlen >= 96:
        plain = ipaddress.ip_network((network.network_address.ipv4_mapped, network.prefixlen - 96))
        raise ValueError(f"`{text}` is an IPv4 network in IPv6 clothing; write `{plain}`")
    return network


CURRENCIES = ("HKD", "USD", "CNH", "JPY", "SGD", "AUD", "CAD", "MYR", "NZD")
"""OpenD's currencies, by its names (Trd_Common.Currency)."""


def currency(text: str) -> str:
    """One of CURRENCIES. Raises ValueError with prose."""
    if text in CURRENCIES:
        return text
    meant = "CNH" if text.upper() in ("CNY", "RMB") else text.upper() if text.upper() in CURRENCIES else None
    hint = f"; write `{meant}`" if meant else closest(text, CURRENCIES)
    raise ValueError(f"unknown currency {shown(text)} (valid: {', '.join(CURRENCIES)}){hint}")


def seconds(text: str) -> int:
    """A duration `30d`, `12h` or `5m` in seconds. Raises ValueError with prose."""
    units = {"d": 86400, "h": 3600, "m": 60}
    number, unit = text[:-1], text[-1:]
    if unit not in units or not (number.isascii() and number.isdigit()) or len(number) > 9 or int(number) == 0:
        raise ValueError(f"`{text}` is not a duration; write e.g. `30d`, `12h` or `45m`")
    return int(number) * units[unit]
