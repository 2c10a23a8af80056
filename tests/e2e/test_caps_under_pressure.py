"""Caps hold under concurrency and over a crash: many orders at one moment, then kill -9, then one more."""

from __future__ import annotations

import collections
import threading
from dataclasses import dataclass
from typing import Any

import pytest
from live import LiveSandbox, Stage, eventually
from official_sdk import SdkProcess
from raw_client import PLACE_ORDER, RawClient, code_of

TRADER = ("qot:read", "acc:read", "trade:simulate")
CONNECTIONS, EACH, FITS = 10, 5, 7


@dataclass(frozen=True)
class Cap:
    limits: dict[str, Any]
    code: str
    headroom: str


CAPS = {
    "rate": Cap({"max_orders_per_minute": FITS}, "rate", "max_orders_per_minute"),
    # seven orders of 40000, and not one cent of an eighth
    "daily_value": Cap({"max_daily_value": 40000 * FITS}, "daily_value", "max_daily_value"),
}


def at_once(clients: list[RawClient]) -> list[Any]:
    """Every client's orders in one write each, all clients released at the same moment; all replies."""
    start = threading.Barrier(len(clients))
    replies: list[Any] = []

    def fire(client: RawClient) -> None:
        built = [client.frame(PLACE_ORDER, client.order_request()) for _ in range(EACH)]
        start.wait()
        client.write(b"".join(data for _, data in built))
        replies.extend([client.reply(serial) for serial, _ in built])

    threads = [threading.Thread(target=fire, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(replies) == len(clients) * EACH
    return replies


@pytest.mark.parametrize("cap", CAPS.values(), ids=CAPS)
def test_of_fifty_orders_at_once_exactly_those_that_fit_reach_opend_and_a_crash_forgets_none(
    cap: Cap, stage: Stage, sandbox: LiveSandbox
) -> None:
    key = stage.keys.add("bot", *TRADER, **cap.limits)
    sidecar = stage.sidecar(sandbox.port)
    clients = [RawClient(sidecar.port, key) for _ in range(CONNECTIONS)]

    replies = at_once(clients)

    answers = collections.Counter(code_of(reply) if reply.retType else "accepted" for reply in replies)
    assert answers == {"accepted": FITS, cap.code: CONNECTIONS * EACH - FITS}
    assert len(sandbox.orders()) == FITS
    assert sidecar.metric("sidecar_ledger_headroom", key_id="bot", limit=cap.headroom) == 0

    sidecar.kill()
    sidecar.start()

    assert sidecar.metric("sidecar_ledger_headroom", key_id="bot", limit=cap.headroom) == 0
    client = RawClient(sidecar.port, key)
    assert code_of(client.ask(PLACE_ORDER, client.order_request())) == cap.code
    assert len(sandbox.orders()) == FITS


@pytest.mark.parametrize("cap", CAPS.values(), ids=CAPS)
def test_orders_whose_answer_never_came_before_a_crash_still_count(
    cap: Cap, stage: Stage, sandbox: LiveSandbox
) -> None:
    """Killed between forwarding and OpenD's answers: what became of the orders is unknown, so they are used."""
    sandbox.delays[PLACE_ORDER] = 30
    key = stage.keys.add("bot", *TRADER, **cap.limits)
    sidecar = stage.sidecar(sandbox.port)
    client = RawClient(sidecar.port, key)
    for _ in range(FITS + 3):
        last = client.send(PLACE_ORDER, client.order_request())
    assert code_of(client.reply(last)) == cap.code
    eventually(lambda: len(sandbox.orders()) == FITS, 5, "the orders that fit")

    sidecar.kill()
    sandbox.delays.clear()
    sidecar.start()

    client = RawClient(sidecar.port, key)
    assert code_of(client.ask(PLACE_ORDER, client.order_request())) == cap.code
    assert len(sandbox.orders()) == FITS


@pytest.mark.parametrize("cap", CAPS.values(), ids=CAPS)
def test_sdk_processes_that_share_a_key_share_its_caps(cap: Cap, stage: Stage, sandbox: LiveSandbox) -> None:
    key = stage.keys.add("bot", *TRADER, **cap.limits)
    sidecar = stage.sidecar(sandbox.port)
    bots: list[SdkProcess] = [stage.sdk(sidecar.port, key) for _ in range(2)]
    order = {"price": 400, "qty": 100, "code": "HK.00700", "trd_side": "BUY", "trd_env": "SIMULATE"}
    calls = [
        {"context": f"trade{each % 5}", "method": "place_order", "args": [], "kwargs": order} for each in range(15)
    ]
    for bot in bots:
        for number in range(5):
            bot.open(f"trade{number}", "trade")

    begun = [bot.begin("together", calls=calls) for bot in bots]

    answers = [answer for future in begun for answer in future.result(60).data]
    assert sum(answer[0] == 0 for answer in answers) == FITS
    assert sum(str(answer[1]).startswith(f"[sidecar:{cap.code}]") for answer in answers) == len(answers) - FITS
    assert len(sandbox.orders()) == FITS


def test_what_opend_refuses_gives_its_daily_value_back_but_not_its_attempt(stage: Stage, sandbox: LiveSandbox) -> None:
    key = stage.keys.add("bot", *TRADER, max_daily_value=50000, max_orders_per_minute=2)
    sidecar = stage.sidecar(sandbox.port)
    client = RawClient(sidecar.port, key)
    odd_lot = client.ask(PLACE_ORDER, client.order_request(qty=101))
    assert odd_lot.retType == -1
    assert "lot size" in odd_lot.retMsg
    assert client.ask(PLACE_ORDER, client.order_request()).retType == 0
    assert code_of(client.ask(PLACE_ORDER, client.order_request(price=1))) == "rate"
    assert len(sandbox.orders()) == 2
