"""What the metrics of orders say after the gate: each order and cancel once by our word, and what is allowed by its value."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sidecar.asked import Forward, Refused
from sidecar.errors import RecordError
from sidecar.wire import catalog
from sidecar.wire.messages import message_class
from tests.test_gate import ACC, World


class Counted(World):
    def __init__(self, folder: Path, **limits: Any) -> None:
        super().__init__(folder, **limits)
        self.gate.metrics.set_keys(["bot"], "r")

    def orders(self, outcome: str, action: str = "order", env: str = "simulate") -> float | None:
        labels = {"action": action, "env": env, "outcome": outcome, "key_id": "bot"}
        return self.gate.metrics.registry.get_sample_value("sidecar_orders_total", labels)

    def value(self, currency: str = "HKD") -> float | None:
        labels = {"currency": currency, "key_id": "bot"}
        return self.gate.metrics.registry.get_sample_value("sidecar_order_value_total", labels)


async def test_an_allowed_order_is_counted_with_what_it_adds_to_the_day(tmp_path: Path) -> None:
    world = Counted(tmp_path, max_daily_value=100_000)
    assert isinstance(await world.decide(world.place()), Forward)
    assert (world.orders("allowed"), world.orders("refused"), world.value()) == (1, 0, 30_000)


async def test_a_refused_order_is_counted_once_wherever_it_was_refused(tmp_path: Path) -> None:
    world = Counted(tmp_path, max_daily_value=40_000)
    await world.decide(world.place())
    await world.decide(world.place())  # by the rules
    world.commit_error = RecordError("audit_unavailable", "the disk is full")
    await world.decide(world.place(qty=1))  # by the disk, when it was reserved already
    assert (world.orders("allowed"), world.orders("refused"), world.value()) == (1, 2, 30_000)


async def test_what_is_refused_before_opend_is_asked_counts_as_well(tmp_path: Path) -> None:
    world = Counted(tmp_path, allowed_markets=["US"], max_order_value=1_000_000)
    assert isinstance(world.place(), Refused)
    assert (world.orders("allowed"), world.orders("refused")) == (0, 1)


async def test_an_order_of_unknown_value_counts_as_an_order_only(tmp_path: Path) -> None:
    world = Counted(tmp_path)
    await world.decide(world.place())
    assert (world.orders("allowed"), world.value()) == (1, None)


async def test_a_rehearsal_is_no_order(tmp_path: Path) -> None:
    world = Counted(tmp_path, max_order_value=1)
    request: Any = message_class("Trd_PlaceOrder.Request")()
    c2s = request.c2s
    c2s.packetID.connID, c2s.packetID.serialNo = 1, 1
    c2s.header.trdEnv, c2s.header.accID, c2s.header.trdMarket = world.env, ACC, 1
    c2s.trdSide, c2s.orderType, c2s.code, c2s.qty, c2s.price, c2s.secMarket = 1, 1, "00700", 100, 300, 1
    row = catalog.CATALOG[catalog.PLACE_ORDER]
    asked = world.gate.understand(world.caller, row, lambda: request, rehearsal=True)
    assert not isinstance(asked, Refused)
    decision = await world.gate.rehearse(asked)
    assert not isinstance(decision, Refused)
    assert decision.refusal is not None
    assert (world.orders("allowed"), world.orders("refused")) == (0, 0)


@pytest.mark.parametrize("action", ["order", "cancel"])
async def test_orders_and_cancels_are_told_apart(tmp_path: Path, action: str) -> None:
    world = Counted(tmp_path)
    asked = world.place() if action == "order" else world.cancel()
    assert not isinstance(asked, Refused)
    if action == "order":
        await world.decide(asked)
    else:
        assert isinstance(world.gate.decide_now(asked), Forward)
    counted = {each: world.orders("allowed", each) for each in ("order", "cancel")}
    assert counted == {"order": 0, "cancel": 0} | {action: 1}
