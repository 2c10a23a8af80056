"""What a sandbox can be told at its start. Holds values only, reads nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sidecar.sandbox.faults import Fault
from sidecar.sandbox.otherwise import Otherwise


@dataclass(frozen=True, slots=True)
class SandboxSettings:
    """The settings of one paper OpenD; every default is what `opend-sidecar sandbox` starts with."""

    host: str = "127.0.0.1"
    port: int = 11111
    """0 takes a free port; `Sandbox.port` then tells which. It stays the same over `stop` and `start`."""
    seed: int = 1
    """The same seed on the same day gives the same instruments, prices and accounts, and the same walk tick by tick."""
    rsa_key: str | None = None
    """Path of the 1024-bit PKCS#1 key shared with the clients; None serves in clear only."""
    relaxed_paper: bool = False
    """Lifts the documented restrictions of paper accounts (see `rules`)."""
    limits: bool = True
    """Whether request frequencies, quotas and the minute before unsubscribing are enforced.

    Where they are, replies to 2202 and 2205 take 22 and 42 ms (see `Sandbox.reply_delay`), else they come at once.
    """
    trade_password: str = "123456"  # noqa: S105 - a sandbox's password protects nothing
    unlocked: bool = False
    """Whether real accounts can trade without a 2005 first."""
    log: str | None = None
    """Path of a JSON Lines file that gets one line per received frame, connect and disconnect."""
    max_connections: int = 128
    subscription_quota: int = 300
    history_quota: int = 300
    tick_interval: float = 0.25
    """Seconds between two moves of the market; 0 keeps every price where it is."""
    order_latency: float = 0.05
    """Seconds from OpenD taking an order, a change or a cancel to the exchange confirming it."""
    delays: Mapping[int, float] = field(default_factory=dict)
    """Seconds by which replies to a proto id are held back."""
    faults: tuple[Fault, ...] = ()
    """The bad days it starts with; `Sandbox.set_faults` changes them while it runs."""
    market_states: Mapping[str, int] = field(default_factory=dict)
    """Qot_Common.QotMarketState by market (`HK`, `US`, `SH`, ..., `HK_FUTURES`); `Sandbox.set_market_state` changes them."""
    exchange_hours: bool = False
    """Whether markets that `market_states` does not name open and close as the exchanges do; else they trade day and night."""
    partial_fills: bool = False
    """Whether every order fills in several parts, as the market moves; else only one larger than what the touch offers."""
    rejections: float = 0.0
    """Of so many orders in a hundred that OpenD took, the end is a rejection (SUBMIT_FAILED or FAILED), by the seed."""
    otherwise: frozenset[Otherwise] = frozenset()
    """What is only inferred of OpenD and shall be otherwise."""
    kept: int = 200_000
    """How many received frames stay in memory."""
