"""What somebody without a key can cost those who have one."""

from __future__ import annotations

import asyncio
import socket
from itertools import pairwise

from faults_world import CARL, NOBODY, World, global_state, keep_alive

from sidecar.wire import frame


def requests(count: int) -> bytes:
    """The smallest there are, one after the other."""
    return b"".join(frame.build(1002, 1000 + number, b"") for number in range(count))


async def test_a_client_without_a_key_is_answered_in_order_and_slowly_and_costs_the_others_little(world: World) -> None:
    other = await world.client(CARL)
    strangers = [await world.client(NOBODY) for _ in range(8)]
    for stranger in strangers:
        stranger.send_bytes(requests(20_000))
    loop = asyncio.get_running_loop()
    waits = []
    for _ in range(40):
        started = loop.time()
        assert (await other.ask(1002, global_state())).ret_type == 0
        waits.append(loop.time() - started)
        await asyncio.sleep(0.02)
    assert sorted(waits)[20] < 0.1
    await asyncio.sleep(1.5)
    serials: list[int] = []
    try:
        while True:
            serials.append((await strangers[0].receive(0.2)).serial)
    except TimeoutError:
        pass
    assert serials[0] == 1000
    assert all(after == before + 1 for before, after in pairwise(serials))
    assert 20 < len(serials) < 200


async def test_a_slowed_client_is_answered_again_in_the_seconds_that_follow(world: World) -> None:
    stranger = await world.client(NOBODY)
    stranger.send_bytes(requests(50))
    answer = await stranger.answer_to(1002, 1049, timeout=8)
    assert answer.text.startswith("[sidecar:key_unknown]")
    assert (await stranger.ask(1004, keep_alive(), timeout=8)).ret_type == 0


async def test_the_system_is_asked_to_notice_clients_whose_machine_has_vanished(world: World) -> None:
    await world.client(CARL)
    (client,) = world.app.doors.named[0][1].clients
    assert client._transport is not None
    sock = client._transport.get_extra_info("socket")
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
