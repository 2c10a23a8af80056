"""What became of orders: orders and fills of today and before, fees, cash flows. Changes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import date
from typing import Any

from sidecar.sandbox import clock
from sidecar.sandbox.accounts import Account
from sidecar.sandbox.answers import Answer, Failure, Handler, response
from sidecar.sandbox.instruments import HK
from sidecar.sandbox.orders import Order, fill_fill_message, fill_order_message
from sidecar.sandbox.rules import find_account
from sidecar.sandbox.session import Session

_PAPER_FILLS = Failure("Paper trading does not support deals")


class OrderQueryDesk:
    """Handlers of 2201, 2211, 2221, 2222, 2225 and 2226."""

    def __init__(self, accounts: dict[int, Account], relaxed_paper: bool) -> None:
        self._accounts = accounts
        self._relaxed = relaxed_paper

    def handlers(self) -> dict[int, Handler]:
        return {
            2201: self.orders,
            2211: self.fills,
            2221: self.order_history,
            2222: self.fill_history,
            2225: self.fees,
            2226: self.flows,
        }

    def orders(self, session: Session, c2s: Any) -> Answer:
        """2201: orders of today, working or not."""
        account = find_account(self._accounts, c2s.header)
        if isinstance(account, Failure):
            return account
        answer = response("Trd_GetOrderList")
        answer.s2c.header.CopyFrom(c2s.header)
        chosen = list(account.orders.values())
        only = c2s.filterConditions.orderIDExList
        if only and not c2s.filterConditions.idList:
            chosen = [account.by_text_id[text] for text in only if text in account.by_text_id]
        for order in _matching(chosen, c2s.filterConditions, c2s.filterStatusList):
            fill_order_message(answer.s2c.orderList.add(), order)
        return answer

    def order_history(self, session: Session, c2s: Any) -> Answer:
        """2221: ended orders, those of today included."""
        account = find_account(self._accounts, c2s.header)
        if isinstance(account, Failure):
            return account
        answer = response("Trd_GetHistoryOrderList")
        answer.s2c.header.CopyFrom(c2s.header)
        ended = [*account.history, *(order for order in account.orders.values() if not order.working)]
        for order in _matching(ended, c2s.filterConditions, c2s.filterStatusList):
            fill_order_message(answer.s2c.orderList.add(), order)
        return answer

    def fills(self, session: Session, c2s: Any) -> Answer:
        """2211; not for paper accounts (documented)."""
        return self._fills(c2s, "Trd_GetOrderFillList", today_only=True)

    def fill_history(self, session: Session, c2s: Any) -> Answer:
        """2222; not for paper accounts (documented)."""
        return self._fills(c2s, "Trd_GetHistoryOrderFillList", today_only=False)

    def _fills(self, c2s: Any, name: str, *, today_only: bool) -> Answer:
        account = find_account(self._accounts, c2s.header)
        if isinstance(account, Failure):
            return account
        if not account.real and not self._relaxed:
            return _PAPER_FILLS
        answer = response(name)
        answer.s2c.header.CopyFrom(c2s.header)
        for fill in account.fills:
            if today_only and fill.order.number not in account.orders:
                continue
            if _chosen(fill.order, c2s.filterConditions, fill.time):
                fill_fill_message(answer.s2c.orderFillList.add(), fill)
        return answer

    def fees(self, session: Session, c2s: Any) -> Answer:
        """2225."""
        account = find_account(self._accounts, c2s.header)
        if isinstance(account, Failure):
            return account
        answer = response("Trd_GetOrderFee")
        answer.s2c.header.CopyFrom(c2s.header)
        for text_id in c2s.orderIdExList:
            order = account.by_text_id.get(text_id)
            if order is None:
                return Failure(f"Order {text_id} does not exist in account {account.acc_id}")
            entry = answer.s2c.orderFeeList.add(orderIDEx=text_id, feeAmount=float(order.fees))
            entry.feeList.add(title="Commission and platform fee", value=float(order.fees))
        return answer

    def flows(self, session: Session, c2s: Any) -> Answer:
        """2226: cash movements of a clearing date, or of a range of creation dates. Real accounts only (inferred)."""
        account = find_account(self._accounts, c2s.header)
        if isinstance(account, Failure):
            return account
        if not account.real and not self._relaxed:
            return Failure("Paper trading does not support cash flows")
        answer = response("Trd_FlowSummary")
        answer.s2c.header.CopyFrom(c2s.header)
        for number, (when, currency, amount, remark) in enumerate(account.flows):
            day = clock.text(HK, when)[:10]
            direction = 1 if amount >= 0 else 2
            if c2s.clearingDate and day != c2s.clearingDate[:10]:
                continue
            if (c2s.startCreateDate and day < c2s.startCreateDate[:10]) or (
                c2s.endCreateDate and day > c2s.endCreateDate[:10]
            ):
                continue
            if c2s.cashFlowDirection not in (0, direction):
                continue
            answer.s2c.flowSummaryInfoList.add(
                clearingDate=day,
                settlementDate=day,
                currency=int(currency),
                cashFlowType="Others" if remark != "deposit" else "Deposit",
                cashFlowDirection=direction,
                cashFlowAmount=float(amount),
                cashFlowRemark=remark,
                cashFlowID=60_000_001 + number,
                createTime=clock.text(HK, when),
            )
        return answer


def _matching(orders: Iterable[Order], conditions: Any, statuses: Any) -> Iterator[Order]:
    wanted = set(statuses)
    for order in orders:
        if (not wanted or int(order.status) in wanted) and _chosen(order, conditions, order.created):
            yield order


def _chosen(order: Order, conditions: Any, when: float) -> bool:
    """Whether TrdFilterConditions let the order through. Codes, ids and times each narrow (documented)."""
    if conditions.codeList and order.instrument.code not in conditions.codeList:
        return False
    if (conditions.idList or conditions.orderIDExList) and not (
        order.number in conditions.idList or order.text_id in conditions.orderIDExList
    ):
        return False
    if conditions.filterMarket and order.trd_market != conditions.filterMarket:
        return False
    moment = clock.text(order.instrument.market, when)
    begin, end = _moment(conditions.beginTime, "00:00:00"), _moment(conditions.endTime, "23:59:59")
    return not (begin and moment < begin) and not (end and moment > end)


def _moment(text: str, otherwise: str) -> str:
    """`2026-11-20` or `2026-11-20 09:30:00` so that it compares as text; empty where nothing was asked for."""
    day = clock.parse_day(text) if text else None
    if not isinstance(day, date):
        return ""
    return f"{day.isoformat()} {text.strip().split(' ')[1] if ' ' in text.strip() else otherwise}"
