"""Full disks and sudden deaths: what cannot be recorded is not forwarded, cancels go on, and no order is forgotten."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import resource
import time
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from disks import fill, tmpfs
from faults_process import Process, process, told
from faults_world import (
    ALICE,
    BOB,
    CARL,
    KEYS,
    NOBODY,
    Closed,
    RawClient,
    World,
    change,
    global_state,
    init_request,
    running,
    write_keys,
)

from sidecar.ledger.clock import day_starts
from sidecar.ledger.ledger import Ledger
from sidecar.ledger.sqlite import SqliteStore
from sidecar.sandbox import Sandbox, SandboxSettings
from sidecar.settings import Audit, Policy
from sidecar.wire import frame

_CANNOT_RECORD = ("[sidecar:audit_unavailable]", "[sidecar:ledger_unavailable]")
RICH = tuple(
    {**record, "max_daily_value": 10**9, "max_orders_per_minute": 10_000} if record["id"] == "alice" else record
    for record in KEYS
)


async def taken(client: RawClient, **changes: Any) -> Any:
    answer = await client.place(**changes)
    assert answer.ret_type == 0, answer.text
    return answer.response.s2c


async def refused_until_it_passes(client: RawClient, seconds: float) -> None:
    until = time.monotonic() + seconds
    while (answer := await client.place(price=1, timeout=10)).ret_type != 0:
        assert answer.text.startswith(_CANNOT_RECORD), answer.text
        assert time.monotonic() < until, "it did not recover by itself"
        await asyncio.sleep(0.2)


@pytest.mark.parametrize("full", ["audit", "both"])
async def test_with_a_full_disk_orders_stop_cancels_go_on_and_it_recovers_by_itself(tmp_path: Path, full: str) -> None:
    with tmpfs(tmp_path / "disk", "16m") as disk:
        audit = disk / "audit.jsonl" if full != "ledger" else tmp_path / "audit.jsonl"
        state = disk / "state" if full != "audit" else tmp_path / "state"
        write_keys(tmp_path / "keys.json", RICH)
        async with Sandbox(SandboxSettings(port=0, tick_interval=0.0, limits=False)) as opend:
            one = Process(tmp_path, opend.port, audit_log=str(audit), state_dir=str(state))
            config = tmp_path / "sidecar.yaml"
            config.write_text("audit: {min_free: 1 KiB}\n")
            one.flags["config"] = str(config)
            await one.start()
            try:
                client, reader = await one.client(ALICE), await one.client(CARL)
                orders = [await taken(client, price=290 + number) for number in range(3)]
                filler = fill(disk)
                received = len(opend.received.of(2202))
                answers: list[Any] = []
                while len(answers) < 3000 and sum(answer.ret_type != 0 for answer in answers) < 20:
                    serials = [client.send(2202, client.order(price=1)) for _ in range(50)]
                    answers += [await client.answer_to(2202, serial, timeout=20) for serial in serials]
                refused = [answer for answer in answers if answer.ret_type != 0]
                assert refused, "the disk is full and every order passed"
                for answer in refused:
                    assert answer.text.startswith(_CANNOT_RECORD), answer.text
                assert len(opend.received.of(2202)) == received + len(answers) - len(refused)
                for number, each in enumerate(orders):
                    answer = await client.ask(2205, change(client.conn_id, 70_000 + number, order_id=each.orderID))
                    assert answer.ret_type == 0, answer.text
                assert (await reader.ask(1002, global_state())).ret_type == 0
                filler.unlink()
                await refused_until_it_passes(client, 10)
                assert await one.stop() == 0
            finally:
                if one._process is not None and one._process.returncode is None:
                    await one.kill()
            one.assert_calm()
            records = [json.loads(line) for line in audit.read_text().splitlines()]
            cancels = [record for record in records if record["endpoint"] == "modify_order proto_id=2205"]
            assert {record["order_id"] for record in cancels if record["outcome"] == "allow"} == {
                str(each.orderID) for each in orders
            }
            assert len([record for record in cancels if record["outcome"] == "success"]) == 3
            code, said = await told("audit", "verify", str(audit), "--state-dir", str(state))
            assert code == 0, said


async def test_a_state_directory_on_a_full_disk_refuses_to_start_clearly(tmp_path: Path) -> None:
    write_keys(tmp_path / "keys.json", KEYS)
    with tmpfs(tmp_path / "disk", "64k") as disk:
        fill(disk)
        code, said = await told(
            *Process(tmp_path, 9, state_dir=str(disk / "state"), audit_log=str(disk / "audit.jsonl")).arguments()
        )
    assert code == 1, said
    assert "Traceback" not in said
    assert said.startswith("opend-sidecar: ")


async def test_a_limit_on_the_size_of_files_is_met_like_a_full_disk(tmp_path: Path) -> None:
    """Needs no mounting: the kernel refuses to let the files of this one process grow, its log's among them."""
    async with (
        Sandbox(SandboxSettings(port=0, tick_interval=0.0, limits=False)) as opend,
        process(tmp_path, opend.port, RICH) as one,
    ):
        client = await one.client(ALICE)
        mine = await taken(client)
        size = (tmp_path / "audit.jsonl").stat().st_size
        resource.prlimit(one.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
        answer = await client.place(timeout=10)
        assert answer.text.startswith(_CANNOT_RECORD), answer.text
        received = len(opend.received.of(2202))
        assert (await client.place(timeout=10)).ret_type == -1
        assert len(opend.received.of(2202)) == received
        assert (await client.ask(2205, change(client.conn_id, 70_000, order_id=mine.orderID))).ret_type == 0
        assert (await client.ask(1002, global_state())).ret_type == 0
        assert (await client.place(timeout=10)).ret_type == -1
        resource.prlimit(one.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        await refused_until_it_passes(client, 10)
        await asyncio.sleep(0.5)
        assert [
            record
            for record in one.audit()
            if record.get("order_id") == str(mine.orderID) and record["outcome"] == "allow"
        ]
        assert await one.stop() == 0


async def test_an_audit_folder_taken_away_while_running_is_noticed_and_orders_do_not_pass_unrecorded(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    async with running(
        tmp_path, keys=RICH, audit=Audit(file=folder / "audit.jsonl", min_free=1024), calm=False
    ) as world:
        client = await world.client(ALICE)
        mine = await taken(client)
        folder.rename(tmp_path / "elsewhere")
        await asyncio.sleep(1.2)
        answer = await client.place(timeout=10)
        if answer.ret_type == 0:
            assert (folder / "audit.jsonl").exists(), "an order passed and is in no file that the operator knows"
        else:
            assert answer.text.startswith("[sidecar:audit_unavailable]")
        assert (await client.ask(2205, change(client.conn_id, 70_000, order_id=mine.orderID))).ret_type == 0
        if not folder.exists():
            (tmp_path / "elsewhere").rename(folder)
        await refused_until_it_passes(client, 10)


# -- kill -9 -----------------------------------------------------------------------------------------------------------


def counted(state: Path, key: str) -> tuple[int, Decimal]:
    """What the ledger says after a crash, read as the next start would read it: orders of the day, and their value."""
    store = SqliteStore.open(state)
    try:
        policy = Policy()
        ledger = Ledger(store, day_starts(policy.day_rolls_at, policy.day_zone))
        usage = ledger.usage(key, time.time())
        return usage.orders_last_minute, usage.daily_value.get("HKD", Decimal(0))
    finally:
        store.close()


@contextlib.asynccontextmanager
async def stream_of_orders(one: Process) -> AsyncIterator[None]:
    """Orders without end over two connections, until the sidecar dies or the block ends."""

    async def pour() -> None:
        with contextlib.suppress(Closed, ConnectionError, TimeoutError, AssertionError):
            client = await one.client(ALICE)
            number = 0
            while True:
                for _ in range(5):
                    number += 1
                    client.send(2202, client.order(price=1 + number % 5))
                for _ in range(5):
                    await client.receive()

    pouring = [asyncio.ensure_future(pour()) for _ in range(2)]
    try:
        yield
    finally:
        for each in pouring:
            each.cancel()
        await asyncio.gather(*pouring, return_exceptions=True)


async def test_after_a_kill_at_any_moment_the_ledger_counts_every_order_opend_received(tmp_path: Path) -> None:
    rng = random.Random(20)
    async with Sandbox(SandboxSettings(port=0, tick_interval=0.0, limits=False)) as opend:
        write_keys(tmp_path / "keys.json", RICH)
        one = Process(tmp_path, opend.port)
        for round_ in range(5):
            await one.start()
            async with stream_of_orders(one):
                await asyncio.sleep(rng.uniform(0.05, 0.6))
                await one.kill()
            await asyncio.sleep(0.1)
            received = opend.received.of(2202)
            value = sum(
                Decimal(repr(record.c2s["qty"])) * Decimal(repr(record.c2s["price"]))
                for record in received
                if record.c2s
            )
            orders, used = counted(tmp_path / "state", "alice")
            assert used >= value, f"round {round_}: OpenD received {value}, the ledger counts {used}"
            assert orders >= len([record for record in received if time.time() - record.t < 50])
            audited = {record.get("decision_id") for record in one.audit() if record["outcome"] == "allow"}
            tags = {record.c2s["remark"][1:] for record in received if record.c2s}
            assert tags <= audited, "an order reached OpenD that the audit does not know"
            assert len({record.c2s["remark"] for record in received if record.c2s}) == len(received), (
                "an order was sent twice"
            )
        await one.start()
        try:
            client = await one.client(ALICE)
            await taken(client)
        finally:
            assert await one.stop() == 0
        assert opend.received.of(2202)
        code, said = await told(
            "audit", "verify", str(tmp_path / "audit.jsonl"), "--state-dir", str(tmp_path / "state")
        )
        assert code == 0, said
        one.assert_calm()


async def test_orders_of_before_a_crash_are_still_their_keys_own_after_it(tmp_path: Path) -> None:
    async with Sandbox(SandboxSettings(port=0, tick_interval=0.0, limits=False)) as opend:
        async with process(tmp_path, opend.port, RICH) as one:
            client = await one.client(ALICE)
            mine = await taken(client)
            await one.kill()
        async with process(tmp_path, opend.port, RICH) as one:
            bob, alice = await one.client(BOB), await one.client(ALICE)
            stolen = await bob.ask(2205, change(bob.conn_id, 900, order_id=mine.orderID))
            assert stolen.text.startswith("[sidecar:not_own_order]"), stolen.text
            assert (await alice.ask(2205, change(alice.conn_id, 900, order_id=mine.orderID))).ret_type == 0
            assert await one.stop() == 0


# -- floods ------------------------------------------------------------------------------------------------------------


async def test_a_flood_without_a_key_does_not_fill_the_audit(world: World) -> None:
    async def storm() -> None:
        while True:
            with contextlib.suppress(Closed, ConnectionError, TimeoutError):
                async with await world.client() as client:
                    client.send(1001, init_request(NOBODY), serial=1)
                    client.send_bytes(b"".join(frame.build(2202, number, b"") for number in range(2, 400)))
                    client.send_bytes(b"garbage")
                    await client.ended(2)

    before, started = world.audit_file.stat().st_size, time.monotonic()
    storming = [asyncio.ensure_future(storm()) for _ in range(4)]
    await asyncio.sleep(4)
    for each in storming:
        each.cancel()
    await asyncio.gather(*storming, return_exceptions=True)
    await asyncio.sleep(1.5)
    seconds = time.monotonic() - started
    grown = world.audit_file.stat().st_size - before
    assert grown / seconds < 30_000, f"{grown / seconds:.0f} bytes a second"
    assert grown > 0
    await world.assert_serves()


async def test_a_flood_with_a_key_is_refused_and_summed(world: World) -> None:
    client = await world.client(ALICE)
    before, started = world.audit_file.stat().st_size, time.monotonic()
    count = 3000
    client.send_bytes(
        b"".join(
            frame.build(2202, 1000 + n, client.order(qty=100, price=1 + n % 5).SerializeToString())
            for n in range(count)
        )
    )
    answers = [await client.answer_to(2202, 1000 + n, timeout=30) for n in range(count)]
    assert sum("[sidecar:rate]" in answer.text for answer in answers) == count - 20
    assert len(world.orders_received()) == 20
    await asyncio.sleep(1.5)
    seconds = time.monotonic() - started
    assert (world.audit_file.stat().st_size - before) / seconds < 150_000
    summed = [record for record in world.audit() if record.get("reason") == "rate"]
    assert sum(record.get("count", 1) for record in summed) == count - 20
