"""Handlers of orders: unlock, account pushes, placing, changing, cancelling. Reading is in `holdings`, what may be placed in `rules`."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from hashlib import md5
from typing import Any

from sidecar.sandbox.accounts import Account, TrdMarket
from sidecar.sandbox.answers import Answer, Failure, Handler, response
from sidecar.sandbox.combos import judge_combo, judge_combo_change
from sidecar.sandbox.exchange import Exchange, change_refusal
from sidecar.sandbox.market import Market
from sidecar.sandbox.orders import Fill, Order, fill_fill_message, fill_order_message
from sidecar.sandbox.otherwise import Otherwise
from sidecar.sandbox.rules import find_account, is_stock_connect, judge, judge_change
from sidecar.sandbox.session import Session
from sidecar.sandbox.sessions import Sessions
from sidecar.sandbox.settings import SandboxSettings

CHANGE, CANCEL, DISABLE, ENABLE, DELETE = 1, 2, 3, 4, 5
"""Trd_Common.ModifyOrderOp."""

LOCKED = Failure("Trading is locked, please unlock trade first")

Push = Callable[[int, int, bytes], None]
"""Sends a push (account, proto id, protobuf body) to every connection that asked for the account's."""


class TradeDesk:
    """Handlers of 2005, 2008, 2202, 2205 and 2227, and the pushes 2208 and 2218."""

    def __init__(
        self,
        market: Market,
        accounts: dict[int, Account],
        settings: SandboxSettings,
        sessions: Sessions,
        later: Callable[[float, Callable[[], None]], None],
        push: Push,
    ) -> None:
        self._market = market
        self._accounts = accounts
        self._settings = settings
        self._push = push
        self._password = md5(settings.trade_password.encode(), usedforsecurity=False).hexdigest()
        self.unlocked = settings.unlocked
        """Whether real accounts can trade: one state for all connections (documented)."""
        self.exchange = Exchange(
            market,
            accounts,
            settings.seed,
            settings.order_latency,
            settings.partial_fills,
            settings.rejections,
            sessions.trades,
            later,
            self._publish_order,
            self._publish_fill,
        )

    def handlers(self) -> dict[int, Handler]:
        return {
            2005: self.unlock,
            2008: self.subscribe_accounts,
            2202: self.place,
            2205: self.modify,
            2227: self.place_combo,
        }

    # --- unlock and account pushes ---

    def unlock(self, session: Session, c2s: Any) -> Answer:
        """2005: global to the sandbox; locking needs no password (documented)."""
        if not c2s.unlock:
            self.unlocked = False
            return response("Trd_UnlockTrade")
        if not hmac.compare_digest(c2s.pwdMD5.lower(), self._password):
            return Failure("The trade password is wrong")
        answer = response("Trd_UnlockTrade")
        if self.unlocked:
            answer.retMsg = "Trading is unlocked already"
        self.unlocked = True
        return answer

    def subscribe_accounts(self, session: Session, c2s: Any) -> Answer:
        """2008: the accounts of this connection's pushes, replacing those before (documented)."""
        for acc_id in c2s.accIDList:
            if acc_id not in self._accounts:
                return Failure(f"Nonexisting acc_id {acc_id}")
        session.accounts = frozenset(c2s.accIDList)
        return response("Trd_SubAccPush")

    # --- orders ---

    def place(self, session: Session, c2s: Any) -> Answer:
        """2202."""
        account = self._writable(session, c2s)
        if isinstance(account, Failure):
            return account
        terms = judge(account, c2s, self._market.listing, self._market, self._settings.relaxed_paper)
        if isinstance(terms, Failure):
            return terms
        order = self.exchange.take(account, terms, c2s, session.after_reply)
        answer = response("Trd_PlaceOrder")
        answer.s2c.header.CopyFrom(c2s.header)
        answer.s2c.orderID, answer.s2c.orderIDEx = order.number, order.text_id
        return answer

    def place_combo(self, session: Session, c2s: Any) -> Answer:
        """2227; the reply names the order by orderIDEx only (documented)."""
        account = self._writable(session, c2s)
        if isinstance(account, Failure):
            return account
        terms = judge_combo(account, c2s, self._market.listing, self._market, self._settings.relaxed_paper)
        if isinstance(terms, Failure):
            return terms
        order = self.exchange.take(account, terms, c2s, session.after_reply)
        answer = response("Trd_PlaceComboOrder")
        answer.s2c.header.CopyFrom(c2s.header)
        answer.s2c.orderIDEx = order.text_id
        return answer

    def modify(self, session: Session, c2s: Any) -> Answer:
        """2205, all operations; forAll cancels every working order of a real account, or those of one market."""
        account = self._writable(session, c2s)
        if isinstance(account, Failure):
            return account
        operation = c2s.modifyOrderOp
        restricted = not account.real and not self._settings.relaxed_paper
        if not CHANGE <= operation <= DELETE:
            return Failure(f"Unknown operation {operation}")
        if c2s.forAll:
            return self._cancel_all(session, account, c2s, restricted)
        if restricted and operation not in (CHANGE, CANCEL):
            return Failure("Paper trading supports changing and cancelling orders only")
        order = self._find(account, c2s)
        if isinstance(order, Failure):
            return order
        refusal = change_refusal(order, operation)
        if refusal is not None:
            return refusal
        if operation == CHANGE:
            terms = (
                judge_combo_change(account, order, c2s, self._market)
                if order.legs
                else judge_change(account, order, c2s, self._market, self._settings.relaxed_paper)
            )
            if isinstance(terms, Failure):
                return terms
            self.exchange.change(order, terms, c2s, session.after_reply)
        else:
            act = {
                CANCEL: self.exchange.cancel,
                DISABLE: self.exchange.disable,
                ENABLE: self.exchange.enable,
                DELETE: self.exchange.delete,
            }[operation]
            act(order, session.after_reply)
        answer = response("Trd_ModifyOrder")
        answer.s2c.header.CopyFrom(c2s.header)
        answer.s2c.orderID, answer.s2c.orderIDEx = order.number, order.text_id
        return answer

    def _cancel_all(self, session: Session, account: Account, c2s: Any, restricted: bool) -> Answer:
        if c2s.modifyOrderOp != CANCEL:
            return Failure("forAll is possible for cancelling only")
        if restricted:
            return Failure("Paper trading does not support cancelling all orders")
        if c2s.trdMarket == TrdMarket.HKCC:
            return Failure("Stock Connect does not support cancelling all orders")
        for order in list(account.working()):
            if c2s.trdMarket not in (0, order.trd_market) or is_stock_connect(account, order.instrument):
                continue
            if change_refusal(order, CANCEL) is None:
                self.exchange.cancel(order, session.after_reply)
        answer = response("Trd_ModifyOrder")
        answer.s2c.header.CopyFrom(c2s.header)
        answer.s2c.orderID = 0
        return answer

    def _find(self, account: Account, c2s: Any) -> Order | Failure:
        by_text = account.by_text_id.get(c2s.orderIDEx) if c2s.orderIDEx else None
        by_number = account.orders.get(c2s.orderID) if c2s.orderID else None
        both = c2s.orderIDEx and c2s.orderID and Otherwise.BOTH_ORDER_IDS not in self._settings.otherwise
        if both and by_text is not by_number:
            return Failure("orderID and orderIDEx name different orders")
        order = by_text or by_number
        return order or Failure(f"Order {c2s.orderIDEx or c2s.orderID} does not exist in account {account.acc_id}")

    def _writable(self, session: Session, c2s: Any) -> Account | Failure:
        """The account of a trade write, once its packetID and the lock allow it."""
        refusal = (
            None if Otherwise.PACKETS_ANYHOW in self._settings.otherwise else _packet_refusal(session, c2s.packetID)
        )
        if refusal is not None:
            return refusal
        account = find_account(self._accounts, c2s.header)
        if isinstance(account, Account) and account.real and not self.unlocked:
            return LOCKED
        return account

    # --- pushes ---

    def _publish_order(self, order: Order) -> None:
        answer = response("Trd_UpdateOrder")
        _fill_header(answer.s2c.header, self._accounts[order.acc_id], order)
        fill_order_message(answer.s2c.order, order)
        self._push(order.acc_id, 2208, answer.SerializeToString())

    def _publish_fill(self, fill: Fill) -> None:
        account = self._accounts[fill.order.acc_id]
        if not account.real and not self._settings.relaxed_paper:
            return  # paper accounts have no fills to speak of (documented)
        answer = response("Trd_UpdateOrderFill")
        _fill_header(answer.s2c.header, account, fill.order)
        fill_fill_message(answer.s2c.orderFill, fill)
        self._push(account.acc_id, 2218, answer.SerializeToString())


def _packet_refusal(session: Session, packet: Any) -> Failure | None:
    """Why a packetID is not taken; a good one is used up by this."""
    if packet.connID != session.conn_id:
        return Failure(f"packetID.connID {packet.connID} is not the ID of this connection")
    if packet.serialNo in session.packet_serials:
        return Failure(f"packetID.serialNo {packet.serialNo} was used before")
    session.packet_serials.add(packet.serialNo)
    return None


def _fill_header(header: Any, account: Account, order: Order) -> None:
    header.trdEnv, header.accID, header.trdMarket = int(account.real), account.acc_id, order.trd_market
