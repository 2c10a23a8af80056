"""Commits are durable, shared, and honest when the disk is not; what nobody waits for is written soon."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from sidecar.audit import log as log_module
from sidecar.audit.chain import Head
from sidecar.audit.flood import SINGLY
from sidecar.audit.log import AuditLog
from sidecar.audit.record import AuditRecord
from sidecar.audit.verify import verify
from sidecar.errors import RecordError
from sidecar.intents.model import OrderType, Side, TrdEnv
from sidecar.ledger.ledger import Ledger
from sidecar.ledger.reservation import Reservation, Row, State
from sidecar.ledger.sqlite import SqliteStore
from sidecar.policy.usage import OrderOwner
from sidecar.recorder import Recorder

_numbers = itertools.count(1)


@dataclass
class Parts:
    ledger: Ledger
    store: SqliteStore
    log: AuditLog
    recorder: Recorder
    folder: Path

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / "audit.jsonl").read_bytes().splitlines()]

    def order(self, key_id: str = "bot") -> tuple[str, AuditRecord]:
        """Reserve one order; its decision and its record."""
        decision_id = f"01J{next(_numbers):023d}"
        self.ledger.reserve(
            Reservation(
                decision_id=decision_id,
                key_id=key_id,
                at=time.time(),
                kind="place",
                acc_id=1,
                env=TrdEnv.REAL,
                market="HK",
                symbol="HK.00700",
                side=Side.BUY,
                order_type=OrderType.NORMAL,
                qty=Decimal(10),
                price=Decimal(100),
                value=Decimal(1000),
                currency="HKD",
                remark=f"#{decision_id}",
            )
        )
        return decision_id, record(decision_id=decision_id, key_id=key_id, essential=True)

    def used(self) -> int:
        return self.ledger.usage("bot", time.time()).orders_last_minute


def record(**changes: Any) -> AuditRecord:
    fields: dict[str, Any] = {
        "at": time.time(),
        "iface": "tcp",
        "endpoint": "place_order proto_id=2202",
        "key_id": "bot",
        "outcome": "allow",
    }
    return AuditRecord(**{**fields, **changes})


def refusal(**changes: Any) -> AuditRecord:
    return record(**{"outcome": "reject", "reason": "rate", **changes})


def open_parts(folder: Path, **settings: Any) -> Parts:
    store = SqliteStore.open(folder)
    ledger = Ledger(store, lambda now: now // 86_400 * 86_400)
    log = AuditLog(folder / "audit.jsonl", min_free=0)
    return Parts(ledger, store, log, Recorder(ledger, store, log, **settings), folder)


def check(folder: Path) -> tuple[str, ...]:
    store = SqliteStore.open(folder)
    stored = store.audit_head()
    store.close()
    assert stored is not None
    report = verify([folder / "audit.jsonl"], Head(stored[0], stored[1]), stored[2])
    return tuple(each.what for each in report.damage)


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    parts = open_parts(tmp_path, timeout=2.0)
    parts.recorder.start()
    yield parts
    await parts.recorder.stop()
    assert not any(thread.name == "recorder" for thread in threading.enumerate())


async def until(condition: Any, seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


async def test_a_commit_has_ledger_and_audit_on_disk_when_it_returns(parts: Parts) -> None:
    decision_id, made = parts.order()
    await parts.recorder.commit(made)
    found = parts.store.find_decision(decision_id)
    assert found is not None
    assert found.state is State.RESERVED
    assert [line["decision_id"] for line in parts.lines()] == [decision_id]
    assert parts.log.synced.seq == 1


async def test_the_ledger_is_written_before_the_audit(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    commit, append, to_disk = parts.store.commit, parts.log.append, log_module._to_disk
    monkeypatch.setattr(parts.store, "commit", lambda *a, **k: (steps.append("ledger"), commit(*a, **k))[1])
    monkeypatch.setattr(parts.log, "append", lambda *a, **k: (steps.append("audit"), append(*a, **k))[1])
    monkeypatch.setattr(log_module, "_to_disk", lambda fd: (steps.append("sync"), to_disk(fd))[1])
    _, made = parts.order()
    await parts.recorder.commit(made)
    assert steps[:3] == ["ledger", "audit", "sync"]


async def test_many_orders_share_one_commit_and_one_sync(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    commits: list[int] = []
    syncs: list[int] = []
    commit, to_disk = parts.store.commit, log_module._to_disk
    monkeypatch.setattr(
        parts.store, "commit", lambda changes, *a, **k: (commits.append(len(changes)), commit(changes, *a, **k))[1]
    )
    monkeypatch.setattr(log_module, "_to_disk", lambda fd: (syncs.append(1), to_disk(fd))[1])
    await asyncio.gather(*(parts.recorder.commit(parts.order()[1]) for _ in range(200)))
    assert commits[0] == 200
    assert len(syncs) == 1
    assert parts.used() == 200
    assert len(parts.lines()) == 200


async def test_what_comes_while_the_disk_is_busy_shares_the_next_round(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds: list[int] = []
    commit = parts.store.commit

    def slow(changes: Any, *rest: Any, **more: Any) -> None:
        rounds.append(len(changes))
        time.sleep(0.05)
        commit(changes, *rest, **more)

    monkeypatch.setattr(parts.store, "commit", slow)
    waiting = []
    for _ in range(64):
        waiting.append(asyncio.ensure_future(parts.recorder.commit(parts.order()[1])))
        await asyncio.sleep(0)
    await asyncio.gather(*waiting)
    assert sum(rounds) == 64
    assert len(rounds) <= 3


async def test_the_order_map_is_durable_before_the_reply_is_passed_on(parts: Parts) -> None:
    decision_id, made = parts.order()
    await parts.recorder.commit(made)
    parts.ledger.accepted(decision_id, 7, "EX7")
    await parts.recorder.flush_ledger()
    assert parts.store.find_order(1, 7, "")[0].state is State.ACCEPTED
    await parts.recorder.flush_ledger()


async def test_what_is_not_synced_at_once_is_synced_when_all_is_quiet(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    decision_id, made = parts.order()
    await parts.recorder.commit(made)
    await until(lambda: (parts.store.audit_head() or (0,))[0] == 1)
    syncs: list[bool] = []
    commit = parts.store.commit

    def spy(*args: Any, sync: bool = True, **more: Any) -> None:
        commit(*args, sync=sync, **more)
        syncs.append(sync)

    monkeypatch.setattr(parts.store, "commit", spy)
    parts.ledger.accepted(decision_id, 7, "EX7")
    await parts.recorder.flush_ledger()
    assert syncs == [False]
    await until(lambda: syncs == [False, True])


async def test_a_note_is_written_soon_without_anyone_waiting(parts: Parts) -> None:
    parts.recorder.note(refusal(message="no"))
    await until(lambda: (parts.folder / "audit.jsonl").stat().st_size)
    assert parts.lines()[0]["message"] == "no"
    await until(lambda: parts.recorder.records_waiting == 0)


async def test_notes_and_commits_keep_their_order(parts: Parts) -> None:
    parts.recorder.note(refusal(message="first"))
    await parts.recorder.commit(record(message="second"))
    assert [line["message"] for line in parts.lines()] == ["first", "second"]


async def test_changes_nobody_waits_for_are_written_soon(parts: Parts) -> None:
    decision_id, made = parts.order()
    await parts.recorder.commit(made)
    parts.ledger.release(decision_id)
    await until(lambda: parts.store.find_decision(decision_id) is None)


async def test_the_ledger_learns_the_audits_end_when_all_is_quiet(parts: Parts) -> None:
    parts.recorder.note(refusal())
    await until(lambda: (parts.store.audit_head() or (0,))[0] == 1)
    head = parts.store.audit_head()
    assert head == (*parts.log.head, False)


async def test_repeats_are_summed_within_about_a_second(parts: Parts) -> None:
    for _ in range(500):
        parts.recorder.note(refusal())
    await until(lambda: len((parts.folder / "audit.jsonl").read_bytes().splitlines()) == SINGLY + 1)
    assert [line.get("count") for line in parts.lines()] == [None] * SINGLY + [500 - SINGLY]


async def test_stop_writes_what_waits_and_closes_in_order(tmp_path: Path) -> None:
    parts = open_parts(tmp_path)
    parts.recorder.start()
    for _ in range(SINGLY + 4):
        parts.recorder.note(refusal())
    decision_id, made = parts.order()
    waiting = asyncio.ensure_future(parts.recorder.commit(made))
    await asyncio.sleep(0)
    await parts.recorder.stop()
    await waiting
    assert [line.get("count") for line in parts.lines()] == [None] * (SINGLY + 1) + [4]
    assert check(tmp_path) == ()
    store = SqliteStore.open(tmp_path)
    assert store.audit_head() == (*parts.log.head, True)
    assert store.find_decision(decision_id) is not None
    store.close()
    with pytest.raises(RecordError, match="not running"):
        await parts.recorder.commit(made)
    await parts.recorder.stop()


async def test_a_client_that_goes_away_while_waiting_disturbs_nobody(parts: Parts) -> None:
    waiting = [asyncio.ensure_future(parts.recorder.commit(parts.order()[1])) for _ in range(10)]
    await asyncio.sleep(0)
    waiting[3].cancel()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(result) for number, result in enumerate(results) if number != 3] == [type(None)] * 9
    assert isinstance(results[3], asyncio.CancelledError)


# When ledger or audit cannot be written


def break_(parts: Parts, monkeypatch: pytest.MonkeyPatch, what: str) -> Any:
    """Make one of the two fail until the returned function is called."""
    broken = True
    target: Any = parts.store if what == "ledger" else parts.log
    name = "commit" if what == "ledger" else "append"
    real = getattr(target, name)

    def call(*args: Any, **more: Any) -> None:
        if broken:
            raise RecordError(f"{what}_unavailable", "the disk is on fire")
        real(*args, **more)

    monkeypatch.setattr(target, name, call)

    def mend() -> None:
        nonlocal broken
        broken = False

    return mend


@pytest.mark.parametrize("what", ["ledger", "audit"])
async def test_orders_stop_while_it_cannot_be_recorded_and_go_on_by_themselves(
    parts: Parts, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    mend = break_(parts, monkeypatch, what)
    for _ in range(3):
        decision_id, made = parts.order()
        with pytest.raises(RecordError, match="on fire") as caught:
            await parts.recorder.commit(made)
        assert caught.value.code == f"{what}_unavailable"
        parts.ledger.release(decision_id)
    assert (parts.recorder.ledger_ok, parts.recorder.audit_ok) == (what != "ledger", what != "audit")
    assert parts.used() == 0
    mend()
    await until(lambda: parts.recorder.ledger_ok and parts.recorder.audit_ok)
    _, made = parts.order()
    await parts.recorder.commit(made)
    assert parts.used() == 1
    allowed = [line["decision_id"] for line in parts.lines() if line["outcome"] == "allow"]
    assert allowed == [made.decision_id]


async def test_what_changed_meanwhile_is_written_when_the_ledger_is_back(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    decision_id, made = parts.order()
    await parts.recorder.commit(made)
    mend = break_(parts, monkeypatch, "ledger")
    other, record_of_other = parts.order()
    with pytest.raises(RecordError):
        await parts.recorder.commit(record_of_other)
    parts.ledger.release(other)
    parts.ledger.accepted(decision_id, 7, "EX7")
    with pytest.raises(RecordError):
        await parts.recorder.flush_ledger()
    mend()
    await until(lambda: parts.store.find_order(1, 7, ""))
    assert parts.store.find_decision(other) is None


async def test_an_approval_is_recorded_however_little_room_is_left(parts: Parts) -> None:
    parts.log._room = False
    parts.log._looked = time.monotonic() + 60
    await parts.recorder.commit(record(message="approved"))
    assert [line["message"] for line in parts.lines()] == ["approved"]


async def test_a_busy_loop_does_not_keep_the_writer_out(parts: Parts) -> None:
    async def burn() -> None:
        while True:
            until_then = time.perf_counter() + 0.002
            while time.perf_counter() < until_then:
                pass
            await asyncio.sleep(0)

    burning = asyncio.ensure_future(burn())
    try:
        began = time.monotonic()
        for _ in range(10):
            await parts.recorder.commit(parts.order()[1])
        assert time.monotonic() - began < 2
    finally:
        burning.cancel()


async def test_an_order_that_is_in_no_ledger_is_in_no_audit(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    mend = break_(parts, monkeypatch, "ledger")
    _, made = parts.order()
    parts.recorder.note(refusal(message="noted"))
    with pytest.raises(RecordError):
        await parts.recorder.commit(made)
    await until(lambda: parts.recorder.records_waiting == 0)
    assert [line.get("message") for line in parts.lines()] == ["noted"]
    mend()


async def test_cancels_wait_in_memory_until_the_audit_is_back(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    mend = break_(parts, monkeypatch, "audit")
    with capture_logs() as log:
        for number in range(20):
            parts.recorder.note(
                record(endpoint="modify_order proto_id=2205", message=f"cancel {number}", essential=True)
            )
            await asyncio.sleep(0.02)
        await until(lambda: len(log) >= 21)
    assert not parts.recorder.audit_ok
    await until(lambda: parts.recorder.records_waiting == 20)
    told = [json.loads(line["record"])["message"] for line in log if "record" in line]
    assert told == [f"cancel {number}" for number in range(20)], "each is in the operator's log meanwhile"
    mend()
    await until(lambda: parts.recorder.audit_ok and parts.recorder.records_waiting == 0)
    messages = [line["message"] for line in parts.lines()]
    assert [each for each in messages if each.startswith("cancel")] == [f"cancel {number}" for number in range(20)]
    assert [line for line in parts.lines() if line.get("reason") == "audit_restored"]


async def test_memory_is_bounded_and_what_was_lost_is_counted(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidecar.recorder.MOST_WAITING", 10)
    mend = break_(parts, monkeypatch, "audit")
    for number in range(30):
        parts.recorder.note(refusal(reason=f"code{number}"))
    assert parts.recorder.records_waiting == 10
    for _ in range(60):
        parts.recorder.note(record(essential=True))
    assert parts.recorder.records_waiting == 50
    mend()
    await until(lambda: parts.recorder.audit_ok and parts.recorder.records_waiting == 0)
    parts.recorder.note(refusal(reason="later"))
    await until(lambda: parts.lines()[-1].get("reason") == "later")
    lost = [line["count"] for line in parts.lines() if line.get("reason") == "audit_lost"]
    assert sum(lost) == 20 + 20


@pytest.mark.parametrize("what", ["ledger", "audit"])
async def test_a_disk_that_hangs_is_given_up_after_the_timeout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    parts = open_parts(tmp_path, timeout=0.5)
    parts.recorder.start()
    release = threading.Event()
    target: Any = parts.store if what == "ledger" else parts.log
    name = "commit" if what == "ledger" else "append"
    real = getattr(target, name)
    monkeypatch.setattr(target, name, lambda *a, **k: (release.wait(10), real(*a, **k))[1])
    decision_id, made = parts.order()
    began = time.monotonic()
    with pytest.raises(RecordError, match=r"within 0\.5 s") as caught:
        await parts.recorder.commit(made)
    assert 0.45 < time.monotonic() - began < 2
    assert caught.value.code == f"{what}_unavailable"
    parts.ledger.release(decision_id)
    await asyncio.sleep(0.05)
    began = time.monotonic()
    with pytest.raises(RecordError):
        await parts.recorder.commit(parts.order()[1])
    assert time.monotonic() - began < 0.4
    assert (parts.recorder.ledger_ok, parts.recorder.audit_ok) == (what != "ledger", what != "audit")
    assert parts.recorder.seconds_behind > 0.5
    release.set()
    await until(lambda: parts.recorder.ledger_ok and parts.recorder.audit_ok)
    await parts.recorder.commit(parts.order()[1])
    assert parts.store.find_decision(decision_id) is None
    await parts.recorder.stop()
    assert check(tmp_path) == ()


async def test_a_fault_of_the_writer_itself_stops_orders_and_not_the_thread(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = parts.log.append
    monkeypatch.setattr(parts.log, "append", lambda *a, **k: 1 / 0)
    with pytest.raises(RecordError, match="the writer failed"):
        await parts.recorder.commit(parts.order()[1])
    monkeypatch.setattr(parts.log, "append", real)
    await until(lambda: parts.recorder.ledger_ok)
    await parts.recorder.commit(parts.order()[1])


async def test_a_ledger_that_was_deleted_under_us_stops_orders(parts: Parts) -> None:
    await parts.recorder.commit(parts.order()[1])
    (parts.folder / "ledger.db").rename(parts.folder / "gone.db")
    await asyncio.sleep(1.05)
    with pytest.raises(RecordError, match="removed or replaced"):
        await parts.recorder.commit(parts.order()[1])
    (parts.folder / "gone.db").rename(parts.folder / "ledger.db")
    await until(lambda: parts.recorder.ledger_ok)


# After a crash


async def test_a_reservation_without_its_audit_record_was_never_sent(tmp_path: Path) -> None:
    parts = open_parts(tmp_path)
    parts.recorder.start()
    recorded, made = parts.order()
    await parts.recorder.commit(made)
    sent, made = parts.order()
    await parts.recorder.commit(made)
    parts.ledger.forwarded(sent)
    parts.ledger.accepted(sent, 7, "EX7")
    await parts.recorder.stop()
    unrecorded = open_parts(tmp_path)
    never, _ = unrecorded.order()
    unrecorded.store.commit(unrecorded.ledger.take().values())
    unrecorded.store.close()
    parts = open_parts(tmp_path)
    assert parts.used() == 3
    parts.recorder.start()
    assert parts.used() == 2
    assert [each.decision_id for each in parts.ledger.doubts.unsettled(1)] == [recorded]
    assert parts.ledger.orders.owner_of(1, 7, "") == OrderOwner("bot")
    assert parts.store.find_decision(never) is None
    line = parts.lines()[-1]
    assert (line["reason"], line["decision_id"], line["outcome"]) == ("never_forwarded", never, "reject")
    await parts.recorder.stop()
    assert check(tmp_path) == ()


async def test_nothing_is_given_back_when_the_audit_was_tampered_with(tmp_path: Path) -> None:
    parts = open_parts(tmp_path)
    parts.recorder.start()
    for _ in range(3):
        await parts.recorder.commit(parts.order()[1])
    await parts.recorder.stop()
    lines = (tmp_path / "audit.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "audit.jsonl").write_bytes(b"".join(lines[:1]))
    parts = open_parts(tmp_path)
    parts.recorder.start()
    assert parts.used() == 3
    assert parts.lines()[-1]["reason"] == "audit_truncated"
    await parts.recorder.stop()
    assert check(tmp_path) != ()


async def test_an_old_row_is_still_there_after_many_restarts(tmp_path: Path) -> None:
    decision_id = ""
    for _ in range(5):
        parts = open_parts(tmp_path)
        parts.recorder.start()
        made_id, made = parts.order()
        decision_id = decision_id or made_id
        await parts.recorder.commit(made)
        await parts.recorder.stop()
    parts = open_parts(tmp_path)
    found = parts.store.find_decision(decision_id)
    assert isinstance(found, Row)
    assert parts.used() == 5
    parts.store.close()
    assert check(tmp_path) == ()
