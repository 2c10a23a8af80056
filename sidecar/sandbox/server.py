"""The sandbox as a whole: listens, moves the market, carries requests and pushes between connections and desks."""

from __future__ import annotations

import asyncio
import errno
import secrets
import time
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from sidecar.errors import ConfigError
from sidecar.sandbox import clock
from sidecar.sandbox.accounts import Account, build_accounts
from sidecar.sandbox.answers import NOT_SUPPORTED, Answer, Failure, Handler
from sidecar.sandbox.connection import Connection
from sidecar.sandbox.derivatives import DerivativesDesk
from sidecar.sandbox.faults import Fault, FaultPlan
from sidecar.sandbox.history import History
from sidecar.sandbox.history_requests import HistoryDesk
from sidecar.sandbox.holdings import HoldingsDesk
from sidecar.sandbox.limits import FREQUENCIES, FrequencyLimits
from sidecar.sandbox.listing import build as build_listing
from sidecar.sandbox.market import Market, Quote
from sidecar.sandbox.order_queries import OrderQueryDesk
from sidecar.sandbox.otherwise import Otherwise
from sidecar.sandbox.past import add_past_orders
from sidecar.sandbox.quotes import QuoteDesk
from sidecar.sandbox.received import ReceivedLog
from sidecar.sandbox.reference import ReferenceDesk
from sidecar.sandbox.session import Session
from sidecar.sandbox.sessions import Sessions
from sidecar.sandbox.settings import SandboxSettings
from sidecar.sandbox.subscriptions import Subscriptions
from sidecar.sandbox.system import SystemDesk
from sidecar.sandbox.trading import TradeDesk
from sidecar.wire import body
from sidecar.wire.catalog import CATALOG, INIT_CONNECT, Direction
from sidecar.wire.encryption import RsaKey
from sidecar.wire.frame import JSON, PROTOBUF

_NAMING_CODES = (2111, 2202)
"""Requests with a bare code, for which secMarket is optional."""


class Sandbox:
    """A paper OpenD on one port.

    `async with Sandbox(SandboxSettings(port=0)) as sandbox:` serves until the block ends; `start` and `stop` may also
    be called by hand, several times: accounts, orders and prices outlive a stop, connections and subscriptions do not.
    Raises ConfigError where the port, the key or the log cannot be used.
    """

    def __init__(self, settings: SandboxSettings | None = None) -> None:
        self.settings = settings or SandboxSettings()
        now = time.time()
        today = datetime.fromtimestamp(now, clock.HONG_KONG).date()
        self.port = self.settings.port
        self.rsa_key = RsaKey.load(self.settings.rsa_key) if self.settings.rsa_key else None
        self.otherwise = self.settings.otherwise
        self.received = ReceivedLog(self.settings.kept, self.settings.log)
        self.market = Market(build_listing(today), self.settings.seed, now)
        self.accounts: dict[int, Account] = build_accounts(self.market.listing, now)
        add_past_orders(self.accounts, self.market, now)
        self.subscriptions = Subscriptions(self.settings.subscription_quota, self.settings.limits)
        self._connections: set[Connection] = set()
        self._pushed: set[Session] = set()
        """Sessions with pushes queued and not yet written."""
        self._emptied: asyncio.Event | None = None
        """Set when the last connection is gone, while `stop` waits for that."""
        self._server: asyncio.Server | None = None
        self._mover: asyncio.TimerHandle | None = None
        self._limits = FrequencyLimits() if self.settings.limits else None
        self.faults = FaultPlan(self.settings.faults, self.settings.seed)
        self.tell: Callable[[str], None] = lambda text: None
        """Hears of every request that a fault strikes, in words, before anything is done with it."""
        history = History(self.settings.seed, self.market, now)
        self.sessions = Sessions(self.settings.market_states, self.settings.exchange_hours)
        self._quotes = QuoteDesk(self.market, history, self.subscriptions, self._push_quotes)
        self.trading = TradeDesk(
            self.market, self.accounts, self.settings, self.sessions, self._later, self._push_account
        )
        desks = (
            SystemDesk(self.sessions),
            self._quotes,
            self.trading,
            HoldingsDesk(self.market, self.accounts, self.settings.relaxed_paper),
            OrderQueryDesk(self.accounts, self.settings.relaxed_paper),
            ReferenceDesk(self.market, self.sessions),
            DerivativesDesk(self.market.listing),
            HistoryDesk(self.market, history, self.settings.history_quota, self.settings.limits),
        )
        self._handlers: dict[int, Handler] = {
            proto_id: handler for desk in desks for proto_id, handler in desk.handlers().items()
        }

    # --- starting and stopping ---

    async def start(self) -> None:
        """Listen. Raises ConfigError when the port is taken or the address is not this machine's."""
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(lambda: Connection(self), self.settings.host, self.port)
        except OSError as error:
            reason = "the port is in use" if error.errno == errno.EADDRINUSE else (error.strerror or str(error)).lower()
            raise ConfigError(
                f"cannot listen on `{self.settings.host}:{self.port}`: {reason}; choose another with --port or --host"
            ) from None
        self.port = self._server.sockets[0].getsockname()[1]
        if self.settings.tick_interval > 0:
            self._mover = loop.call_later(self.settings.tick_interval, self._move)

    async def stop(self) -> None:
        """Close the port and every connection; `start` takes the same port again."""
        if self._mover is not None:
            self._mover.cancel()
            self._mover = None
        if self._server is not None:
            self._server.close()
            for connection in list(self._connections):
                connection.abort()
            await self._server.wait_closed()
            self._server = None
        if self._connections:
            self._emptied = asyncio.Event()
            await self._emptied.wait()

    async def close(self) -> None:
        """`stop`, and close the log file."""
        await self.stop()
        self.received.close()

    async def __aenter__(self) -> Sandbox:
        await self.start()
        return self

    async def __aexit__(self, kind: object, error: object, trace: object) -> None:
        await self.close()

    def drop_connections(self) -> None:
        """Close every connection and keep listening."""
        for connection in list(self._connections):
            connection.close()

    def set_faults(self, *faults: Fault | str) -> None:
        """Bad days from now on, instead of those before; none at all ends them. Text is read as `Fault.parse` does.

        Safe to call from another thread: the plan is exchanged as a whole. Raises ConfigError where a text is no fault.
        """
        self.faults = FaultPlan(
            [Fault.parse(one) if isinstance(one, str) else one for one in faults], self.settings.seed
        )

    def set_market_state(self, market: str, state: int | None) -> None:
        """Hold `HK`, `US_FUTURES`, ... in a QotMarketState (`sessions.MarketState`); None gives it back to the clock."""
        self.sessions.fix(market, state)

    @property
    def connections(self) -> int:
        return len(self._connections)

    # --- for connections ---

    def admit(self, connection: Connection) -> bool:
        """At most 128 connections (documented, unofficially); the next one is closed at once (inferred)."""
        if len(self._connections) >= self.settings.max_connections:
            return False
        self._connections.add(connection)
        return True

    def gone(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if not self._connections and self._emptied is not None:
            self._emptied.set()
            self._emptied = None
        self.subscriptions.drop(connection.session, time.time())

    def new_conn_id(self) -> int:
        return 1 + secrets.randbelow(2**63 - 1)

    def request_name(self, proto_id: int) -> str | None:
        """The request message of a proto id, None where there is none."""
        row = CATALOG.get(proto_id)
        return row.request if row is not None and row.direction is Direction.REQUEST else None

    def answer(self, session: Session, proto_id: int, request: Any) -> Answer:
        """Have a request handled; `request` is of the class that `request_name` names."""
        handler = self._handlers.get(proto_id)
        if proto_id == INIT_CONNECT:
            return Failure("InitConnect was done before on this connection")
        if handler is None:
            return NOT_SUPPORTED
        if self._limits is not None:
            refusal = self._limits.refusal(proto_id, request.c2s, time.monotonic())
            if refusal is not None:
                return refusal
        if Otherwise.SEC_MARKET_NEEDED in self.otherwise and proto_id in _NAMING_CODES and not request.c2s.secMarket:
            return Failure("secMarket is missing")
        return handler(session, request.c2s)

    def reply_delay(self, proto_id: int) -> float:
        """Seconds to hold a reply back: what the settings say, and for orders at least the gap OpenD wants between two.

        The real one asks the broker first, which takes longer than the gap: a client that waits for its replies never
        meets that limit, and must not meet it here.
        """
        delay = self.settings.delays.get(proto_id, 0.0)
        if self._limits is not None and proto_id in FREQUENCIES and FREQUENCIES[proto_id].gap:
            return max(delay, FREQUENCIES[proto_id].gap + 0.002)
        return delay

    def fault(self, proto_id: int) -> Fault | None:
        return self.faults.strike(proto_id)

    def struck(self, fault: Fault, proto_id: int, serial: int) -> None:
        self.tell(f"{fault} struck {CATALOG[proto_id].name} (serial {serial})")

    # --- moving and pushing ---

    def _later(self, delay: float, action: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_later(delay, self._act, action)

    def _act(self, action: Callable[[], None]) -> None:
        action()
        self.flush_pushes()

    def move(self) -> list[Quote]:
        """Move the market once, push what changed and match the orders; done by itself every `tick_interval`."""
        moved = self.market.tick(time.time())
        self._moved(moved)
        return moved

    def set_price(self, symbol: str, price: str, volume: int | None = None) -> None:
        """Put the best bid of `HK.00700` at `price` with `volume` on both sides, push it and match the orders."""
        self._moved([self.market.set_price(symbol, price, time.time(), volume)])

    def _moved(self, moved: list[Quote]) -> None:
        self.trading.exchange.match_moved(moved)
        self._quotes.push_moved(moved)
        self.flush_pushes()

    def _move(self) -> None:
        self.move()
        self._mover = asyncio.get_running_loop().call_later(self.settings.tick_interval, self._move)

    def flush_pushes(self) -> None:
        """Write the pushes queued since the last time, one write for each connection that has some."""
        pushed, self._pushed = self._pushed, set()
        for session in pushed:
            session.flush()

    def _push_quotes(self, sessions: Iterable[Session], proto_id: int, content: bytes) -> None:
        self._push([session for session in sessions if not session.stalled], proto_id, content)

    def _push_account(self, acc_id: int, proto_id: int, content: bytes) -> None:
        unasked = Otherwise.PUSHED_UNASKED in self.otherwise
        sessions = [
            one.session
            for one in self._connections
            if one.session.ready and (unasked or acc_id in one.session.accounts)
        ]
        self._push(sessions, proto_id, content)

    def _push(self, sessions: list[Session], proto_id: int, content: bytes) -> None:
        self._pushed.update(sessions)
        as_json: bytes | None = None
        for session in sessions:
            if session.push_format == JSON:
                if as_json is None:
                    name = CATALOG[proto_id].response or ""
                    as_json = body.serialise(body.parse(name, PROTOBUF, content, strict=False), JSON)
                session.queue_push(proto_id, as_json)
            else:
                session.queue_push(proto_id, content)
