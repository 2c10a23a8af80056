"""The owner gets out: `halt --cancel-orders` leaves no working order, under OpenD's frequency limits, whatever else goes on."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from disks import fill, tmpfs
from live import PROJECT, LiveSandbox, LiveSidecar, Stage, eventually
from official_sdk import SdkProcess
from raw_client import MODIFY_ORDER, RawClient
from rest_client import RestClient

REAL = 281756455000000001
PAPER = 1001001
TRADES = ("qot:read", "acc:read", "trade:real", "trade:simulate")


@pytest.fixture
def sandbox(stage: Stage) -> LiveSandbox:
    return stage.sandbox(tick_interval=0, unlocked=True)


def bot(stage: Stage, sidecar: LiveSidecar, key: str) -> SdkProcess:
    made = stage.sdk(sidecar.port, key)
    made.open("trade", "trade")
    return made


def fill_book(sdk: SdkProcess, orders: int, *, acc_id: int = REAL, first: float = 1.0) -> None:
    """So many orders that rest far below the market, sixteen at a time."""
    env = "REAL" if acc_id == REAL else "SIMULATE"
    for start in range(0, orders, 16):
        placed = sdk.together(
            [
                {
                    "context": "trade", "method": "place_order", "args": [],
                    "kwargs": {"price": first + number, "qty": 100, "code": "HK.00700", "trd_side": "BUY", "trd_env": env,
                               "acc_id": acc_id},
                }
                for number in range(start, min(start + 16, orders))
            ]
        )  # fmt: skip
        assert all(answer.ok for answer in placed), placed


class Command:
    """`opend-sidecar halt …` as a process of its own."""

    def __init__(self, sidecar: LiveSidecar, *words: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "sidecar.cli.main", *words, "--config", str(sidecar.config_file)],
            cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def end(self, timeout: float) -> tuple[int, str]:
        out, err = self._process.communicate(timeout=timeout)
        return self._process.returncode, out + err

    def document(self, timeout: float) -> tuple[int, Any]:
        """What a program reads of it, with --json."""
        out, _ = self._process.communicate(timeout=timeout)
        return self._process.returncode, json.loads(out)


@contextmanager
def at_the_same_time(work: Callable[[], None], over: threading.Event) -> Iterator[None]:
    """`work` in a thread of its own, which ends soon after it is `over`."""
    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(20)


@contextmanager
def flood(sidecar: LiveSidecar, key: str, acc_id: int) -> Iterator[list[str]]:
    """A client that changes an order of its own without pause; the texts it is refused with."""
    client, texts, over = RawClient(sidecar.port, key), [], threading.Event()
    placed = client.order_request(price=2, acc_id=acc_id)
    placed.c2s.header.trdEnv = int(acc_id == REAL)
    order = client.ask(2202, placed).s2c.orderIDEx

    def change() -> None:
        while not over.wait(0.005):
            request: Any = client.cancel_request(order, acc_id=acc_id)
            request.c2s.header.trdEnv = int(acc_id == REAL)
            request.c2s.modifyOrderOp, request.c2s.qty, request.c2s.price = 1, 100, 2.2
            texts.append(client.ask(MODIFY_ORDER, request).retMsg)

    with at_the_same_time(change, over):
        yield texts


@contextmanager
def cancels_without_end(sidecar: LiveSidecar, key: str) -> Iterator[list[str]]:
    """A client that cancels orders it made up, two hundred in one breath, again and again; the texts it is answered with."""
    client, texts, over = RawClient(sidecar.port, key), [], threading.Event()

    def made_up(number: int) -> tuple[int, bytes]:
        request: Any = client.cancel_request(f"made-up-{number}", acc_id=REAL)
        request.c2s.header.trdEnv = 1
        return client.frame(MODIFY_ORDER, request)

    def cancel() -> None:
        while not over.is_set():
            frames = [made_up(len(texts) + number) for number in range(200)]
            client.write(b"".join(data for _, data in frames))
            texts.extend(client.reply(serial).retMsg for serial, _ in frames)

    with at_the_same_time(cancel, over):
        yield texts


def past_the_sidecar(sandbox: LiveSandbox) -> None:
    """A paper order that somebody places at OpenD itself."""
    client = RawClient(sandbox.port, "")
    assert client.ask(2202, client.order_request(price=3)).retType == 0
    client.close()


def ends(sidecar: LiveSidecar) -> list[dict[str, Any]]:
    return [line for line in sidecar.audit(endpoint="cancel_orders") if line["outcome"] in ("success", "failure")]


def test_a_real_account_with_a_hundred_orders_of_three_keys_is_empty_within_ten_seconds_while_a_client_floods_changes(
    stage: Stage, sandbox: LiveSandbox
) -> None:
    keys = [stage.keys.add(name, *TRADES) for name in ("one", "two", "three")]
    flooding = stage.keys.add("flood", *TRADES)
    sidecar = stage.sidecar(sandbox.port)
    for number, (key, orders) in enumerate(zip(keys, (34, 33, 33), strict=True)):
        fill_book(bot(stage, sidecar, key), orders, first=1.0 + 40 * number)
    assert len(sandbox.working(REAL)) == 100
    sandbox.limit()
    with flood(sidecar, flooding, REAL) as texts:
        eventually(lambda: len(texts) > 30, 10, "the flood")
        assert sum(not text for text in texts) == 15, "the rest is kept for cancels"
        assert all("[sidecar:upstream_full]" in text for text in texts if text), texts
        started = time.monotonic()
        halted = Command(sidecar, "halt", "--reason", "fat finger", "--cancel-orders")
        eventually(lambda: not sandbox.working(), 10, "an empty account")
        assert time.monotonic() - started < 10
        code, said = halted.end(20)
    assert code == 0, said
    assert "all trading is halted: fat finger" in said
    assert f"│ {REAL} │ REAL │ 101    │ 101       │ 0" in said
    begun, ended = sidecar.audit(endpoint="cancel_orders")
    assert (begun["outcome"], begun["message"]) == ("allow", "all orders, by the command line: cancelling begins")
    assert (ended["outcome"], ended["acc_id"], ended["message"]) == (
        "success", str(REAL), "all orders: 101 of 101 cancelled",
    )  # fmt: skip
    assert sidecar.metric("sidecar_own_cancels_total", why="halt", outcome="cancelled") == 101
    status = json.loads(Command(sidecar, "status", "--json").end(20)[1])
    assert [(run["finished"], run["done"]) for run in status["cancelling"]] == [(True, 101)]
    sidecar.stop()
    sidecar.start()
    client = RawClient(sidecar.port, keys[0])
    assert "trading_halted" in client.ask(2202, client.order_request()).retMsg


def test_a_client_that_cancels_made_up_orders_without_end_holds_up_neither_the_owner_nor_the_cancels_of_others(
    stage: Stage, sandbox: LiveSandbox
) -> None:
    key, flooding = stage.keys.add("bot", *TRADES), stage.keys.add("flood", *TRADES)
    sidecar = stage.sidecar(sandbox.port)
    trader = bot(stage, sidecar, key)
    fill_book(trader, 30)
    sandbox.limit()
    with cancels_without_end(sidecar, flooding) as texts:
        eventually(lambda: len(texts) > 1000, 20, "the flood")
        assert sum("[sidecar:" not in text for text in texts) == 18
        mine = sandbox.working(REAL)[0].text_id
        started = time.monotonic()
        cancelled = trader.call("trade", "modify_order", "CANCEL", mine, 0, 0, trd_env="REAL", acc_id=REAL)
        assert cancelled.ok, cancelled.data
        assert time.monotonic() - started < 3
        started = time.monotonic()
        halted = Command(sidecar, "halt", "--reason", "get me out", "--cancel-orders")
        eventually(lambda: not sandbox.working(), 10, "an empty account")
        assert time.monotonic() - started < 10
        code, said = halted.end(20)
    assert code == 0, said
    assert f"│ {REAL} │ REAL │ 29     │ 29" in said


def test_a_paper_account_and_a_single_key_are_empty_as_soon_as_opend_takes_that_many_cancels_and_their_progress_is_shown(
    stage: Stage, sandbox: LiveSandbox
) -> None:
    one, other, paper = (stage.keys.add(name, *TRADES) for name in ("one", "other", "paper"))
    sidecar = stage.sidecar(sandbox.port)
    fill_book(bot(stage, sidecar, one), 34)
    fill_book(bot(stage, sidecar, other), 3, first=100)
    fill_book(bot(stage, sidecar, paper), 25, acc_id=PAPER)
    sandbox.limit()
    started = time.monotonic()
    commands = [Command(sidecar, "halt", "--key", key, "--reason", "x", "--cancel-orders") for key in ("one", "paper")]
    rest = RestClient(sidecar.doors["rest"], stage.keys.add("ops", "admin"))
    sidecar.wait_keys()

    def told(key: str) -> dict[str, Any]:
        return next(run for run in rest.get("/api/admin/status").s2c["cancelling"] if run["key"] == key)

    eventually(lambda: len(sandbox.working(REAL)) <= 17 and len(sandbox.working(PAPER)) <= 5, 15, "the first twenty")
    eventually(lambda: told("one")["done"] == 20, 5, "it to be told")
    assert told("one")["total"] == 34 and 5 <= told("one")["seconds_left"] <= 32
    assert not told("paper")["finished"]
    eventually(lambda: not sandbox.working(PAPER) and len(sandbox.working(REAL)) == 3, 60, "empty books")
    assert time.monotonic() - started < 60
    for command, orders, account in zip(commands, (34, 25), (f"{REAL} │ REAL    ", f"{PAPER} │ SIMULATE"), strict=True):
        code, said = command.end(20)
        assert code == 0, said
        assert " s left" in said and f"of {orders}" in said
        assert f" {orders} " in said.split(account.split(" │ ")[0])[1].splitlines()[0], said
    assert [len(sandbox.working(account)) for account in (REAL, PAPER)] == [3, 0], "another key's stay"
    assert sidecar.metric("sidecar_trading_state", scope="global") == 0


def test_the_file_halt_cancels_with_no_command_at_all_once_for_each_time_it_appears(
    stage: Stage, sandbox: LiveSandbox
) -> None:
    key = stage.keys.add("bot", *TRADES)
    sidecar = stage.sidecar(sandbox.port)
    fill_book(bot(stage, sidecar, key), 5)
    fill_book(bot(stage, sidecar, key), 5, acc_id=PAPER)
    sandbox.limit()
    file = sidecar.folder / "state" / "HALT"
    file.write_text("gone fishing\ncancel-orders\n")
    eventually(lambda: not sandbox.working(), 10, "empty accounts")
    eventually(lambda: len(ends(sidecar)) == 2, 5, "the records")
    begun = sidecar.audit(endpoint="cancel_orders", outcome="allow")
    assert [line["message"] for line in begun] == ["all orders, by the file HALT: cancelling begins"]
    client = RawClient(sidecar.port, key)
    assert ": gone fishing; only the owner" in client.ask(2202, client.order_request()).retMsg
    sidecar.stop()
    past_the_sidecar(sandbox)
    sidecar.start()
    time.sleep(1.0)
    assert len(sandbox.working()) == 1, "the same file does not do it again"
    assert sidecar.metric("sidecar_trading_state", scope="global") == 2
    file.touch()
    eventually(lambda: not sandbox.working(), 10, "an empty account")


def test_a_real_account_with_stock_connect_orders_is_emptied_by_market_and_those_one_by_one(
    stage: Stage, sandbox: LiveSandbox
) -> None:
    key = stage.keys.add("bot", *TRADES)
    sidecar = stage.sidecar(sandbox.port)
    sdk = bot(stage, sidecar, key)
    fill_book(sdk, 4)
    sdk.open("connect", "trade", filter_trdmarket="HKCC")
    for number in range(2):
        placed = sdk.call(
            "connect", "place_order", price=300.0 + number, qty=100, code="SZ.300750", trd_side="SELL", trd_env="REAL",
            acc_id=REAL,
        )  # fmt: skip
        assert placed.ok, placed.data
    sandbox.limit()
    code, said = Command(sidecar, "halt", "--reason", "x", "--cancel-orders").end(30)
    assert code == 0, said
    assert sandbox.working() == []
    sent = [record.c2s for record in sandbox.received(MODIFY_ORDER)]
    assert [(one.get("forAll", False), one.get("trdMarket", 0)) for one in sent] == [(True, 1)] + [(False, 0)] * 2


def test_what_a_restart_interrupts_goes_on_and_a_resume_ends_it(stage: Stage, sandbox: LiveSandbox) -> None:
    key = stage.keys.add("bot", *TRADES)
    sidecar = stage.sidecar(sandbox.port)
    fill_book(bot(stage, sidecar, key), 12, acc_id=PAPER)
    sandbox.stop()
    told = Command(sidecar, "halt", "--reason", "x", "--cancel-orders")
    eventually(lambda: sidecar.audit(endpoint="cancel_orders"), 10, "its beginning")
    sidecar.kill()
    code, said = told.end(20)
    assert code == 1 and "the next one goes on with it" in said, said
    sidecar.start(ready=False)
    assert len(sandbox.working()) == 12
    sandbox.start()
    eventually(lambda: not sandbox.working(), 10, "an empty account")
    eventually(lambda: [line["message"] for line in ends(sidecar)] == ["all orders: 12 of 12 cancelled"], 5, "its end")
    assert Command(sidecar, "resume", "--reason", "well").end(20)[0] == 0
    fill_book(bot(stage, sidecar, key), 30, acc_id=PAPER)
    sandbox.limit()
    ended = Command(sidecar, "halt", "--reason", "again", "--cancel-orders")
    eventually(lambda: len(sandbox.working()) < 30, 10, "some of them to be gone")
    assert Command(sidecar, "resume", "--reason", "no").end(20)[0] == 0
    code, said = ended.end(20)
    assert code == 1 and "trading was resumed" in said, said
    assert sandbox.working()


def test_with_the_disk_of_audit_and_ledger_full_every_order_is_cancelled_and_recorded_later(
    stage: Stage, sandbox: LiveSandbox
) -> None:
    key = stage.keys.add("bot", *TRADES)
    with tmpfs(stage.folder / "disk", "16m") as disk:
        sidecar = stage.sidecar(
            sandbox.port, audit={"file": str(disk / "audit.jsonl"), "min_free": "1 KiB"}, state_dir=str(disk / "state")
        )
        sidecar.audit_file = disk / "audit.jsonl"
        try:
            fill_book(bot(stage, sidecar, key), 5)
            sandbox.limit()
            filler = fill(disk)
            code, said = Command(sidecar, "halt", "--reason", "fat finger", "--cancel-orders").end(30)
            assert not sandbox.working()
            assert code == 1 and "NOT on disk" in said, said
            assert "│ 5      │ 5         │ 0" in said
            filler.unlink()
            eventually(lambda: ends(sidecar), 10, "its record")
            assert ends(sidecar)[0]["message"] == "all orders: 5 of 5 cancelled"
        finally:
            sidecar.stop()


def test_the_orders_of_a_key_that_is_revoked_already_are_cancelled_by_its_id(
    stage: Stage, sandbox: LiveSandbox
) -> None:
    key, other = stage.keys.add("bot", *TRADES), stage.keys.add("other", *TRADES)
    sidecar = stage.sidecar(sandbox.port)
    fill_book(bot(stage, sidecar, key), 2)
    fill_book(bot(stage, sidecar, other), 1)
    stage.keys.remove("bot")
    sidecar.wait_keys()
    code, said = Command(sidecar, "halt", "--key", "bot", "--reason", "leaked", "--cancel-orders").end(30)
    assert code == 0, said
    assert len(sandbox.working()) == 1
    code, said = Command(sidecar, "halt", "--key", "nobody", "--reason", "x").end(30)
    assert code != 0 and "there is no key `nobody`" in said


def test_over_rest_it_begins_at_once_and_the_status_tells_the_rest(stage: Stage, sandbox: LiveSandbox) -> None:
    key, ops = stage.keys.add("bot", *TRADES), stage.keys.add("ops", "admin")
    sidecar = stage.sidecar(sandbox.port)
    fill_book(bot(stage, sidecar, key), 3)
    rest = RestClient(sidecar.doors["rest"], ops)
    for wrong in ({"reason": "x", "cancel_orders": 1}, {"reason": "x", "cancel_order": True}):
        assert rest.post("/api/admin/halt", wrong).code == "malformed_request"
    assert rest.post("/api/admin/resume", {"reason": "x", "cancel_orders": True}).code == "malformed_request"
    done = rest.post("/api/admin/halt", {"reason": "fat finger", "cancel_orders": True}).s2c
    assert done["state"] == "HALTED" and done["cancelling"]["by"] == "key `ops`"
    run = eventually(
        lambda: next((one for one in rest.get("/api/admin/status").s2c["cancelling"] if one["finished"]), None),
        10,
        "its end",
    )
    assert (run["run"], run["total"], run["done"], run["not_cancelled"]) == (done["cancelling"]["run"], 3, 3, [])
    line = sidecar.wait_audit(endpoint="cancel_orders", outcome="success")
    assert (line["iface"], line["key_id"], line["acc_id"]) == ("rest", "ops", str(REAL))


def test_an_order_that_is_filled_first_is_listed_with_the_reason_and_the_exit_code_says_so(stage: Stage) -> None:
    sandbox = stage.sandbox(tick_interval=0, order_latency=1.0)
    key = stage.keys.add("bot", *TRADES)
    sidecar = stage.sidecar(sandbox.port)
    fill_book(bot(stage, sidecar, key), 1, acc_id=PAPER, first=300)
    (order,) = sandbox.working()
    eventually(lambda: order.status == 5, 5, "the order to rest")
    asked = Command(sidecar, "halt", "--reason", "x", "--cancel-orders", "--json")
    eventually(lambda: order.status == 13, 15, "the cancel on its way to the exchange")
    sandbox.do(sandbox.sandbox.trading.exchange._trade, order, order.left, order.price)
    code, said = asked.document(30)
    (left,) = said["cancelling"]["not_cancelled"]
    assert (left["symbol"], left["reason"]) == ("HK.00700", "filled before it could be cancelled")
    assert code == 1
    status = Command(sidecar, "status").end(20)[1]
    assert "0 of 1 cancelled" in status and "filled before it could be cancelled" in status


def test_where_no_sidecar_runs_the_next_one_cancels_and_the_command_does_not_say_that_it_is_done(
    stage: Stage, sandbox: LiveSandbox
) -> None:
    key = stage.keys.add("bot", *TRADES)
    sidecar = stage.sidecar(sandbox.port)
    fill_book(bot(stage, sidecar, key), 3, acc_id=PAPER)
    sidecar.stop()
    code, said = Command(sidecar, "halt", "--key", "bot", "--reason", "x", "--cancel-orders").end(20)
    assert code == 1 and "NOTHING is cancelled yet" in said
    past_the_sidecar(sandbox)
    sidecar.start()
    eventually(lambda: len(sandbox.working()) == 1, 10, "the key's orders to be gone, and no other")
    eventually(lambda: ends(sidecar), 5, "its record")
    assert ends(sidecar)[0]["message"] == "the orders of key `bot`: 3 of 3 cancelled"
