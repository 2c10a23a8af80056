"""Who is let through the upgrade of the WebSocket door, and what the others are told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import aiohttp
import pytest
from live import eventually
from websocket_client import Ended, FrameClient, global_state
from websocket_world import HANDSHAKE, ORIGIN, World

WRONG = "fc_" + "0" * 64


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with World(tmp_path_factory.mktemp("upgrade")) as made:
        yield made


async def asked(
    world: World,
    *,
    method: str = "GET",
    path: str = "/",
    headers: list[tuple[str, str]] | None = None,
    data: bytes | None = None,
) -> tuple[int, str, Mapping[str, str]]:
    """An HTTP request at the WebSocket port: status, text, headers."""
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, f"http://127.0.0.1:{world.port}{path}", headers=headers, data=data) as response,
    ):
        return response.status, await response.text(), response.headers


UPGRADE = [
    ("Upgrade", "websocket"),
    ("Connection", "Upgrade"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA=="),
]


async def said(world: World, data: bytes, timeout: float = 5.0) -> bytes:
    """Raw bytes to the port, and all that comes back until it closes (or falls silent for `timeout`)."""
    reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
    writer.write(data)
    heard = b""
    try:
        async with asyncio.timeout(timeout):
            while part := await reader.read(65536):
                heard += part
    except (TimeoutError, ConnectionError):
        pass
    writer.close()
    return heard


def refusals(world: World, code: str) -> float:
    """How many there were; the audit sums those without a key."""
    return world.car.metric("sidecar_refusals_total", iface="ws", code=code)


async def works(client: FrameClient) -> bool:
    async with client:
        return bool((await client.ask(1002, global_state())).retType == 0)


async def test_a_key_in_a_header_or_in_the_address_is_let_in(world: World) -> None:
    assert await works(world.frames(world.bot))
    assert await works(world.frames(token=world.bot))
    assert await works(world.frames(Authorization=f"bEaReR   {world.bot} "))


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("path", ["/", "/api/accounts?token=" + WRONG, "/../../etc/passwd", "/%ff%00"])
async def test_a_request_without_an_upgrade_is_told_what_this_port_is(world: World, method: str, path: str) -> None:
    status, text, headers = await asked(world, method=method, path=path, data=b"{}" if method == "POST" else None)
    assert status == 426
    assert text.startswith("[sidecar:malformed_request] this port speaks WebSocket")
    assert headers["Upgrade"] == "websocket"
    world.car.wait_audit(iface="ws", endpoint="upgrade", reason="malformed_request")


async def test_an_upgrade_that_is_none_is_told_so(world: World) -> None:
    for broken in ([("Sec-WebSocket-Version", "9")], [("Sec-WebSocket-Key", "short")], [("Upgrade", "h2c")]):
        headers = [*[pair for pair in UPGRADE if pair[0] != broken[0][0]], *broken]
        assert (await asked(world, headers=headers))[0] == 426
    assert (await asked(world, method="POST", headers=UPGRADE))[0] == 426


async def test_a_wrong_key_reads_the_code_and_nothing_else(world: World) -> None:
    for path, shown in ((f"/?token={WRONG}", []), ("/", [("Authorization", f"Bearer {WRONG}")])):
        status, text, headers = await asked(world, path=path, headers=[*UPGRADE, *shown])
        assert status == 401
        assert text.startswith("[sidecar:key_unknown] the key is not known (decision ")
        assert headers["WWW-Authenticate"] == "Bearer"
    world.car.wait_audit(iface="ws", endpoint="upgrade", reason="key_unknown", key_id="<invalid>")
    assert WRONG not in world.car.log_text() + str(world.car.audit())


async def test_an_expired_key_and_a_key_for_another_address_are_refused(world: World) -> None:
    old = world.keys.add("old", "qot:read", expires_at="2020-01-01T00:00:00Z")
    elsewhere = world.keys.add("elsewhere", "qot:read", allowed_ips=["10.0.0.0/8"])
    world.car.wait_keys()
    for key, code in ((old, "key_expired"), (elsewhere, "ip_not_allowed")):
        status, text, _ = await asked(world, headers=[*UPGRADE, ("Authorization", f"Bearer {key}")])
        assert (status, text.partition("]")[0]) == (401, f"[sidecar:{code}")


async def test_two_keys_are_never_chosen_from(world: World) -> None:
    good = ("Authorization", f"Bearer {world.bot}")
    for path, headers in (
        ("/", [*UPGRADE, good, good]),
        ("/", [*UPGRADE, good, ("Authorization", f"Bearer {WRONG}")]),
        (f"/?token={world.bot}", [*UPGRADE, good]),
        (f"/?token={world.bot}&token={world.bot}", UPGRADE),
    ):
        status, text, _ = await asked(world, path=path, headers=headers)
        assert (status, text.partition("]")[0]) == (400, "[sidecar:malformed_request")


async def test_another_scheme_is_no_key_and_does_not_fall_back(world: World) -> None:
    status, text, _ = await asked(world, headers=[*UPGRADE, ("Authorization", "Basic dTpw")])
    assert (status, text.partition("]")[0]) == (401, "[sidecar:key_missing")


async def test_web_pages_connect_only_where_they_are_listed(world: World) -> None:
    assert await works(world.frames(world.bot, Origin=ORIGIN))
    before = refusals(world, "malformed_request")
    for origin in ("https://evil.example", "null", ORIGIN + ".evil.example", f"http://127.0.0.1:{world.port}"):
        headers = [*UPGRADE, ("Origin", origin), ("Authorization", f"Bearer {world.bot}")]
        status, text, _ = await asked(world, headers=headers)
        assert status == 403
        assert f"`{origin}` may not connect" in text
    assert refusals(world, "malformed_request") == before + 4


async def test_compression_is_not_agreed_to_and_a_compressed_frame_ends_the_connection(world: World) -> None:
    head = "\r\n".join(f"{name}: {value}" for name, value in UPGRADE)
    upgrade = (
        f"GET / HTTP/1.1\r\nHost: x\r\n{head}\r\nSec-WebSocket-Extensions: permessage-deflate\r\nAuthorization: Bearer "
    )
    compressed = bytes([0xC2, 0x85, 0, 0, 0, 0]) + b"12345"  # FIN, RSV1, binary; masked with zeros
    before = len(world.opend.asked_by_clients())
    heard = await said(world, upgrade.encode() + world.bot.encode() + b"\r\n\r\n" + compressed)
    assert heard.startswith(b"HTTP/1.1 101 ")
    assert b"Extensions" not in heard
    assert heard[-4:-2] == b"\x88\x02"
    assert int.from_bytes(heard[-2:]) == 1002
    world.car.wait_audit(iface="ws", reason="malformed_request", key_id="bot")
    assert world.nothing_new_upstream(before)


async def test_a_key_where_it_does_not_belong_is_not_in_the_log(world: World) -> None:
    """Browsers cannot send headers; their programs tend to put tokens among the subprotocols."""
    protocol = [*UPGRADE, ("Sec-WebSocket-Protocol", f"bearer, {world.bot}"), ("Authorization", f"Bearer {world.bot}")]
    head = "\r\n".join(f"{name}: {value}" for name, value in protocol)
    heard = await said(world, f"GET / HTTP/1.1\r\nHost: x\r\n{head}\r\n\r\n".encode() + b"\x88\x80\0\0\0\0")
    assert heard.startswith(b"HTTP/1.1 101 ")
    assert world.bot not in world.car.log_text() + str(world.car.audit())


@pytest.mark.parametrize(
    "noise",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc" * 20,
        b"FT\xe9\x03" + bytes(60),
        b"GET / HTTP/9.9\r\n\r\n",
        b"A" * 100_000,
    ],
    ids=["tls", "a raw frame", "an unknown version", "a long line"],
)
async def test_bytes_that_are_no_http_do_no_harm(world: World, noise: bytes) -> None:
    heard = await said(world, noise, HANDSHAKE + 2)
    assert b" 400 " in heard[:13] or not heard
    assert await works(world.frames(world.bot))
    assert "Traceback" not in world.car.log_text()


async def test_who_connects_and_says_nothing_is_let_go(world: World) -> None:
    started = time.monotonic()
    assert await said(world, b"GET / HTTP/1.1\r\nHost: x\r\n", 8) == b""
    assert time.monotonic() - started < HANDSHAKE + 2


async def test_who_shows_no_key_must_log_in_soon(world: World) -> None:
    async with world.js() as stranger:
        started = time.monotonic()
        end = await stranger.ended()
        assert time.monotonic() - started < HANDSHAKE + 2
        assert (end.code, end.reason) == (1008, "no login came within 1 s")


async def test_who_showed_a_key_may_take_their_time(world: World) -> None:
    async with world.frames(world.bot) as client:
        await asyncio.sleep(HANDSHAKE + 1.2)
        assert (await client.ask(1002, global_state())).retType == 0


def test_those_who_have_gone_are_not_counted(world: World) -> None:
    eventually(lambda: world.car.metric("sidecar_client_connections", iface="ws") == 0)


async def test_strangers_give_way_to_clients_with_a_key(tmp_path: Path) -> None:
    with World(tmp_path, max_clients=3, handshake_timeout=30.0) as small:
        silent = [await asyncio.open_connection("127.0.0.1", small.port) for _ in range(80)]
        await asyncio.sleep(0.1)
        assert await works(small.frames(small.bot)), "those who connect and ask nothing give way"
        for _, writer in silent:
            writer.close()
        await asyncio.sleep(0.1)
        eventually(lambda: small.car.metric("sidecar_client_connections", iface="ws") == 0)
        strangers = [small.js() for _ in range(3)]
        for one in strangers:
            await one.__aenter__()
        async with small.frames(small.bot) as client:
            assert (await client.ask(1002, global_state())).retType == 0
            with pytest.raises((Ended, ConnectionError)):
                await strangers[0].read(2)  # the one that was here longest
            async with small.frames(small.bot) as second, small.frames(small.bot) as third:
                for other in (second, third):
                    assert (await other.ask(1002, global_state())).retType == 0
                with pytest.raises(aiohttp.WSServerHandshakeError) as full:
                    async with small.frames(small.bot):
                        pass
                assert full.value.status == 503
                small.car.wait_audit(iface="ws", reason="upstream_full", key_id="bot")
                assert (await client.ask(1002, global_state())).retType == 0
        for one in strangers:
            await one.__aexit__()
