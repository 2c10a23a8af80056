"""Bad days: how a fault is written, which requests it strikes, and what a client sees of it."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sandbox_client import PAPER_HK, STILL, RawClient, security

from sidecar.errors import ConfigError
from sidecar.sandbox import Fault, FaultKind, Sandbox, SandboxSettings
from sidecar.sandbox.faults import FaultPlan

PLACE, MODIFY, SNAPSHOT, GLOBAL_STATE = 2202, 2205, 3203, 1002


def order_request(client: RawClient, serial: int, **more: object) -> object:
    packet, head = {"connID": client.conn_id, "serialNo": serial}, {"trdEnv": 0, "accID": PAPER_HK, "trdMarket": 1}
    fields = {"trdSide": 1, "orderType": 1, "code": "00700", "qty": 100.0, "price": 400.0, "secMarket": 1, **more}
    return client.request(PLACE, packetID=packet, header=head, **fields)


async def listed(sandbox: Sandbox) -> list[str]:
    """Remarks of the orders that OpenD has, asked over a connection of its own."""
    async with RawClient(sandbox.port) as other:
        await other.connect()
        return [order.remark for order in await other.orders()]


# --- how one is written ---


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("drop", Fault(FaultKind.DROP)),
        ("refuse:2202", Fault(FaultKind.REFUSE, 2202)),
        ("delay:3203=0.5", Fault(FaultKind.DELAY, 3203, seconds=0.5)),
        ("delay", Fault(FaultKind.DELAY, seconds=2)),
        ("late:2202", Fault(FaultKind.LATE, 2202, seconds=15)),
        ("disconnect:2202@1", Fault(FaultKind.DISCONNECT, 2202, nth=1)),
        ("twice@%20", Fault(FaultKind.TWICE, percent=20)),
        ("late:2205=13@%2.5", Fault(FaultKind.LATE, 2205, seconds=13, percent=2.5)),
    ],
)
def test_a_fault_is_a_kind_and_perhaps_an_id_seconds_and_which_of_them(text: str, meant: Fault) -> None:
    assert Fault.parse(text) == meant


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("disconect:2202", "did you mean `disconnect`?"),
        ("explode", "there are delay, drop, refuse, twice, late, silent, disconnect"),
        ("drop:9999", "9999 is no request of OpenD"),
        ("drop:2208", "2208 is no request of OpenD"),
        ("drop:1001", "InitConnect cannot be struck"),
        ("drop:2202=3", "drop takes no seconds"),
        ("drop@0", "must be 1 or more"),
        ("drop@1.5", "must be 1 or more"),
        ("drop@%0", "above 0 and at most 100"),
        ("drop@%101", "above 0 and at most 100"),
        ("drop 2202", "write KIND[:PROTO_ID]"),
        ("", "write KIND[:PROTO_ID]"),
    ],
)
def test_what_is_no_fault_is_said_with_what_would_be_one(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Fault.parse(text)
    assert said in str(caught.value)


@given(
    kind=st.sampled_from(FaultKind),
    proto=st.none() | st.sampled_from([2202, 2205, 3203, 1004]),
    seconds=st.integers(0, 600),
    nth=st.none() | st.integers(1, 10**6),
)
def test_a_fault_reads_back_as_it_is_shown(kind: FaultKind, proto: int | None, seconds: int, nth: int | None) -> None:
    holds = kind in (FaultKind.DELAY, FaultKind.LATE)
    fault = Fault(kind, proto, seconds=float(seconds) if holds else 0.0, nth=nth)
    assert Fault.parse(str(fault)) == fault


# --- which requests it strikes ---


def test_a_fault_without_an_id_spares_only_what_keeps_a_connection_alive() -> None:
    plan = FaultPlan([Fault.parse("drop")])
    assert [plan.strike(proto) is not None for proto in (1001, 1004, 1002, 2202, 3203)] == [
        False,
        False,
        True,
        True,
        True,
    ]


def test_only_the_nth_request_of_its_id_is_struck() -> None:
    plan = FaultPlan([Fault.parse("drop:2202@2")])
    assert [plan.strike(proto) is not None for proto in (2202, 3203, 2205, 2202, 2202)] == [False] * 3 + [True, False]
    assert plan.struck == [1]


def test_of_two_faults_due_at_once_the_first_strikes_and_both_have_counted_the_request() -> None:
    plan = FaultPlan([Fault.parse("drop:2202@1"), Fault.parse("refuse:2202@1"), Fault.parse("twice:2202@2")])
    first, second = plan.strike(2202), plan.strike(2202)
    assert (first and first.kind, second and second.kind) == (FaultKind.DROP, FaultKind.TWICE)


def test_a_percentage_is_the_same_again_with_the_same_seed() -> None:
    def run(seed: int) -> list[bool]:
        plan = FaultPlan([Fault.parse("drop@%30")], seed)
        return [plan.strike(2202) is not None for _ in range(1000)]

    assert run(1) == run(1) != run(2)
    assert 240 < sum(run(1)) < 360
    assert all(FaultPlan([Fault.parse("drop@%100")]).strike(2202) for _ in range(50))


# --- what a client sees ---


async def test_a_dropped_request_is_neither_handled_nor_answered(sandbox: Sandbox, client: RawClient) -> None:
    sandbox.set_faults("drop:2202@1")
    client.send(PLACE, order_request(client, 1, remark="lost"))
    answer = await client.reply(PLACE, client.send(PLACE, order_request(client, 2, remark="kept")))
    assert answer.retType == 0
    assert client.arrived.count(PLACE) == 1
    assert await listed(sandbox) == ["kept"]


async def test_a_refused_request_is_not_handled_and_says_so(sandbox: Sandbox, client: RawClient) -> None:
    sandbox.set_faults("refuse:2202")
    answer = await client.order()
    assert (answer.retType, answer.retMsg) == (-1, "The server is busy, please try again later")
    assert await listed(sandbox) == []


async def test_a_request_answered_twice_is_handled_once(sandbox: Sandbox, client: RawClient) -> None:
    sandbox.set_faults("twice:2202")
    serial = client.send(PLACE, order_request(client, 1, remark="one"))
    first, second = await client.reply(PLACE, serial), await client.reply(PLACE, serial)
    assert first == second
    assert await listed(sandbox) == ["one"]


@pytest.mark.parametrize("kind", ["delay", "late"])
async def test_a_held_back_answer_comes_for_a_request_handled_at_once(
    sandbox: Sandbox, client: RawClient, kind: str
) -> None:
    sandbox.set_faults(f"{kind}:2202=0.4")
    begin = asyncio.get_running_loop().time()
    serial = client.send(PLACE, order_request(client, 1, remark="slow"))
    await client.ask(GLOBAL_STATE, userID=0)
    assert await listed(sandbox) == ["slow"]
    assert PLACE not in client.arrived
    assert (await client.reply(PLACE, serial)).retType == 0
    assert asyncio.get_running_loop().time() - begin >= 0.4


async def test_a_silent_request_is_handled_pushed_and_never_answered(sandbox: Sandbox, client: RawClient) -> None:
    await client.ask(2008, accIDList=[PAPER_HK])
    sandbox.set_faults("silent:2202")
    client.send(PLACE, order_request(client, 1, remark="quiet"))
    assert (await client.order_push(5)).remark == "quiet"
    await client.ask(GLOBAL_STATE, userID=0)
    assert PLACE not in client.arrived


async def test_a_disconnect_comes_after_the_request_was_handled_and_others_see_the_order(
    sandbox: Sandbox, client: RawClient
) -> None:
    async with RawClient(sandbox.port) as other:
        await other.connect()
        await other.ask(2008, accIDList=[PAPER_HK])
        sandbox.set_faults("disconnect:2202@1")
        client.send(PLACE, order_request(client, 1, remark="orphan"))
        assert await client.closed()
        assert PLACE not in client.arrived
        assert (await other.order_push(5)).remark == "orphan"
        assert [order.remark for order in await other.orders()] == ["orphan"]
    assert sandbox.faults.struck == [1]


async def test_faults_end_when_none_are_set(sandbox: Sandbox, client: RawClient) -> None:
    sandbox.set_faults("refuse")
    assert (await client.ask(SNAPSHOT, securityList=[security("00700")])).retType == -1
    sandbox.set_faults()
    assert (await client.ask(SNAPSHOT, securityList=[security("00700")])).retType == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("DROP:2202", "kinds are written small: `drop:2202`"),
        ("drop:PlaceOrder", "requests go by their number: place order is 2202"),
        ("delay=3:2202", "write KIND[:PROTO_ID][=SECONDS][@N or @%P], for example `disconnect:2202@1`"),
        ("delay:2202=soon", "for example `delay:2202=3@1`"),
        ("", "for example `disconnect:2202@1`"),
    ],
)
def test_a_fault_in_the_wrong_form_is_told_how_it_is_written(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as wrong:
        Fault.parse(text)
    assert said in str(wrong.value)
    for example in re.findall(r"`([a-z]+:2202\S*)`", said):
        Fault.parse(example)


async def test_whoever_listens_hears_of_every_request_that_is_struck(sandbox: Sandbox, client: RawClient) -> None:
    heard: list[str] = []
    sandbox.tell = heard.append
    sandbox.set_faults("refuse:3203@2")
    for _ in range(3):
        await client.ask(SNAPSHOT, securityList=[security("00700")])
    (text,) = heard
    assert re.fullmatch(r"refuse:3203@2 struck Qot_GetSecuritySnapshot \(serial \d+\)", text)


@pytest.mark.parametrize("settings", [replace(STILL, order_latency=0.0)])
@pytest.mark.parametrize("fault", ["silent:2202@1", "drop:2202@1", "disconnect:2202@1", "refuse:2202@1"])
async def test_the_bot_of_the_page_has_one_order_after_every_bad_day(
    sandbox: Sandbox, fault: str, tmp_path: Path
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "sandbox.md").read_text()
    (bot,) = re.findall(r"```python\n(.+?)```", page, re.DOTALL)
    script = tmp_path / "bot.py"
    script.write_text(bot.replace("11111", str(sandbox.port)))
    sandbox.set_faults(fault)
    environment = {**os.environ, "HOME": str(tmp_path)}  # the SDK writes its log there
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(script), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, env=environment
    )
    output, _ = await asyncio.wait_for(process.communicate(), 100)
    assert b"orders: 1\n" in output and b"bought: None" not in output, output.decode()
    assert len([one for one in sandbox.accounts[PAPER_HK].orders.values() if one.working]) == 1


@pytest.mark.parametrize("settings", [replace(STILL, limits=False, faults=(Fault.parse("twice:2205@1"),))])
async def test_a_cancel_answered_twice_cancels_once(settings: SandboxSettings, client: RawClient) -> None:
    await client.ask(2008, accIDList=[PAPER_HK])
    placed = await client.order()
    await client.order_push(5)
    assert (await client.modify(placed.s2c.orderIDEx, 2)).retType == 0
    await client.order_push(15)
    assert client.arrived.count(MODIFY) == 2
