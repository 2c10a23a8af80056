"""What one connection asks reaches OpenD in the order it was asked, however long each request takes to judge."""

from __future__ import annotations

from live import LiveSandbox, Stage, eventually
from raw_client import GLOBAL_STATE, MODIFY_ORDER, PLACE_ORDER, RawClient, code_of, state_request

TRADER = ("qot:read", "acc:read", "trade:simulate")
STATIC_INFO = 3202
SLOW = 0.8


def test_a_slow_order_then_a_fast_one_then_a_read_arrive_in_that_order(stage: Stage, sandbox: LiveSandbox) -> None:
    key = stage.keys.add("bot", *TRADER, max_order_value=100000)
    sidecar = stage.sidecar(sandbox.port)
    client = RawClient(sidecar.port, key)
    warm = client.ask(PLACE_ORDER, client.order_request(code="00123", price=5, qty=1000))
    assert warm.retType == 0, warm.retMsg
    known = len(sandbox.received(STATIC_INFO))
    sandbox.delays[STATIC_INFO] = SLOW
    before = len(sandbox.everything())

    built = [
        client.frame(PLACE_ORDER, client.order_request(code="00700")),
        client.frame(PLACE_ORDER, client.order_request(code="00123", price=5, qty=2000)),
        client.frame(GLOBAL_STATE, state_request()),
        client.frame(MODIFY_ORDER, client.cancel_request(warm.s2c.orderIDEx)),
    ]
    client.write(b"".join(data for _, data in built))
    serials = [serial for serial, _ in built]
    assert all(client.reply(serial).retType == 0 for serial in serials)

    assert len(sandbox.received(STATIC_INFO)) == known + 1, "only the first needed a fact"
    arrived = [one for one in sandbox.everything()[before:] if one.conn == client.conn_id]
    assert [one.proto_id for one in arrived] == [PLACE_ORDER, PLACE_ORDER, GLOBAL_STATE, MODIFY_ORDER]
    assert [one.c2s["code"] for one in arrived[:2]] == ["00700", "00123"]
    numbers = [one.serial for one in arrived]
    assert numbers == sorted(set(numbers)), "serials rise strictly"
    assert arrived[0].t - sandbox.received(STATIC_INFO)[-1].t >= SLOW * 0.9


def test_a_read_on_another_connection_does_not_wait_for_it(stage: Stage, sandbox: LiveSandbox) -> None:
    key = stage.keys.add("bot", *TRADER, max_order_value=100000)
    sidecar = stage.sidecar(sandbox.port)
    slow, quick = RawClient(sidecar.port, key), RawClient(sidecar.port, key)
    sandbox.delays[STATIC_INFO] = SLOW
    waiting = slow.send(PLACE_ORDER, slow.order_request())
    eventually(lambda: sandbox.received(STATIC_INFO), 3, "the look-up")
    assert quick.ask(GLOBAL_STATE, state_request()).retType == 0
    assert sandbox.orders() == []
    assert slow.reply(waiting).retType == 0


def test_facts_of_orders_in_one_pipeline_are_gathered_side_by_side(stage: Stage, sandbox: LiveSandbox) -> None:
    key = stage.keys.add("bot", *TRADER, max_order_value=100000)
    sidecar = stage.sidecar(sandbox.port)
    client = RawClient(sidecar.port, key)
    sandbox.delays[STATIC_INFO] = SLOW
    codes = ["00700", "00123", "00005", "00939"]
    built = [client.frame(PLACE_ORDER, client.order_request(code=code, price=5, qty=2000)) for code in codes]
    client.write(b"".join(data for _, data in built))
    for serial, _ in built:
        client.reply(serial)
    asked, last = sandbox.received(STATIC_INFO), sandbox.received(PLACE_ORDER)[-1]
    assert [one["code"] for one in sandbox.orders()] == codes
    assert last.t - asked[0].t < 2.5 * SLOW, "four look-ups one after the other would take four times as long"


def test_when_the_first_is_refused_at_last_the_next_still_passes(stage: Stage, sandbox: LiveSandbox) -> None:
    key = stage.keys.add("bot", *TRADER, max_order_value=100000)
    sidecar = stage.sidecar(sandbox.port)
    client = RawClient(sidecar.port, key)
    sandbox.delays[STATIC_INFO] = SLOW
    built = [
        client.frame(PLACE_ORDER, client.order_request(qty=1000)),
        client.frame(GLOBAL_STATE, state_request()),
        client.frame(PLACE_ORDER, client.order_request(qty=200)),
    ]
    client.write(b"".join(data for _, data in built))
    over, read, fine = (client.reply(serial) for serial, _ in built)
    assert code_of(over) == "order_value"
    assert (read.retType, fine.retType) == (0, 0)
    assert [one["qty"] for one in sandbox.orders()] == [200]
