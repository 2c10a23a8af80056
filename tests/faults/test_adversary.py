"""What somebody with a limited key tries: past the caps, at another key's orders, at accounts that are not his."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from faults_world import (
    ALICE,
    BOB,
    CARL,
    DORA,
    HK_PAPER,
    KEYS,
    REAL,
    US_PAPER,
    RawClient,
    World,
    about_account,
    change,
    global_state,
    init_request,
    keep_alive,
    raw_frame,
    running,
    write_keys,
)

from sidecar.listener_settings import TcpListener
from sidecar.sandbox import SandboxSettings
from sidecar.wire import frame
from sidecar.wire.catalog import CATALOG, Direction, Permission
from sidecar.wire.frame import JSON, MAX_SERIAL
from sidecar.wire.messages import message_class


def key(which: str, **changes: Any) -> dict[str, Any]:
    """A record of KEYS, changed."""
    return {**next(record for record in KEYS if record["id"] == which), **changes}


async def placed(client: RawClient, **changes: Any) -> Any:
    """An order that OpenD took; its s2c."""
    answer = await client.place(**changes)
    assert answer.ret_type == 0, answer.text
    return answer.response.s2c


# -- serials -----------------------------------------------------------------------------------------------------------


async def test_serials_that_repeat_or_fall_reach_opend_rising_and_are_answered_as_sent(world: World) -> None:
    client = await world.client(ALICE)
    for serial in (50, 50, 7, 0, 50):
        assert (await client.ask(1002, global_state(), serial=serial)).ret_type == 0
        assert (await client.ask(2202, client.order(price=9_999), serial=serial)).ret_type == -1
    seen = [record.serial for record in world.sandbox.received.of(1002) if record.client_id == "opend-sidecar"]
    assert seen == sorted(set(seen))


async def test_a_repeated_serial_does_not_place_an_order_twice_or_past_the_rate(world: World, tmp_path: Path) -> None:
    client = await world.client(ALICE)
    data = b"".join(
        frame.build(2202, 77, client.order(qty=100, price=300 + number % 5).SerializeToString()) for number in range(40)
    )
    client.send_bytes(data)
    answers = [await client.answer_to(2202, 77) for _ in range(40)]
    taken = [answer for answer in answers if answer.ret_type == 0]
    assert len(taken) == len(world.orders_received())
    assert len(taken) <= 6  # 200,000 a day at 30,000 each


@pytest.mark.parametrize("serial", [MAX_SERIAL, MAX_SERIAL - 1, MAX_SERIAL - 2])
async def test_serials_at_the_end_of_their_range_end_one_connection_at_most(world: World, serial: int) -> None:
    other = await world.client(CARL)
    client = await world.client(ALICE)
    client.send(2202, client.order(), serial=serial)
    client.send(1002, global_state(), serial=serial)
    client.send(2202, client.order(price=301), serial=3)
    await asyncio.sleep(0.3)
    assert (await other.ask(1002, global_state())).ret_type == 0
    orders = world.orders_received()
    assert all(record.serial < MAX_SERIAL for record in orders)


async def test_a_request_that_uses_up_the_serials_is_answered_and_the_connection_closed(world: World) -> None:
    client = await world.client(ALICE)
    serial = client.send(2202, client.order(), serial=MAX_SERIAL)
    answer = await client.answer_to(2202, serial)
    assert answer.text.startswith("[sidecar:upstream_unavailable]")
    assert "connect again" in answer.text
    assert await client.ended()
    assert not world.orders_received()


async def test_an_init_connect_with_the_last_serial_does_not_end_the_sidecar(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sidecar.upstream.pool.TICK", 0.1)
    monkeypatch.setattr("sidecar.upstream.pool.KEEP_ALIVE_TICKS", 1)
    await asyncio.sleep(2.1)
    client = await world.client(ALICE, serial=MAX_SERIAL)
    answered = client.send(1002, global_state(), serial=5)
    assert answered
    assert await client.ended()
    await asyncio.sleep(0.5)
    await world.assert_serves()


# -- whose order -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("op", [1, 2, 3, 4, 5])
async def test_another_keys_order_can_be_neither_changed_nor_cancelled(world: World, op: int) -> None:
    alice, bob = await world.client(ALICE), await world.client(BOB)
    mine = await placed(alice)
    named: list[dict[str, Any]] = [{"order_id": mine.orderID}, {"order_id_ex": mine.orderIDEx}]
    for number, names in enumerate(named):
        answer = await bob.ask(2205, change(bob.conn_id, 900 + number, op=op, qty=100, price=1, **names))
        assert answer.ret_type == -1
        assert answer.text.startswith("[sidecar:not_own_order]"), answer.text
    assert not world.sandbox.received.of(2205)


@pytest.mark.parametrize(
    "spell",
    [lambda text: text + " ", lambda text: " " + text, lambda text: text + "\u200b", lambda text: text + "\xa0"],
)
async def test_another_spelling_of_an_order_id_is_no_way_to_another_keys_order(world: World, spell: Any) -> None:
    alice, bob = await world.client(ALICE), await world.client(BOB)
    mine = await placed(alice)
    answer = await bob.ask(2205, change(bob.conn_id, 900, order_id_ex=spell(mine.orderIDEx)))
    assert answer.ret_type == -1
    assert answer.text.startswith("[sidecar:"), answer.text
    assert not world.sandbox.received.of(2205)


async def test_another_account_in_the_header_is_no_way_to_another_keys_order(world: World) -> None:
    alice, bob = await world.client(ALICE), await world.client(BOB)
    mine = await placed(alice)
    for number, names in enumerate([{"order_id": mine.orderID}, {"order_id_ex": mine.orderIDEx}]):
        answer = await bob.ask(2205, change(bob.conn_id, 900 + number, acc_id=US_PAPER, market=2, **names))
        assert answer.ret_type == -1
    listed = await alice.ask(2201, about_account(2201))
    (order,) = listed.response.s2c.orderList
    assert order.orderStatus in (1, 2, 5)


async def test_cancelling_everything_takes_a_scope_of_its_own(world: World) -> None:
    alice, bob = await world.client(ALICE), await world.client(BOB)
    await placed(alice)
    answer = await bob.ask(2205, change(bob.conn_id, 901, forAll=True))
    assert answer.text.startswith("[sidecar:not_own_order]")
    assert not world.sandbox.received.of(2205)


async def test_the_list_of_orders_shows_a_trading_key_its_own_only_whatever_it_filters_by(world: World) -> None:
    alice, bob = await world.client(ALICE), await world.client(BOB)
    mine = await placed(alice)
    his = await placed(bob, price=290)
    for which in ("none", "idList", "orderIDExList", "codeList"):
        request = about_account(2201)
        conditions = request.c2s.filterConditions
        if which == "idList":
            conditions.idList.extend([mine.orderID, his.orderID])
        elif which == "orderIDExList":
            conditions.orderIDExList.extend([mine.orderIDEx, his.orderIDEx])
        elif which == "codeList":
            conditions.codeList.append("00700")
        for fmt in (0, JSON):
            answer = await bob.ask(2201, request, fmt=fmt)
            assert answer.ret_type == 0
            assert mine.orderIDEx.encode() not in answer.body
            assert his.orderIDEx.encode() in answer.body


@pytest.mark.parametrize("proto_id", [2101, 2102, 2111, 2211, 2221, 2222, 2223, 2225, 2226])
async def test_a_trading_key_without_acc_read_reads_nothing_of_the_account(world: World, proto_id: int) -> None:
    bob = await world.client(BOB)
    body = about_account(proto_id).SerializePartialToString()
    answer = await bob.ask(proto_id, body)
    if proto_id == 2211:  # its own fills; paper accounts have none
        assert not answer.response.s2c.orderFillList
    else:
        assert answer.text.startswith("[sidecar:scope]"), answer.text
        assert not world.sandbox.received.of(proto_id)


async def test_accounts_outside_the_whitelist_are_neither_listed_nor_read(world: World) -> None:
    dora = await world.client(DORA)
    for user_id in (0, 1, 987654321):
        request: Any = message_class("Trd_GetAccList.Request")()
        request.c2s.userID = user_id
        listed = await dora.ask(2001, request)
        if listed.ret_type == 0:
            assert {account.accID for account in listed.response.s2c.accList} <= {HK_PAPER}
    for proto_id in (2101, 2102, 2201, 2211, 2221, 2222):
        request = about_account(proto_id, acc_id=REAL, env=1)
        if proto_id in (2221, 2222):
            request.c2s.filterConditions.beginTime = "2026-01-01"
        answer = await dora.ask(proto_id, request)
        assert answer.text.startswith("[sidecar:account]"), answer.text


async def test_a_paper_key_is_not_shown_real_accounts(world: World) -> None:
    bob = await world.client(BOB)
    request: Any = message_class("Trd_GetAccList.Request")()
    request.c2s.userID = 0
    listed = await bob.ask(2001, request)
    assert listed.response.s2c.accList
    assert all(account.trdEnv == 0 for account in listed.response.s2c.accList)
    assert str(REAL).encode() not in listed.body


# -- pushes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fmt", [0, JSON])
async def test_subscribing_to_foreign_accounts_brings_none_of_their_pushes(tmp_path: Path, fmt: int) -> None:
    keys = (*KEYS, key("bob", id="realist", hash=key("alice")["hash"], scopes=["trade:real"], allowed_acc_ids=[REAL]))
    keys = tuple(record for record in keys if record["id"] != "alice")
    sandbox = SandboxSettings(tick_interval=0.0, limits=False, unlocked=True)
    async with running(tmp_path, keys=keys, sandbox=sandbox) as world:
        realist = await world.client(ALICE)
        bob = await world.client(BOB, push_fmt=fmt)
        dora = await world.client(DORA, push_fmt=fmt)
        for spy in (bob, dora):
            request: Any = message_class("Trd_SubAccPush.Request")()
            request.c2s.accIDList.extend([REAL, HK_PAPER, 281756455000000002])
            assert (await spy.ask(2008, request)).ret_type == 0
        subscribed = [record.c2s for record in world.sandbox.received.of(2008)][1:]
        assert all(REAL not in (each or {}).get("accIDList", []) for each in subscribed)
        await placed(realist, acc_id=REAL, env=1)
        await asyncio.sleep(0.5)
        for spy in (bob, dora):
            await spy.ask(1004, keep_alive())
            assert not spy.pushes


async def test_pushes_of_another_keys_orders_stay_out_in_both_formats(world: World) -> None:
    alice = await world.client(ALICE)
    spies = [await world.client(BOB), await world.client(BOB, push_fmt=JSON)]
    for each in (alice, *spies):
        request: Any = message_class("Trd_SubAccPush.Request")()
        request.c2s.accIDList.append(HK_PAPER)
        await each.ask(2008, request)
    await placed(alice)
    await placed(alice, remark="momentum")
    await asyncio.sleep(2.5)  # longer than a push whose owner is not known is held
    await alice.ask(1004, keep_alive())
    assert {push.proto_id for push in alice.pushes} == {2208}
    for spy in spies:
        await spy.ask(1004, keep_alive())
        assert not spy.pushes


async def test_pushes_stop_the_moment_a_key_is_revoked(world: World) -> None:
    carl = await world.client(CARL)
    request: Any = message_class("Qot_Sub.Request")()
    security = request.c2s.securityList.add()
    security.market, security.code = 1, "00700"
    request.c2s.subTypeList.append(1)
    request.c2s.isSubOrUnSub = request.c2s.isRegOrUnRegPush = True
    assert (await carl.ask(3001, request)).ret_type == 0
    world.sandbox.set_price("HK.00700", "301")
    await world.until(lambda: True)
    push = await carl.receive()
    assert push.proto_id == 3005
    write_keys(world.keys_file, [record for record in KEYS if record["id"] != "carl"])
    world.app.rereading.reload()
    world.sandbox.set_price("HK.00700", "302")
    world.sandbox.set_price("HK.00700", "303")
    answer = await carl.ask(1002, global_state())
    assert answer.text.startswith("[sidecar:key_revoked]")
    assert not carl.pushes


async def test_subscriptions_of_other_connections_are_not_shown(world: World) -> None:
    carl = await world.client(CARL)
    request: Any = message_class("Qot_GetSubInfo.Request")()
    request.c2s.isReqAllConn = True
    for fmt in (0, JSON):
        assert (await carl.ask(3003, request, fmt=fmt)).ret_type == 0
    asked = [record.c2s or {} for record in world.sandbox.received.of(3003)]
    assert asked
    assert not any(each.get("isReqAllConn") for each in asked)


# -- ids ---------------------------------------------------------------------------------------------------------------


def test_every_request_that_can_name_an_account_is_judged() -> None:
    """Whatever has a TrdHeader or an accID anywhere in it must not pass by its header alone."""

    def names_account(descriptor: Any, depth: int = 0) -> bool:
        if descriptor.name == "TrdHeader":
            return True
        for field in descriptor.fields:
            if field.name.lower() in ("accid", "accidlist", "acc_id"):
                return True
            if field.message_type is not None and depth < 6 and names_account(field.message_type, depth + 1):
                return True
        return False

    unread = []
    for row in CATALOG.values():
        name = row.request if row.direction is Direction.REQUEST else row.response
        if name is not None and names_account(message_class(name).DESCRIPTOR) and not row.judged:
            unread.append(row.name)
    assert not unread


@pytest.mark.parametrize("which", [ALICE, BOB, CARL, DORA])
async def test_what_needs_admin_is_refused_to_every_other_key(world: World, which: str) -> None:
    client = await world.client(which)
    before = len(world.sandbox.received)
    for row in CATALOG.values():
        if row.permission in (Permission.ADMIN, Permission.CONNECTION) and row.direction is Direction.REQUEST:
            client.send_bytes(raw_frame(row.id, 700, b"\x0a\x00"))
            answer = await client.answer_to(row.id, 700)
            assert answer.ret_type == -1
            assert answer.text.startswith(("[sidecar:scope]", "[sidecar:unknown_request]")), (row.name, answer.text)
    assert len(world.sandbox.received) == before


async def test_orders_of_a_key_that_only_reads_never_leave(world: World) -> None:
    for which in (CARL, DORA):
        client = await world.client(which)
        for proto_id in (2202, 2205, 2227, 2209):
            client.send_bytes(raw_frame(proto_id, 700, client.order().SerializeToString()))
            assert (await client.answer_to(proto_id, 700)).text.startswith("[sidecar:scope]")
    assert not world.orders_received()


# -- keys --------------------------------------------------------------------------------------------------------------


async def test_a_key_shown_on_a_listener_bound_to_another_counts_and_a_wrong_one_never_falls_back(
    tmp_path: Path,
) -> None:
    async with running(tmp_path, listeners=(TcpListener(port=0, key="alice"),)) as world:
        silent = await world.client("PyNormal")
        assert (await silent.place()).ret_type == 0
        reader = await world.client(CARL)
        assert (await reader.place()).text.startswith("[sidecar:scope]")
        spelled = (" " + ALICE, ALICE.upper(), "Bearer " + ALICE, "\ufeff" + ALICE)
        for wrong in ("fc_", "fc_alice", ALICE[:-1], ALICE + " ", ALICE.upper().replace("FC_", "fc_"), *spelled):
            stranger = await world.client(wrong)
            assert (await stranger.place()).text.startswith("[sidecar:key_unknown]")
        assert len(world.orders_received()) == 1


@pytest.mark.parametrize(
    "shown", ["", "alice", "FC_" + "a1" * 32, "sha256:" + key("alice")["hash"], key("alice")["hash"], " " + ALICE]
)
async def test_nothing_but_the_secret_itself_is_a_key(world: World, shown: str) -> None:
    client = await world.client(shown)
    answer = await client.place()
    assert answer.text.startswith(("[sidecar:key_missing]", "[sidecar:key_unknown]"))
    assert not world.orders_received()


async def test_the_key_of_a_client_never_reaches_opend_or_a_file(world: World) -> None:
    client = await world.client(ALICE)
    await placed(client)
    await client.ask(1001, init_request(BOB))
    assert {record.client_id for record in world.sandbox.received} == {"opend-sidecar"}
    await asyncio.sleep(0.3)
    written = b"".join(path.read_bytes() for path in world.folder.rglob("*") if path.is_file())
    said = json.dumps([{name: str(value) for name, value in entry.items()} for entry in world.operator_log])
    for secret in (ALICE, BOB):
        assert secret.encode() not in written
        assert secret not in said


async def test_no_order_leaves_after_its_key_is_revoked_even_while_it_is_decided(tmp_path: Path) -> None:
    sandbox = SandboxSettings(tick_interval=0.0, limits=False, delays={3202: 0.5})
    async with running(tmp_path, sandbox=sandbox) as world:
        client = await world.client(ALICE)
        serials = [client.send(2202, client.order(price=290 + number)) for number in range(3)]
        await asyncio.sleep(0.2)
        write_keys(world.keys_file, [record for record in KEYS if record["id"] != "alice"])
        world.app.rereading.reload()
        for serial in serials:
            answer = await client.answer_to(2202, serial)
            assert answer.text.startswith("[sidecar:key_revoked]"), answer.text
        assert not world.orders_received()


async def test_tightened_caps_hold_for_the_order_that_is_being_decided(tmp_path: Path) -> None:
    sandbox = SandboxSettings(tick_interval=0.0, limits=False, delays={3202: 0.5})
    async with running(tmp_path, sandbox=sandbox) as world:
        client = await world.client(ALICE)
        serial = client.send(2202, client.order())
        await asyncio.sleep(0.2)
        others = [record for record in KEYS if record["id"] != "alice"]
        write_keys(world.keys_file, [*others, key("alice", max_order_value=1)])
        world.app.rereading.reload()
        assert (await client.answer_to(2202, serial)).text.startswith("[sidecar:order_value]")
        assert not world.orders_received()


async def test_many_connections_of_one_key_share_one_set_of_caps(world: World) -> None:
    clients = [await world.client(ALICE) for _ in range(8)]
    sent = [
        (client, client.send(2202, client.order(qty=100, price=300 + number)))
        for number, client in enumerate(clients)
        for _ in range(3)
    ]
    answers = [await client.answer_to(2202, serial) for client, serial in sent]
    taken = [answer for answer in answers if answer.ret_type == 0]
    assert len(taken) == len(world.orders_received()) == 6
    assert {answer.text.split("]")[0] for answer in answers if answer.ret_type} == {"[sidecar:daily_value"}


async def test_a_rate_used_up_is_refused_whatever_the_connection(tmp_path: Path) -> None:
    keys = tuple(replace_key(record, "alice", max_orders_per_minute=3) for record in KEYS)
    async with running(tmp_path, keys=keys) as world:
        results = []
        for _ in range(5):
            client = await world.client(ALICE)
            results.append((await client.place(qty=100, price=100)).text)
            await client.close()
        assert len(world.orders_received()) == 3
        assert all(text.startswith("[sidecar:rate]") for text in results[3:])


def replace_key(record: dict[str, Any], which: str, **changes: Any) -> dict[str, Any]:
    return {**record, **changes} if record["id"] == which else record


# -- costs others -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("codes", ["known", "unknown"])
async def test_a_key_that_asks_for_many_securities_does_not_take_the_facts_from_others(
    tmp_path: Path, codes: str
) -> None:
    """The look-ups of decisions share OpenD's limits: a flood of one key must not leave another without prices."""
    keys = (*KEYS, key("alice", id="flooder", hash=key("bob")["hash"], max_orders_per_minute=2, max_order_value=1))
    keys = tuple(record for record in keys if record["id"] != "bob")
    sandbox = SandboxSettings(tick_interval=0.0, limits=True)
    async with running(tmp_path, keys=keys, sandbox=sandbox) as world:
        flooder, alice = await world.client(BOB), await world.client(ALICE)
        known = [each.code for each in world.sandbox.market.listing if each.market == 1]

        async def flood() -> None:
            for number in range(10_000):
                code = f"{60_000 + number:05d}" if codes == "unknown" else known[number % len(known)]
                await flooder.place(code=code, qty=100, price=1, timeout=20)

        flooding = asyncio.ensure_future(flood())
        try:
            await asyncio.sleep(8)
            answer = await alice.place(timeout=10)
            assert answer.ret_type == 0, answer.text
        finally:
            flooding.cancel()


async def test_keep_alives_by_the_ten_thousand_are_answered_and_stall_nobody(world: World) -> None:
    flooder, other = await world.client(CARL), await world.client(CARL)
    body = keep_alive().SerializeToString()
    flooder.send_bytes(b"".join(frame.build(1004, 1000 + number, body) for number in range(10_000)))
    started = asyncio.get_running_loop().time()
    assert (await other.ask(1002, global_state())).ret_type == 0
    assert asyncio.get_running_loop().time() - started < 2
    assert (await flooder.answer_to(1004, 10_999, timeout=20)).ret_type == 0


def test_settings_of_the_sandbox_are_what_these_tests_take_them_for() -> None:
    assert replace(SandboxSettings(), port=0).unlocked is False
