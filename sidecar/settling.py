"""What OpenD's words about orders mean to the ledger: replies, pushes and lists, in any order and any number of times.

Sends nothing, asks nothing, and judges no request.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from decimal import Decimal

import structlog

from sidecar.audit.record import AuditRecord, Outcome, endpoint_name
from sidecar.intents.model import Side
from sidecar.intents.read import TAG
from sidecar.intents.replies import ENDED_STATUSES, FAILED_STATUSES, OrderStatus, PlaceReply, PushSubject
from sidecar.ledger.ledger import Ledger
from sidecar.ledger.reservation import Reservation, State
from sidecar.ledger.use import EXACT
from sidecar.recorder import Recorder
from sidecar.wire import catalog
from sidecar.wire.catalog import CATALOG

REFUSED = frozenset({-1, -500})
"""retType Failed and Invalid: OpenD's own no. Timeout (-100), disconnect (-200) and unknown (-400) may hide an order."""
BEFORE, AFTER = 60.0, 600.0
"""Seconds by which OpenD may date an order before and after we reserved for it: clocks differ, and a request may wait."""
_MOST_WORDS = 1_000
"""Last words of orders that are kept until it is known whose they were."""

_FOUND = "its reply was lost, the order was found at OpenD"

_log = structlog.get_logger()


class Settling:
    """Tells the ledger what became of orders. All methods run on the event loop and none waits.

    INVARIANT: late, repeated and overtaken words change nothing twice, and whatever their order, they end the same.
    """

    def __init__(self, ledger: Ledger, recorder: Recorder, clock: Callable[[], float] = time.time) -> None:
        self._ledger = ledger
        self._recorder = recorder
        self._clock = clock
        self.on_owner_known: set[Callable[[], None]] = set()
        self.on_lost: Callable[[], None] = lambda: None
        """Called when the reply to an order will not come: it is time to look for it."""
        self._lost: dict[str, AuditRecord] = {}
        """By decision: orders and changes without a reply whose outcome is still to be recorded."""
        for acc_id in ledger.doubts.accounts():
            for made in ledger.doubts.unsettled(acc_id):
                self._lost[made.decision_id] = _record_of(made)
        self._found_failed = ""
        """The decision of the order that was found last, where it had failed by then."""
        self._last_words: OrderedDict[tuple[int, int | str], PushSubject] = OrderedDict()

    # -- replies --------------------------------------------------------------------------------------------------

    def replied(self, decision_id: str, reply: PlaceReply) -> None:
        """The answer to an order or a change that was reserved."""
        if reply.ret_type in REFUSED:
            self._ledger.refused_by_opend(decision_id)
        elif reply.ret_type == 0:
            self._named(decision_id, reply.order_id, reply.order_id_ex)

    def still_to_record(self, decision_id: str) -> bool:
        """Whether a reply that came after it was given up is the first to say what became of the order."""
        return self._lost.pop(decision_id, None) is not None

    def lost(self, decision_id: str, record: AuditRecord) -> None:
        """The reply to what was recorded so, and reserved, will not come. INVARIANT: unknown is used: it stays reserved."""
        self._lost[decision_id] = record
        row = self._ledger.orders.row_of(decision_id)
        if row is None or not row.state.settled:
            self.on_lost()
        else:  # a push or a list told of it before its reply was lost
            outcome: Outcome = "success" if row.state is State.ACCEPTED else "failure"
            self._record(decision_id, outcome, f"{_FOUND} before", row.order_id, row.order_id_ex)

    # -- pushes and lists -----------------------------------------------------------------------------------------

    def pushed(self, order: PushSubject) -> None:
        """OpenD says this of an order (2208)."""
        if not self._placed_here(order):
            alike = self._unnamed_like(order)
            if len(alike) == 1:
                self._found(alike[0].decision_id, order)
        self._came_of(order, None)

    def listed(self, orders: Sequence[PushSubject], at: float) -> list[PushSubject]:
        """OpenD lists these (2201); `at` is the ledger's moment at which it was asked. Gives those of no known key."""
        unknown = []
        for order in orders:
            if not self._placed_here(order):
                unknown.append(order)
            self._came_of(order, at)
        return unknown

    def paired(self, orders: Sequence[PushSubject], at: float) -> None:
        """Find orders with a remark of their client's among all those of no known key in one whole list of an account.

        They are told apart by their terms alone, so they are only taken where there are as many orders as reservations,
        and all of one key: else one key's order could become another's.
        """
        by_reservation: dict[tuple[str, ...], tuple[list[Reservation], list[PushSubject]]] = {}
        for order in orders:
            alike = self._unnamed_like(order)
            if alike:
                group = tuple(one.decision_id for one in alike)
                by_reservation.setdefault(group, (alike, []))[1].append(order)
        for alike, found in by_reservation.values():
            if len(alike) == len(found) and len({one.key_id for one in alike}) == 1:
                found.sort(key=lambda order: (order.created or 0.0, order.order_id, order.order_id_ex))
                for made, order in zip(alike, found, strict=True):
                    self._found(made.decision_id, order)
                    self._came_of(order, at)

    def _placed_here(self, order: PushSubject) -> bool:
        """Whether the order's key is known, by its ids or by the tag it carries."""
        acc_id, remark = order.account.acc_id, order.remark or ""
        if self._ledger.named(acc_id, order.order_id, order.order_id_ex):
            return True
        if not TAG.fullmatch(remark):
            return False
        made = self._ledger.doubts.unnamed(acc_id, remark[1:])
        if made is None or not _same_order(made, order):
            return False
        self._found(made.decision_id, order)
        return True

    def _unnamed_like(self, order: PushSubject) -> list[Reservation]:
        """The reservations it could be the order of, going by its terms, oldest first."""
        remark = order.remark or ""
        if TAG.fullmatch(remark):
            return []
        return [
            made
            for made in self._ledger.doubts.unsettled(order.account.acc_id)
            if made.kind == "place" and made.remark == remark and _same_order(made, order) and _same_terms(made, order)
        ]

    def _found(self, decision_id: str, order: PushSubject) -> None:
        self._named(decision_id, order.order_id, order.order_id_ex)
        self._record_if_lost(decision_id, order)

    def _named(self, decision_id: str, order_id: int, order_id_ex: str) -> None:
        """OpenD took it. What it said of the order before anybody knew whose it was counts now."""
        self._ledger.accepted(decision_id, order_id, order_id_ex)
        row = self._ledger.orders.row_of(decision_id)
        if row is not None:
            for one in (row.order_id, row.order_id_ex):
                said = self._last_words.pop((row.reservation.acc_id, one), None) if one else None
                if said is not None:
                    self._came_of(said, None)
        for callback in tuple(self.on_owner_known):
            callback()

    def _came_of(self, order: PushSubject, listed: float | None) -> None:
        """`listed`: as `Ledger.order_disabled`."""
        acc_id, ids = order.account.acc_id, (order.order_id, order.order_id_ex)
        status = order.order_status
        if status == OrderStatus.DISABLED:
            settled = self._ledger.order_disabled(acc_id, *ids, listed)
        elif status in ENDED_STATUSES:
            decision_id = self._ledger.orders.decision_of(acc_id, *ids)
            if decision_id is None:
                self._remember(order)
            elif status in FAILED_STATUSES and not order.fill_qty:
                self._failed(decision_id, order)
            settled = self._ledger.order_ended(acc_id, *ids)
        else:
            settled = self._changed_as_asked(order)
        for each in settled:
            self._record_if_lost(each, order)

    def _failed(self, decision_id: str, order: PushSubject) -> None:
        """An order that OpenD took, and that gives back what it counted: the audit says so, as it said that it was taken."""
        row = self._ledger.orders.row_of(decision_id)
        self._ledger.order_failed(decision_id)
        if row is None or row.state is not State.ACCEPTED or decision_id in self._lost:
            return
        if decision_id == self._found_failed:
            return  # that it failed was recorded as it was found
        failed = replace(
            _record_of(row.reservation),
            at=self._clock(),
            outcome="failure",
            message=f"the order failed at OpenD: {_status_name(order.order_status)}",
            order_id=order.order_id or None,
            order_id_ex=order.order_id_ex or None,
        )
        self._recorder.note(failed)

    def _changed_as_asked(self, order: PushSubject) -> list[str]:
        """The changes whose reply is lost and which the order shows: it has their quantity and price."""
        taken = [
            each
            for each in self._lost
            if (made := self._ledger.doubts.changing(each, order.account.acc_id, order.order_id, order.order_id_ex))
            is not None
            and (made.qty, made.price) == (order.qty, order.price if made.order_type.priced else None)
        ]
        for each in taken:
            self._ledger.accepted(each, order.order_id, order.order_id_ex)
        return taken

    def _remember(self, order: PushSubject) -> None:
        """Last words may come before the reply that says whose order it was."""
        for one in (order.order_id, order.order_id_ex):
            if one:
                self._last_words[order.account.acc_id, one] = order
        while len(self._last_words) > _MOST_WORDS:
            self._last_words.popitem(last=False)

    def gone(self, acc_id: int, order_id: int, order_id_ex: str) -> None:
        """An order that OpenD named is missing in its list (`Ledger.unlisted`)."""
        _log.info("an order that OpenD lists no longer has ended", acc_id=acc_id, order_id=order_id_ex or order_id)
        for each in self._ledger.order_ended(acc_id, order_id, order_id_ex):
            self._record(each, "unknown", "OpenD no longer lists the order, whether it took the change is not known")

    def unheard_of(self, acc_id: int, of_no_key: Iterable[PushSubject], at: float) -> None:
        """Every list of the account was looked through, asked for at that moment: these orders are of no known key.

        What was sent a day ago, and can be none of them, is nowhere: an order does not work for a day in no list.
        """
        listed = {
            symbol for order in of_no_key for symbol in (order.symbol, *(leg.security.symbol for leg in order.legs))
        }
        for made in self._ledger.doubts.unheard_of(acc_id, at):
            if not listed.intersection((made.symbol, *(leg.symbol for leg in made.legs))):
                self._ledger.presumed_gone(made.decision_id)
                text = "OpenD has not listed the order for a day: it counts as open no longer, its value stays used"
                self._record(made.decision_id, "unknown", text)

    # -- recording ------------------------------------------------------------------------------------------------

    def _record_if_lost(self, decision_id: str, order: PushSubject) -> None:
        failed = order.order_status in FAILED_STATUSES and not order.fill_qty
        text = f"{_FOUND}: {_status_name(order.order_status)}"
        if failed:
            self._found_failed = decision_id
        self._record(decision_id, "failure" if failed else "success", text, order.order_id, order.order_id_ex)

    def _record(
        self, decision_id: str, outcome: Outcome, message: str, order_id: int = 0, order_id_ex: str = ""
    ) -> None:
        record = self._lost.pop(decision_id, None)
        if record is None:
            return  # its reply is still to come, or has come
        found = replace(
            record,
            at=self._clock(),
            outcome=outcome,
            message=message,
            latency_us=None,
            order_id=order_id or record.order_id,
            order_id_ex=order_id_ex or record.order_id_ex,
        )
        self._recorder.note(found)
        _log.info("an order whose reply was lost", decision=decision_id, outcome=outcome, message=message)


def _same_order(made: Reservation, order: PushSubject) -> bool:
    """SECURITY: a tag alone is not believed: whoever may write remarks could claim another's order."""
    trades = _trades(made)
    return bool(trades) and made.order_type == order.order_type and trades == _traded(order, combo=bool(made.legs))


def _same_terms(made: Reservation, order: PushSubject) -> bool:
    """Whether it can only be told by its terms to be this one: by price and time as well."""
    if order.created is None or not made.at - BEFORE <= order.created <= made.at + AFTER:
        return False
    return not made.order_type.priced or made.price == order.price


_Trades = frozenset[tuple[str, bool, Decimal]]
"""Symbol, whether it sells, and units: OpenD reports a plain sale that opens a short as a short sale."""


def _trades(made: Reservation) -> _Trades:
    if made.legs:
        return frozenset((leg.symbol, leg.side.sells, leg.qty) for leg in made.legs)
    return _one(made.symbol, made.side, made.qty)


def _traded(order: PushSubject, *, combo: bool) -> _Trades:
    if combo:
        qty = order.qty or Decimal(0)
        return frozenset(
            (leg.security.symbol, leg.side.sells, EXACT.multiply(qty, leg.qty_ratio)) for leg in order.legs
        )
    return _one(order.symbol, order.side, order.qty)


def _one(symbol: str | None, side: Side | None, qty: Decimal | None) -> _Trades:
    if symbol is None or side is None or qty is None:
        return frozenset()
    return frozenset({(symbol, side.sells, qty)})


def _status_name(status: int | None) -> str:
    try:
        return OrderStatus(-1 if status is None else status).name
    except ValueError:
        return f"status {status}"


_ENDPOINT = endpoint_name(CATALOG[catalog.GET_ORDER_LIST].name, catalog.GET_ORDER_LIST)


def _record_of(made: Reservation) -> AuditRecord:
    """What is recorded of an order of an earlier process."""
    return AuditRecord(
        at=made.at,
        iface="sidecar",
        endpoint=_ENDPOINT,
        key_id=made.key_id,
        outcome="unknown",
        decision_id=made.decision_id,
        acc_id=made.acc_id,
        trd_env=made.env.name,
        market=made.market,
        symbol=made.symbol,
        side=None if made.side is None else made.side.value,
        order_type=made.order_type.name,
        qty=made.qty,
        price=made.price,
        value=made.value,
        currency=made.currency,
        order_id=made.order_id or None,
        order_id_ex=made.order_id_ex or None,
        essential=True,
    )
