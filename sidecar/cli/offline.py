"""What would be decided of a described order while no sidecar runs: from keys.json, the ledger and the states on disk, and from
facts that are given. The decision is the policy's; nothing is changed.
"""

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path

from sidecar.errors import ConfigError, RecordError
from sidecar.explaining import Described
from sidecar.gathering import judged
from sidecar.intents.markets import security_of_report
from sidecar.intents.model import ModifyOrder, PlaceCombo, PlaceOrder, RestingOrder
from sidecar.keys.machine import machine_id
from sidecar.keys.ring import standing
from sidecar.ledger import states_file
from sidecar.ledger.clock import day_starts
from sidecar.ledger.ledger import Ledger
from sidecar.ledger.reservation import Row
from sidecar.ledger.sqlite import FILE_NAME, SqliteStore
from sidecar.policy.decide import explain
from sidecar.policy.decision import Decision, Refusal
from sidecar.policy.key import Key
from sidecar.policy.market_state import MarketState
from sidecar.policy.trading import ACTIVE, Standing, TradingState, strictest
from sidecar.policy.usage import Account, Facts, Instrument, OrderOwner, Position, Usage
from sidecar.settings import Policy, Settings
from sidecar.terms import terms_of
from sidecar.wire.symbols import split

_ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class Given:
    """Facts that OpenD would say; None: not given, and refused where they are needed."""

    instrument: Instrument | None = None
    quote: Decimal | None = None
    held: Decimal | None = None
    """Units held, below 0 where short."""
    market_state: MarketState | None = None


def decided(
    key: Key, wanted: Described, address: str, given: Given, settings: Settings, now: datetime
) -> Decision | Refusal:
    """Every check told. The account is taken to be there, of the environment that the request names.

    Raises ConfigError where keys, ledger or states cannot be read.
    """
    bad = standing(key, now=now, address=address, machine_id=_machine())
    if bad is not None:
        return bad
    folder = settings.state_dir.expanduser()
    intent = wanted.intent
    account = getattr(intent, "account", None)
    facts = Facts(
        account=None if account is None else Account(account.acc_id, account.env, frozenset(range(1000))),
        trading=_trading(folder, key.id),
    )
    with ledger_of(folder, settings.policy) as ledger:
        usage = Usage()
        if ledger is not None:
            usage = ledger.usage(key.id, time.time(), intent if isinstance(intent, PlaceOrder | PlaceCombo) else None)
            facts = _remembered(ledger, wanted, facts)
        order = judged(intent, facts)
        if isinstance(order, PlaceOrder):
            facts = replace(
                facts, instrument=given.instrument, quote=given.quote, market_state=given.market_state,
                position=_position(ledger, order, given.held),
            )  # fmt: skip
    return explain(key, intent, facts, usage, now, terms_of(settings.policy))


@contextlib.contextmanager
def ledger_of(folder: Path, policy: Policy) -> Iterator[Ledger | None]:
    """A copy of the ledger as it is on disk, None where there is none. Raises ConfigError."""
    path = folder / FILE_NAME
    if not path.exists():
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="opend-sidecar-") as name:
        copy = Path(name)
        try:
            with (
                contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as source,
                contextlib.closing(sqlite3.connect(copy / FILE_NAME)) as target,
            ):
                source.backup(target)
        except sqlite3.Error as error:
            raise ConfigError(f"ledger `{path}` cannot be read: {error}") from None
        store = SqliteStore.open(copy)
        try:
            yield Ledger(store, day_starts(policy.day_rolls_at, policy.day_zone))
        except RecordError as error:
            raise ConfigError(f"ledger `{path}` cannot be read: {error}") from None
        finally:
            store.close()


def _trading(folder: Path, key_id: str) -> Standing:
    """INVARIANT: as the next start would find it: what cannot be read halts."""
    try:
        found = states_file.read(folder) or states_file.Document()
    except ValueError:
        return Standing(TradingState.HALTED, None, None, f"`{states_file.FILE_NAME}` cannot be read")
    overall = found.overall
    wanted = states_file.halt_wanted(folder)
    if wanted is not None and overall.state is not TradingState.HALTED:
        overall = Standing(TradingState.HALTED, None, None, wanted.reason)
    return strictest(overall, found.keys.get(key_id, ACTIVE))


def _remembered(ledger: Ledger, wanted: Described, facts: Facts) -> Facts:
    """What the ledger knows of the order that the request names."""
    intent = wanted.intent
    account, named = getattr(intent, "account", None), getattr(intent, "order", None)
    if account is None or named is None:
        return facts
    ids = account.acc_id, named.order_id, named.order_id_ex
    owner: OrderOwner | None = ledger.orders.owner_of(*ids)
    facts = replace(facts, order_owner=owner, approved=ledger.orders.approved(*ids))
    decision_id = ledger.orders.decision_of(*ids)
    placed = None if decision_id is None else ledger.orders.row_of(decision_id)
    if isinstance(intent, ModifyOrder) and placed is not None and placed.ended is None:
        facts = replace(facts, resting=_resting(placed, intent, facts))
    return facts


def _resting(placed: Row, change: ModifyOrder, facts: Facts) -> RestingOrder | None:
    """The order as it was approved last, with nothing of it filled: what is filled only OpenD knows."""
    made = placed.reservation
    parts = split(made.symbol)
    if made.side is None or made.legs or parts is None:
        return None
    security = security_of_report(0, parts[0].sec, parts[1])
    if security is None:
        return None
    qty = made.qty if facts.approved is None or facts.approved.qty is None else facts.approved.qty
    order = PlaceOrder(change.account, security, made.side, made.order_type, qty, made.price, remark=made.remark)
    return RestingOrder(order, placed.order_id, placed.order_id_ex)


def _position(ledger: Ledger | None, order: PlaceOrder, held: Decimal | None) -> Position | None:
    """As if OpenD had just said what is held: what is on its way is counted by the ledger."""
    if held is None:
        return None
    sellable = max(_ZERO, held)
    if ledger is None:
        return Position(sellable, _ZERO, net=held, open_buys=_ZERO, open_sells=_ZERO)
    account, symbol, sequence = order.account.acc_id, order.security.symbol, ledger.sequence
    buys, sells = ledger.exposure.in_flight(account, symbol, sequence) or (None, None)
    return Position(sellable, sells, net=held, open_buys=buys, open_sells=sells)


def _machine() -> str | None:
    try:
        return machine_id()
    except ConfigError:
        return None
