"""The way out through the official SDK: an order is cancelled when nothing else is allowed any more."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from disks import tmpfs
from live import LiveSandbox, LiveSidecar, Stage, eventually
from official_sdk import SdkProcess
from raw_client import PLACE_ORDER, RawClient
from rest_client import RestClient

TRADES = ("qot:read", "acc:read", "trade:simulate")
ORDERS = 6


@contextmanager
def read_only(where: Path) -> Iterator[None]:
    """The file system of `where` takes no write until this ends; what is open for writing already keeps it open."""
    bound = ["mount", "--bind", str(where), str(where)]
    remount = ["mount", "-o", "remount,bind,ro", str(where)]
    for command in (bound, remount):
        subprocess.run(command, check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(where)], check=True, capture_output=True)


def closed_now() -> str:
    """An hours_window in UTC that was open for two hours, ten hours ago."""
    at = datetime.now(UTC) - timedelta(hours=10)
    return f"{at:%H:%M}-{at + timedelta(hours=2):%H:%M}"


@pytest.fixture
def sandbox(stage: Stage) -> LiveSandbox:
    return stage.sandbox(tick_interval=0)


def refusal(bot: SdkProcess) -> str | None:
    return bot.place("HK.00700", 300, 100).code()


def test_cancels_succeed_over_rate_outside_hours_halted_and_with_the_audit_directory_read_only(
    stage: Stage, sandbox: LiveSandbox
) -> None:
    key = stage.keys.add("bot", *TRADES, max_orders_per_minute=ORDERS, max_order_value=100_000)
    ops = stage.keys.add("ops", "admin")
    with tmpfs(stage.folder / "disk", "256m") as disk:
        audit = disk / "audit"
        audit.mkdir()
        sidecar: LiveSidecar = stage.sidecar(sandbox.port, audit={"file": str(audit / "audit.jsonl")})
        sidecar.audit_file = audit / "audit.jsonl"
        bot = stage.sdk(sidecar.port, key)
        bot.open("trade", "trade")
        placed = [bot.place("HK.00700", 300, 100) for _ in range(ORDERS)]
        assert [answer.ret for answer in placed] == [0] * ORDERS, placed
        ids = [answer.data[0]["order_id"] for answer in placed]

        assert refusal(bot) == "rate"
        assert bot.cancel(ids[0]).ret == 0

        stage.keys.change("bot", hours_window=closed_now(), timezone="UTC")
        sidecar.wait_keys()
        assert refusal(bot) == "hours"
        assert bot.cancel(ids[1]).ret == 0

        RestClient(sidecar.doors["rest"], ops).post("/api/admin/halt", {"reason": "fat finger"})
        assert refusal(bot) == "trading_halted"
        assert bot.cancel(ids[2]).ret == 0

        RestClient(sidecar.doors["rest"], ops).post("/api/admin/resume", {"reason": "only the disk now"})
        stage.keys.change("bot", hours_window=None, max_orders_per_minute=None)
        sidecar.wait_keys()
        sidecar.audit_file.rename(audit / "audit-1.jsonl")  # as logrotate does; the next file cannot be begun
        with read_only(audit):
            sidecar.hangup()
            eventually(lambda: refusal(bot) == "audit_unavailable", 10, "an audit that cannot be written")
            assert bot.cancel(ids[3]).ret == 0
            RestClient(sidecar.doors["rest"], ops).post("/api/admin/halt", {"reason": "and halted too"})
            assert bot.cancel(ids[4]).ret == 0
        eventually(lambda: not {each.text_id for each in sandbox.working()} & set(ids[:5]), 10, "the five cancels")
        sidecar.hangup()

        def recorded() -> bool:
            lines = [line for part in sorted(audit.iterdir()) for line in part.read_text().splitlines()]
            told = [json.loads(line) for line in lines]
            ended = [each for each in told if each["endpoint"] == "modify_order proto_id=2205"]
            return {each["order_id_ex"] for each in ended if each["outcome"] == "success"} == set(ids[:5])

        eventually(recorded, 15, "the records of all five cancels")
        sidecar.stop()


def test_a_cancel_under_a_key_whose_day_and_rate_are_used_up_asks_opend_for_no_fact(
    stage: Stage, sandbox: LiveSandbox
) -> None:
    key = stage.keys.add("bot", *TRADES, max_daily_value=30_000, allow_short=False, price_collar_pct=50)
    sidecar = stage.sidecar(sandbox.port)
    client = RawClient(sidecar.port, key)
    order = client.ask(PLACE_ORDER, client.order_request(price=300)).s2c.orderIDEx
    facts = (2102, 3202, 3203, 2201)
    sandbox.set_faults(*(f"silent:{proto_id}" for proto_id in facts))
    before = [len(sandbox.received(proto_id)) for proto_id in facts]
    assert client.ask(2205, client.cancel_request(order)).retType == 0
    assert [len(sandbox.received(proto_id)) for proto_id in facts] == before
