"""A process that is killed and a disk that is full, both for real."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from real_parts import need

from sidecar.audit.chain import Head
from sidecar.audit.log import AuditLog
from sidecar.audit.record import AuditRecord
from sidecar.audit.verify import verify
from sidecar.errors import ConfigError, RecordError
from sidecar.ledger.ledger import Ledger
from sidecar.ledger.sqlite import SqliteStore
from sidecar.ledger.state_dir import StateDir
from sidecar.recorder import Recorder

TRADER = textwrap.dedent(
    """
    import asyncio, itertools, sys, time
    from decimal import Decimal
    from pathlib import Path
    from sidecar.audit.log import AuditLog
    from sidecar.audit.record import AuditRecord
    from sidecar.intents.model import OrderType, Side, TrdEnv
    from sidecar.ledger.ledger import Ledger
    from sidecar.ledger.reservation import Reservation
    from sidecar.ledger.sqlite import SqliteStore
    from sidecar.ledger.state_dir import StateDir
    from sidecar.recorder import Recorder

    folder, start, many = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    numbers = itertools.count(start)

    def order(ledger):
        number = next(numbers)
        decision_id = f"01J{number:023d}"
        ledger.reserve(Reservation(
            decision_id, "bot", time.time(), "place", 1, TrdEnv.REAL, "HK", "HK.00700", Side.BUY, OrderType.NORMAL,
            Decimal(1), Decimal(1), Decimal(1), "HKD", "#" + decision_id))
        return number, decision_id, AuditRecord(
            at=time.time(), iface="tcp", endpoint="place_order proto_id=2202", key_id="bot", outcome="allow",
            decision_id=decision_id, essential=True)

    async def trade(ledger, recorder):
        while True:
            number, decision_id, record = order(ledger)
            await recorder.commit(record)
            ledger.forwarded(decision_id)
            sys.stdout.write(f"durable {number}\\n")
            sys.stdout.flush()
            if number % 3 == 0:
                ledger.accepted(decision_id, number, "")
                await recorder.flush_ledger()
                sys.stdout.write(f"mapped {number}\\n")
                sys.stdout.flush()

    async def main():
        state = StateDir.acquire(folder)
        store = SqliteStore.open(folder)
        ledger = Ledger(store, lambda now: 0.0)
        recorder = Recorder(ledger, store, AuditLog(folder / "audit.jsonl", min_free=0))
        recorder.start()
        async with asyncio.TaskGroup() as group:
            for _ in range(many):
                group.create_task(trade(ledger, recorder))

    asyncio.run(main())
    """
)


def open_recorder(folder: Path, audit: Path | None = None, min_free: int = 0) -> tuple[Ledger, SqliteStore, Recorder]:
    store = SqliteStore.open(folder)
    ledger = Ledger(store, lambda now: 0.0)
    return (
        ledger,
        store,
        Recorder(ledger, store, AuditLog(audit or folder / "audit.jsonl", min_free=min_free), timeout=10),
    )


@pytest.mark.parametrize("many", [1, 16])
def test_what_was_reported_durable_is_still_counted_after_kill_9(tmp_path: Path, many: int) -> None:
    """Killed in the middle of its commits, several times in a row: nothing that was reported is ever forgotten."""
    durable: set[int] = set()
    mapped: set[int] = set()
    dice = random.Random(many)
    for turn in range(4):
        trader = subprocess.Popen(
            [sys.executable, "-c", TRADER, str(tmp_path), str(turn * 1_000_000 + 1), str(many)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert trader.stdout is not None
        try:
            first = trader.stdout.readline()
            time.sleep(dice.uniform(0.05, 0.4))
        finally:
            os.kill(trader.pid, signal.SIGKILL)
            rest, _ = trader.communicate()
        for line in (first + rest).splitlines(keepends=True):
            if line.endswith("\n") and line.strip():
                word, number = line.split()
                (durable if word == "durable" else mapped).add(int(number))
        assert first

        async def look() -> None:
            with StateDir.acquire(tmp_path):
                ledger, store, recorder = open_recorder(tmp_path)
                recorder.start()
                used = ledger.usage("bot", time.time())
                rows = {int(row.reservation.decision_id[3:]) for row in store.load(1)}
                assert durable <= rows
                assert used.daily_value["HKD"] == len(rows)
                assert used.orders_last_minute == len(rows)
                assert len(rows) <= len(durable) + many * 4, "at most the orders of the last moment may count besides"
                assert all(ledger.orders.owner_of(1, number, "") for number in mapped)
                await recorder.stop()
                head = store_head(tmp_path)
                report = verify([tmp_path / "audit.jsonl"], Head(head[0], head[1]), closed=True)
                assert report.damage == ()

        asyncio.run(look())
    assert len(durable) > 20


def store_head(folder: Path) -> tuple[int, str, bool]:
    store = SqliteStore.open(folder)
    head = store.audit_head()
    store.close()
    assert head is not None
    return head


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own, with room for a whole write-ahead log."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if not hasattr(os, "getuid") or os.getuid() != 0 or shutil.which("mount") is None:
        need("small disk", False)
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(disk)], capture_output=True, check=False
    ).returncode:
        need("small disk", False)
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def fill(disk: Path) -> Path:
    """Take the last byte of room."""
    ballast = disk / "ballast"
    with ballast.open("ab", buffering=0) as file:
        for size in (65_536, 4_096, 512, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue
    return ballast


def order(ledger: Ledger, number: int, remark: str = "") -> AuditRecord:
    from decimal import Decimal

    from sidecar.intents.model import OrderType, Side, TrdEnv
    from sidecar.ledger.reservation import Reservation

    decision_id = f"01J{number:023d}"
    ledger.reserve(
        Reservation(
            decision_id, "bot", time.time(), "place", 1, TrdEnv.REAL, "HK", "HK.00700", Side.BUY, OrderType.NORMAL,
            Decimal(1), Decimal(1), Decimal(1), "HKD", remark or f"#{decision_id}",
        )
    )  # fmt: skip
    return AuditRecord(
        at=time.time(),
        iface="tcp",
        endpoint="place_order",
        key_id="bot",
        outcome="allow",
        decision_id=decision_id,
        essential=True,
    )


@pytest.mark.parametrize("what", ["audit", "ledger"])
async def test_a_full_disk_stops_orders_and_room_brings_them_back(tmp_path: Path, small_disk: Path, what: str) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    state, audit = (folder, small_disk) if what == "audit" else (small_disk, folder)
    ledger, store, recorder = open_recorder(state, audit / "audit.jsonl")
    recorder.start()
    done = 0
    for _ in range(3):
        await recorder.commit(order(ledger, done + 1))
        done += 1
    ballast = fill(small_disk)
    refused = 0
    for number in range(1_000, 1_200):
        # Rows far larger than real ones, because the ledger takes the room for many real ones when it is made.
        record = order(ledger, number, "x" * 200_000 if what == "ledger" else "")
        try:
            await recorder.commit(record)
            ledger.forwarded(str(record.decision_id))
            done += 1
        except RecordError as error:
            assert error.code == f"{what}_unavailable"
            ledger.release(str(record.decision_id))
            refused += 1
        if refused >= 5:
            break
    assert refused == 5
    recorder.note(
        AuditRecord(at=time.time(), iface="tcp", endpoint="modify_order", key_id="bot", outcome="allow", essential=True)
    )
    assert ledger.usage("bot", time.time()).orders_last_minute == done
    assert not (recorder.audit_ok if what == "audit" else recorder.ledger_ok)
    ballast.unlink()
    async with asyncio.timeout(10):
        while not (recorder.audit_ok and recorder.ledger_ok):
            await asyncio.sleep(0.05)
    await recorder.commit(order(ledger, 5_000))
    done += 1
    await recorder.stop()
    head = store_head(state)
    report = verify([audit / "audit.jsonl"], Head(head[0], head[1]), head[2])
    assert report.damage == ()
    text = (audit / "audit.jsonl").read_text()
    assert text.count('"outcome":"allow"') == done + 1
    assert "modify_order" in text
    ledger, store, recorder = open_recorder(state, audit / "audit.jsonl")
    assert ledger.usage("bot", time.time()).orders_last_minute == done
    store.close()


def test_a_full_disk_at_start_is_an_error_in_plain_words(small_disk: Path) -> None:
    fill(small_disk)
    with (
        pytest.raises(ConfigError, match=r"No space left on device|disk is full"),
        StateDir.acquire(small_disk / "state"),
    ):
        SqliteStore.open(small_disk / "state")
