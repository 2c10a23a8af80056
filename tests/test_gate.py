"""The story of an order through the gate, told as transcripts: what was asked, reserved, written, looked at and forwarded."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from sidecar.asked import Answered, Asked, Forward, Refused
from sidecar.audit.record import AuditRecord
from sidecar.breakers import Breakers
from sidecar.errors import RecordError
from sidecar.facts.look_ups import LookUps
from sidecar.gate import Gate, GateSettings
from sidecar.grants import Caller, Grants
from sidecar.intents.model import Security, TrdEnv
from sidecar.keys.ring import KeyStore
from sidecar.keys.secret import hash_of
from sidecar.ledger.ledger import Ledger
from sidecar.ledger.states import States
from sidecar.metrics import Metrics
from sidecar.policy.decision import Code, Refusal
from sidecar.policy.market_state import MarketState, Session
from sidecar.policy.trading import ACTIVE
from sidecar.policy.usage import Account, Instrument, InstrumentKind, Position
from sidecar.settings import Breakers as Settings
from sidecar.unlocking import Unlocking
from sidecar.wire import catalog
from sidecar.wire.messages import message_class
from tests.ledger.ledger_making import MemoryStore

SECRET = "fc_" + "11" * 32
ACC = 1001
BOT = {"id": "bot", "hash": hash_of(SECRET), "scopes": ["qot:read", "acc:read", "trade:simulate"]}


class World:
    """A gate with a real key file, ledger and policy; disk and OpenD are played by the test."""

    def __init__(self, folder: Path, *, breakers: dict[str, Any] | None = None, **limits: Any) -> None:
        self.transcript: list[str] = []
        self.records: list[AuditRecord] = []
        self.path = folder / "keys.json"
        self.write_keys({**BOT, **limits})
        self.keys = KeyStore(self.path, None, 600.0, time.monotonic)
        self.ledger = Ledger(MemoryStore(), lambda now: now // 86_400 * 86_400)
        self.during_commit: Callable[[], None] | None = None
        self.commit_error: RecordError | None = None
        self.facts_wait = 0.0
        self.quote: Decimal | None = Decimal(300)
        self.holding: Decimal | None = Decimal(1000)
        self.holding_is_old = False
        self.holding_price: Decimal | None = None
        self.market_state: MarketState | None = MarketState(Session.REGULAR, "MORNING")
        self.contract: Security | None = None
        self.standing = ACTIVE
        self.env = TrdEnv.SIMULATE
        self.unlocking = Unlocking(
            self, password=None, firm_of=lambda acc_id: 0, firms=lambda: (), spawn=lambda work: asyncio.get_running_loop().create_task(work)
        )  # fmt: skip
        self.states = States(folder)
        self.breakers = Breakers(
            Settings(**(breakers or {})), states=self.states, recorder=self, metrics=Metrics(), revision=lambda: ""  # type: ignore[arg-type]
        )  # fmt: skip
        self.gate = Gate(
            grants=Grants(self.keys, machine_id=None),
            keys=self.keys,
            ledger=self.ledger,
            recorder=self,  # type: ignore[arg-type]
            accounts=self,  # type: ignore[arg-type]
            look_ups=LookUps(
                instruments=_Lookup(self, "instrument", lambda: Instrument(InstrumentKind.STOCK, Decimal(1), "HKD")),  # type: ignore[arg-type]
                quotes=_Lookup(self, "quote", lambda: self.quote),  # type: ignore[arg-type]
                positions=_Holdings(self),  # type: ignore[arg-type]
                orders=self,  # type: ignore[arg-type]
                market_states=_Lookup(self, "market state", lambda: self.market_state),  # type: ignore[arg-type]
                contracts=_Lookup(self, "contract", lambda: self.contract),  # type: ignore[arg-type]
            ),
            metrics=Metrics(),
            settings=GateSettings(),
            trading=lambda key_id: self.standing,
            unlocking=self.unlocking,
            breakers=self.breakers,
            spawn=lambda work: asyncio.get_running_loop().create_task(work),
        )
        self.caller = self.gate.grants.identify("tcp", SECRET, "127.0.0.1")

    def look_up_by(self, **parts: Any) -> None:
        """Other stand-ins for what is asked of OpenD, by the names of `LookUps`."""
        facts = self.gate._facts
        facts._look_ups = replace(facts._look_ups, **parts)

    def write_keys(self, *records: dict[str, Any]) -> None:
        self.path.write_text(json.dumps({"version": 1, "keys": list(records)}))
        self.path.chmod(0o600)

    def freeze(self) -> None:
        self.write_keys({**BOT, "allowed_machines": []})
        self.keys.reload()

    # -- the recorder and the accounts, as the gate sees them

    async def commit(self, record: AuditRecord) -> None:
        self.transcript.append("written" if self.ledger.has_staged else "written without a reservation")
        await asyncio.sleep(0)
        if self.during_commit is not None:
            self.during_commit()
        if self.commit_error is not None:
            raise self.commit_error
        self.records.append(record)

    def note(self, record: AuditRecord) -> None:
        self.transcript.append(f"noted {record.outcome} {record.reason or ''}".strip())
        self.records.append(record)

    def get(self, acc_id: int) -> Account | None:
        return Account(ACC, self.env, frozenset({1})) if acc_id == ACC else None

    async def ensure(self, acc_id: int) -> Account | None:
        return self.get(acc_id)

    async def ask(self, proto_id: int, request: Any, *, timeout: float) -> Any:
        raise AssertionError(f"the house was asked {proto_id}")

    # -- requests

    def place(self, qty: float = 100, price: float = 300, side: int = 1) -> Asked | Refused:
        request: Any = message_class("Trd_PlaceOrder.Request")()
        c2s = request.c2s
        c2s.packetID.connID, c2s.packetID.serialNo = 1, 1
        c2s.header.trdEnv, c2s.header.accID, c2s.header.trdMarket = self.env, ACC, 1
        c2s.trdSide, c2s.orderType, c2s.code, c2s.qty, c2s.price, c2s.secMarket = side, 1, "00700", qty, price, 1
        return self.gate.understand(self.caller, catalog.CATALOG[catalog.PLACE_ORDER], lambda: request)

    def cancel(self, order_id_ex: str = "X1") -> Asked | Refused:
        request: Any = message_class("Trd_ModifyOrder.Request")()
        c2s = request.c2s
        c2s.packetID.connID, c2s.packetID.serialNo = 1, 2
        c2s.header.trdEnv, c2s.header.accID, c2s.header.trdMarket = self.env, ACC, 1
        c2s.orderID, c2s.modifyOrderOp, c2s.orderIDEx = 0, 2, order_id_ex
        return self.gate.understand(self.caller, catalog.CATALOG[catalog.MODIFY_ORDER], lambda: request)

    async def decide(self, asked: Asked | Refused, obstacle: Callable[[], Refusal | None] = lambda: None) -> Any:
        assert isinstance(asked, Asked)
        verdict = await self.gate.decide(asked, obstacle)
        self.transcript.append("forwarded" if isinstance(verdict, Forward) else "refused")
        return verdict

    @property
    def orders_used(self) -> int:
        return self.ledger.usage("bot", time.time()).orders_last_minute


class _Lookup:
    def __init__(self, world: World, name: str, answer: Callable[[], Any]) -> None:
        self.world, self.name, self.answer = world, name, answer

    def has(self, security: Security) -> bool:
        return False

    async def get(self, security: Security) -> Any:
        self.world.transcript.append(f"asked {self.name} of {security.symbol}")
        await asyncio.sleep(self.world.facts_wait)
        return self.answer()


class _InMemory:
    """Look-ups of what is in memory already."""

    def has(self, security: Security) -> bool:
        return True

    async def get(self, security: Security) -> Any:
        return Instrument(InstrumentKind.STOCK, Decimal(1), "HKD")


class _Holdings:
    """What may be sold, as of when it is asked for; told `facts_wait` later."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def get(self, account: Account | None, security: Security) -> Position | None:
        assert account is not None
        self.world.transcript.append(f"asked holding of {security.symbol} in {account.acc_id}")
        sequence, holding = self.world.ledger.sequence, self.world.holding
        await asyncio.sleep(self.world.facts_wait)
        if holding is None:
            return None
        return Position(max(holding, Decimal(0)), None, sequence, net=holding, price=self.world.holding_price)

    def fresh(self, position: Position) -> bool:
        return not self.world.holding_is_old


async def test_an_order_without_a_value_cap_asks_nothing_is_written_and_then_forwarded(tmp_path: Path) -> None:
    world = World(tmp_path)
    verdict = await world.decide(world.place())
    assert isinstance(verdict, Forward)
    assert world.transcript == ["written", "forwarded"]


async def test_a_sell_under_a_value_cap_asks_for_type_and_price_first(tmp_path: Path) -> None:
    world = World(tmp_path, max_order_value=100_000)
    await world.decide(world.place(side=2))
    assert world.transcript == ["asked instrument of HK.00700", "asked quote of HK.00700", "written", "forwarded"]


async def test_a_low_priced_sell_counts_at_the_market_price(tmp_path: Path) -> None:
    world = World(tmp_path, max_order_value=25_000)
    verdict = await world.decide(world.place(qty=100, price=0.01, side=2))
    assert verdict.code is Code.ORDER_VALUE
    assert "30000 HKD is over the limit of 25000 HKD" in verdict.text


async def test_an_order_over_its_cap_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    world = World(tmp_path, max_order_value=29_999.99)
    await world.decide(world.place())
    assert world.transcript == ["asked instrument of HK.00700", "noted reject order_value", "refused"]
    assert world.orders_used == 0


async def test_what_can_be_refused_without_asking_is_refused_without_asking(tmp_path: Path) -> None:
    world = World(tmp_path, allowed_markets=["US"], max_order_value=1_000_000)
    refused = world.place()
    assert isinstance(refused, Refused)
    assert refused.code is Code.MARKET
    assert world.transcript == ["noted reject market"]


async def test_an_order_whose_facts_are_in_memory_is_decided_without_being_screened_or_prefetched(
    tmp_path: Path,
) -> None:
    world = World(tmp_path, max_order_value=1_000_000)
    world.look_up_by(instruments=_InMemory())
    asked = world.place()
    assert isinstance(asked, Asked)
    world.gate.prefetch(asked)
    assert asked.gathering is None
    assert isinstance(await world.decide(asked), Forward)


async def test_what_is_not_allowed_is_refused_also_where_its_facts_are_in_memory(tmp_path: Path) -> None:
    world = World(tmp_path, allowed_markets=["US"], max_order_value=1_000_000)
    world.look_up_by(instruments=_InMemory())
    assert (await world.decide(world.place())).code is Code.MARKET
    assert world.orders_used == 0


async def test_a_sale_whose_holding_must_be_asked_for_is_screened_whatever_else_is_in_memory(tmp_path: Path) -> None:
    world = World(tmp_path, allowed_markets=["US"], max_order_value=1_000_000, allow_short=False)
    world.look_up_by(instruments=_InMemory())
    refused = world.place(side=2)
    assert isinstance(refused, Refused)
    assert refused.code is Code.MARKET


async def test_an_order_that_cannot_be_written_is_not_forwarded_and_uses_nothing(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.commit_error = RecordError("audit_unavailable", "the disk is full")
    verdict = await world.decide(world.place())
    assert verdict.code is Code.AUDIT_UNAVAILABLE
    assert world.transcript == ["written", "noted reject audit_unavailable", "refused"]
    assert world.orders_used == 0


async def test_a_freeze_while_the_order_is_written_stops_it_at_the_last_look(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.during_commit = world.freeze
    verdict = await world.decide(world.place())
    assert verdict.code is Code.KEY_FROZEN
    assert world.transcript == ["written", "noted reject key_frozen", "refused"]
    assert world.orders_used == 0


async def test_a_revocation_while_facts_are_gathered_stops_it_before_it_is_written(tmp_path: Path) -> None:
    world = World(tmp_path, max_order_value=100_000)
    world.facts_wait = 0.05
    deciding = asyncio.ensure_future(world.decide(world.place()))
    await asyncio.sleep(0.01)
    world.write_keys()
    world.keys.reload()
    verdict = await deciding
    assert verdict.code is Code.KEY_REVOKED
    assert "written" not in world.transcript


async def test_a_key_that_expires_while_the_order_is_written_stops_it(tmp_path: Path) -> None:
    world = World(tmp_path, expires_at="2999-01-01T00:00:00Z")

    def time_passes() -> None:
        world.gate.grants._clock = lambda: datetime(2999, 1, 2, tzinfo=UTC)

    world.during_commit = time_passes
    assert (await world.decide(world.place())).code is Code.KEY_EXPIRED
    assert world.orders_used == 0


async def test_a_market_taken_off_the_key_while_the_order_is_written_stops_it(tmp_path: Path) -> None:
    world = World(tmp_path)

    def take_market_away() -> None:
        world.write_keys({**BOT, "allowed_markets": ["US"]})
        world.keys.reload()

    world.during_commit = take_market_away
    assert (await world.decide(world.place())).code is Code.MARKET


async def test_an_order_whose_client_left_while_it_was_written_is_not_forwarded(tmp_path: Path) -> None:
    world = World(tmp_path)
    gone = Refusal(Code.CLIENT_GONE, "the client disconnected")
    verdict = await world.decide(world.place(), obstacle=lambda: gone)
    assert verdict.code is Code.CLIENT_GONE
    assert world.orders_used == 0


async def test_two_orders_that_wait_for_the_same_facts_do_not_both_fit_into_the_last_of_a_cap(tmp_path: Path) -> None:
    world = World(tmp_path, max_daily_value=50_000)
    world.facts_wait = 0.02
    verdicts = await asyncio.gather(world.decide(world.place()), world.decide(world.place()))
    assert sorted(type(each).__name__ for each in verdicts) == ["Forward", "Refused"]


NO_SHORT: dict[str, Any] = {"allow_short": False}


async def test_a_sale_of_a_key_that_may_not_sell_short_asks_for_the_holding_and_a_buy_does_not(tmp_path: Path) -> None:
    world = World(tmp_path, **NO_SHORT)
    assert isinstance(await world.decide(world.place(qty=1000, side=2)), Forward)
    assert world.transcript == ["asked holding of HK.00700 in 1001", "written", "forwarded"]
    world.transcript.clear()
    assert isinstance(await world.decide(world.place(qty=1000, side=1)), Forward)
    assert world.transcript == ["written", "forwarded"]


async def test_a_sale_asks_for_holding_type_and_price_side_by_side(tmp_path: Path) -> None:
    world = World(tmp_path, **NO_SHORT, max_order_value=1_000_000)
    world.facts_wait = 0.05
    deciding = asyncio.ensure_future(world.decide(world.place(side=2)))
    await asyncio.sleep(0.02)
    assert len(world.transcript) == 3
    assert isinstance(await deciding, Forward)


async def test_two_sales_of_the_whole_holding_that_wait_for_it_together_do_not_both_pass(tmp_path: Path) -> None:
    world = World(tmp_path, **NO_SHORT)
    world.facts_wait = 0.02
    verdicts = await asyncio.gather(*(world.decide(world.place(qty=1000, side=2)) for _ in range(3)))
    refused = [each for each in verdicts if not isinstance(each, Forward)]
    assert [each.code for each in refused] == [Code.SHORT_SALE, Code.SHORT_SALE]
    assert "selling 1000" in refused[0].text
    assert "1000 can be sold, 1000 already reserved" in refused[0].text


async def test_a_sale_that_opend_accepts_after_the_holding_was_asked_for_counts_against_it(tmp_path: Path) -> None:
    world = World(tmp_path, **NO_SHORT)
    first = await world.decide(world.place(qty=1000, side=2))
    world.facts_wait = 0.05
    second = asyncio.ensure_future(world.decide(world.place(qty=1000, side=2)))
    await asyncio.sleep(0.02)  # asked for, not answered yet
    world.ledger.accepted(first.asked.decision_id, 1, "X1")
    assert (await second).code is Code.SHORT_SALE


async def test_a_sale_that_opend_refuses_is_free_to_be_made_again(tmp_path: Path) -> None:
    world = World(tmp_path, **NO_SHORT)
    first = await world.decide(world.place(qty=1000, side=2))
    assert (await world.decide(world.place(qty=1000, side=2))).code is Code.SHORT_SALE
    world.ledger.refused_by_opend(first.asked.decision_id)
    assert isinstance(await world.decide(world.place(qty=1000, side=2)), Forward)


async def test_a_sale_that_could_not_be_written_reserves_nothing_of_the_holding(tmp_path: Path) -> None:
    world = World(tmp_path, **NO_SHORT)
    world.commit_error = RecordError("audit_unavailable", "the disk is full")
    await world.decide(world.place(qty=1000, side=2))
    world.commit_error = None
    assert isinstance(await world.decide(world.place(qty=1000, side=2)), Forward)


async def test_a_holding_that_cannot_be_told_refuses_the_sale(tmp_path: Path) -> None:
    world = World(tmp_path, **NO_SHORT)
    world.holding = None
    verdict = await world.decide(world.place(side=2))
    assert verdict.code is Code.POSITION_UNKNOWN
    assert world.transcript == ["asked holding of HK.00700 in 1001", "noted reject position_unknown", "refused"]


async def test_a_holding_too_old_when_the_sale_is_decided_is_asked_for_once_more_and_then_refuses_it(
    tmp_path: Path,
) -> None:
    world = World(tmp_path, **NO_SHORT)
    world.holding_is_old = True
    assert (await world.decide(world.place(side=2))).code is Code.POSITION_UNKNOWN
    assert world.transcript.count("asked holding of HK.00700 in 1001") == 2


async def test_a_declared_short_sale_is_refused_without_asking_and_a_cancel_asks_nothing(tmp_path: Path) -> None:
    world = World(tmp_path, **NO_SHORT)
    world.holding = None
    assert (await world.decide(world.place(side=3))).code is Code.SHORT_SALE
    cancel = world.cancel()
    assert isinstance(cancel, Asked)
    assert not world.gate.waits(cancel)
    assert isinstance(world.gate.decide_now(cancel), Forward)
    assert world.transcript == ["noted reject short_sale", "refused", "noted allow"]


async def test_a_key_that_loses_short_sales_while_the_facts_are_gathered_is_judged_without_a_holding(
    tmp_path: Path,
) -> None:
    world = World(tmp_path, max_order_value=1_000_000)
    world.facts_wait = 0.05
    deciding = asyncio.ensure_future(world.decide(world.place(side=2)))
    await asyncio.sleep(0.01)
    world.write_keys({**BOT, **NO_SHORT})
    world.keys.reload()
    assert (await deciding).code is Code.POSITION_UNKNOWN


async def test_a_dry_run_of_a_sale_counts_what_others_reserve_and_reserves_nothing(tmp_path: Path) -> None:
    world = World(tmp_path, **NO_SHORT)
    asked = world.place(qty=1000, side=2)
    assert isinstance(asked, Asked)
    for _ in range(2):
        decision: Any = await world.gate.rehearse(asked)
        assert decision.refusal is None
    await world.decide(world.place(qty=1, side=2))
    again: Any = await world.gate.rehearse(asked)
    assert again.refusal.code is Code.SHORT_SALE


async def test_an_order_without_a_remark_carries_the_tag_of_its_decision(tmp_path: Path) -> None:
    world = World(tmp_path)
    verdict = await world.decide(world.place())
    assert verdict.asked.message.c2s.remark == f"#{verdict.asked.decision_id}"


def test_a_cancel_is_decided_at_once_whatever_the_disk_does(tmp_path: Path) -> None:
    world = World(tmp_path, max_orders_per_minute=1, hours_window="00:00-00:01", timezone="UTC")
    world.commit_error = RecordError("ledger_unavailable", "gone")
    asked = world.cancel()
    assert isinstance(asked, Asked)
    assert not world.gate.waits(asked)
    assert isinstance(world.gate.decide_now(asked), Forward)
    assert world.transcript == ["noted allow"]


async def test_orders_stop_while_the_keys_are_stale_and_cancels_go_on(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.path.write_text("{")
    world.keys.reload()
    world.keys.broken_since = time.monotonic() - 601
    assert (await world.decide(world.place())).code is Code.KEYS_STALE
    cancel = world.cancel()
    assert isinstance(cancel, Asked)
    assert isinstance(world.gate.decide_now(cancel), Forward)


def test_unlock_is_answered_by_the_sidecar_for_keys_that_trade_real_and_refused_for_others(tmp_path: Path) -> None:
    request: Any = message_class("Trd_UnlockTrade.Request")()
    request.c2s.unlock, request.c2s.pwdMD5 = True, "0" * 32
    row = catalog.CATALOG[catalog.UNLOCK_TRADE]
    world = World(tmp_path)
    assert isinstance(world.gate.admit(world.caller, row.id), Refused)
    world = World(tmp_path, scopes=["trade:real"])
    asked = world.gate.understand(world.caller, row, lambda: request)
    assert isinstance(asked, Asked)
    verdict = world.gate.decide_now(asked)
    assert isinstance(verdict, Answered)
    assert not any("0" * 32 in str(record) for record in world.records)


def test_nothing_in_the_record_of_an_unlock_tells_two_passwords_apart(tmp_path: Path) -> None:
    world = World(tmp_path, scopes=["trade:real"])
    row = catalog.CATALOG[catalog.UNLOCK_TRADE]
    for digit in "01":
        request: Any = message_class("Trd_UnlockTrade.Request")()
        request.c2s.unlock, request.c2s.pwdMD5 = True, digit * 32
        asked = world.gate.understand(world.caller, row, lambda asking=request: asking)
        assert isinstance(asked, Asked)
        assert isinstance(world.gate.decide_now(asked), Answered)
    assert len(world.records) == 2
    first, second = (replace(record, at=0.0, decision_id="", latency_us=0) for record in world.records)
    assert first == second


def test_an_account_subscription_is_narrowed_to_the_accounts_the_key_may_see(tmp_path: Path) -> None:
    world = World(tmp_path)
    request: Any = message_class("Trd_SubAccPush.Request")()
    request.c2s.accIDList.extend([ACC, 9999])
    row = catalog.CATALOG[catalog.SUB_ACC_PUSH]
    asked = world.gate.understand(world.caller, row, lambda: request)
    assert isinstance(asked, Asked)
    verdict: Any = world.gate.decide_now(asked)
    assert list(verdict.asked.message.c2s.accIDList) == [ACC]


@pytest.mark.parametrize("proto_id", [1005, 1006, 1008, 1009, 2209, 3214, 3220, 3309])
def test_what_only_an_admin_may_send_is_refused_to_others(tmp_path: Path, proto_id: int) -> None:
    world = World(tmp_path)
    refused = world.gate.admit(world.caller, proto_id)
    assert isinstance(refused, Refused)
    assert refused.code is Code.SCOPE


@pytest.mark.parametrize("proto_id", [0, 1, 1001, 3005, 2208, 4242])
def test_ids_that_are_no_requests_of_clients_are_unknown(tmp_path: Path, proto_id: int) -> None:
    world = World(tmp_path)
    refused = world.gate.admit(world.caller, proto_id)
    assert isinstance(refused, Refused)
    assert refused.code is Code.UNKNOWN_REQUEST


def test_a_caller_without_a_key_is_told_only_the_code(tmp_path: Path) -> None:
    world = World(tmp_path)
    refused = world.gate.admit(Caller("tcp", None, "127.0.0.1"), catalog.GET_BASIC_QOT)
    assert isinstance(refused, Refused)
    assert refused.text.startswith("[sidecar:key_missing]")
    assert "bot" not in refused.text


def test_a_sidecar_that_stops_takes_no_new_orders_but_cancels(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.gate.closing = True
    verdict = world.place()
    assert isinstance(verdict, Refused)
    assert verdict.code is Code.UPSTREAM_UNAVAILABLE
    assert "stopping" in verdict.text
    cancel = world.cancel()
    assert isinstance(cancel, Asked)
    assert isinstance(world.gate.decide_now(cancel), Forward)
