"""Listeners that ask clients for certificates: who gets in, whose key a certificate is, and what a reload changes."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest
from certificates import Authority, Pair
from grpcio_client import Answer, GrpcioClient, No, global_state
from live import Stage, eventually
from mcp_client import over_http
from raw_client import RawClient, code_of, state_request
from tls_world import TlsWorld
from websocket_client import Ended, FrameClient, JsClient
from websocket_client import global_state as ws_global_state

GLOBAL_STATE = 1002


class Mutual(TlsWorld):
    """`bot` is listed for the key of that name, `guest` for none; the others do not get past the handshake."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage, client_ca=True)
        issue = self.authority.issue
        self.bot = issue("bot", client=True)
        self.guest = issue("guest", client=True)
        self.late = issue("late", client=True, days=-1, since=10)
        self.wrong = Authority(stage.folder / "strange", "another CA").issue("bot", client=True)
        self.list()

    def list(self, *pairs: Pair) -> None:
        self.change(client_certs=[each.fingerprint for each in pairs or (self.bot,)])

    def handshakes(self, iface: str) -> list[str]:
        return [line["message"] for line in self.sidecar.audit(endpoint="tls", iface=iface)]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mutual]:
    with Stage(tmp_path_factory.mktemp("mutual")) as stage:
        yield Mutual(stage)


# -- the handshake -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shown", "reason", "said"),
    [
        (None, "key_missing", "no client certificate was shown; this listener asks for one"),
        ("wrong", "key_unknown", "the client certificate is not accepted: unable to get local issuer certificate"),
        ("late", "key_unknown", "the client certificate is not accepted: certificate has expired"),
        ("server", "key_unknown", "the client certificate is not accepted: unsuitable certificate purpose"),
    ],
)
def test_without_a_good_certificate_no_byte_of_http_is_read(
    world: Mutual, shown: str | None, reason: str, said: str
) -> None:
    def ask() -> None:
        refused = world.curl("/api/key", world.key, None if shown is None else getattr(world, shown))
        assert refused.exit in (35, 52, 56), refused  # curl: the handshake failed, or the connection ended after it
        assert refused.status == 0

    assert world.recorded(ask, endpoint="tls", iface="rest", message=said)["reason"] == reason


@pytest.mark.parametrize("shown", [None, "wrong", "late"])
@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_raw_tcp_asks_for_one_as_well_in_each_version(world: Mutual, shown: str | None, version: str) -> None:
    context = world.context(None if shown is None else getattr(world, shown))
    context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    before = len(world.handshakes("tcp")) + world.sidecar.metric("sidecar_tls_handshakes_failed_total", iface="tcp")
    plain = socket.create_connection(("127.0.0.1", world.sidecar.ports[0]), 5)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        RawClient(0, world.key, opened=context.wrap_socket(plain, server_hostname="localhost"))
    eventually(
        lambda: (
            len(world.handshakes("tcp")) + world.sidecar.metric("sidecar_tls_handshakes_failed_total", iface="tcp")
            > before
        )
    )


@pytest.mark.parametrize("shown", [None, "wrong", "late"])
def test_grpc_asks_for_one_as_well(world: Mutual, shown: str | None) -> None:
    tls = world.grpc(None if shown is None else getattr(world, shown))
    with GrpcioClient(world.sidecar.doors["grpc"], world.key, tls=tls) as bot:
        answer = bot.ask(GLOBAL_STATE, global_state(), timeout=4)
        assert isinstance(answer, No)
        assert answer.status in ("UNAVAILABLE", "DEADLINE_EXCEEDED")


@pytest.mark.parametrize("door", ["websocket", "mcp"])
async def test_the_other_doors_ask_for_one_as_well(world: Mutual, door: str) -> None:
    async with aiohttp.ClientSession() as session:
        for shown in (None, world.wrong):
            with pytest.raises((aiohttp.ClientError, OSError)):
                await session.get(f"https://localhost:{world.sidecar.doors[door]}/", ssl=world.context(shown))


# -- whose key it is ---------------------------------------------------------------------------------------------


def test_a_listed_certificate_needs_no_other_key(world: Mutual) -> None:
    assert world.curl("/api/key", None, world.bot).json["s2c"]["key_id"] == "bot"


def test_the_same_key_may_be_shown_besides(world: Mutual) -> None:
    assert world.curl("/api/key", world.key, world.bot).json["s2c"]["key_id"] == "bot"


def test_another_key_may_not(world: Mutual) -> None:
    refused = world.curl("/api/key", world.other, world.bot)
    assert (refused.status, refused.json["code"]) == (401, "key_unknown")
    unknown = world.curl("/api/key", "fc_" + "0" * 64, world.bot)
    assert unknown.json["ret_msg"].partition(" (decision")[0] == refused.json["ret_msg"].partition(" (decision")[0]


def test_a_header_that_shows_no_key_is_not_passed_over(world: Mutual) -> None:
    for header in ("Authorization: Basic eDp5", "Authorization: Bearer  ;"):
        refused = world.curl("/api/key", None, world.bot, "-H", header)
        assert refused.status == 401, refused


def test_a_certificate_that_no_key_lists_lets_its_client_show_a_key(world: Mutual) -> None:
    assert world.curl("/api/key", world.other, world.guest).json["s2c"]["key_id"] == "other"


def test_alone_it_is_no_key_and_the_audit_has_its_fingerprint(world: Mutual) -> None:
    refused = world.curl("/api/key", None, world.guest)
    assert (refused.status, refused.json["code"]) == (401, "key_unknown")
    said = f"no key lists the client certificate with the SHA-256 {world.guest.fingerprint} in client_certs, and no key was shown"
    assert said in refused.json["ret_msg"]
    assert world.recorded(lambda: world.curl("/api/key", None, world.guest), reason="key_unknown", message=said)


def test_pages_without_a_key_need_none_but_the_handshake(world: Mutual) -> None:
    assert world.curl("/health", None, world.guest).body == "ok"


def test_grpc_knows_a_listed_certificate(world: Mutual) -> None:
    for shown, key, wanted in (
        (world.bot, None, None), (world.bot, world.key, None), (world.bot, world.other, "key_unknown"),
        (world.guest, None, "key_unknown"), (world.guest, world.other, None),
    ):  # fmt: skip
        with GrpcioClient(world.sidecar.doors["grpc"], key, tls=world.grpc(shown)) as bot:
            answer = bot.ask(GLOBAL_STATE, global_state())
            if wanted is None:
                assert isinstance(answer, Answer), answer
            else:
                assert isinstance(answer, No)
                assert answer.code == wanted


async def test_mcp_knows_a_listed_certificate(world: Mutual) -> None:
    async with over_http(world.sidecar.doors["mcp"], None, tls=world.context(world.bot)) as bot:
        assert (await bot.ask("my_limits"))["key_id"] == "bot"


async def test_websocket_frames_know_a_listed_certificate(world: Mutual) -> None:
    port = world.sidecar.doors["websocket"]
    for client_id in ("PyNormal", world.key):
        async with FrameClient(port, tls=world.context(world.bot)) as bot:
            await bot.introduce(client_id)
            assert (await bot.ask(GLOBAL_STATE, ws_global_state())).retType == 0
    async with FrameClient(port, tls=world.context(world.bot)) as bot:
        assert code_of(await bot.introduce(world.other)) == "key_unknown"
    async with FrameClient(port, tls=world.context(world.guest)) as bot:
        assert code_of(await bot.introduce()) == "key_missing"
    with pytest.raises(aiohttp.WSServerHandshakeError, match="401"):
        async with FrameClient(port, tls=world.context(world.bot), key=world.other):
            pass


async def test_the_javascript_login_knows_a_listed_certificate(world: Mutual) -> None:
    port = world.sidecar.doors["websocket"]
    for key in (None, world.key):
        async with JsClient(port, tls=world.context(world.bot)) as bot:
            await bot.login(key)
            assert (await bot.ask(GLOBAL_STATE, ws_global_state())).retType == 0
    async with JsClient(port, tls=world.context(world.bot)) as bot:
        await bot.login(world.other)
        assert next(iter(bot.errors.values()))[0] == 401
    async with JsClient(port, tls=world.context(world.guest)) as bot:
        await bot.login(world.other)
        assert (await bot.ask(GLOBAL_STATE, ws_global_state())).retType == 0


async def test_a_stream_of_pushes_knows_a_listed_certificate(world: Mutual) -> None:
    url = f"wss://localhost:{world.sidecar.doors['rest']}/ws"
    async with aiohttp.ClientSession() as session:
        for shown, token, status in (
            (world.bot, "", 101), (world.bot, f"?token={world.key}", 101), (world.bot, f"?token={world.other}", 401),
            (world.guest, "", 401), (world.bot, "?token=", 401), (world.guest, f"?token={world.other}", 101),
        ):  # fmt: skip
            try:
                async with session.ws_connect(url + token, ssl=world.context(shown)):
                    found = 101
            except aiohttp.WSServerHandshakeError as error:
                found = error.status
            assert found == status, (token, found)


def test_raw_tcp_knows_a_listed_certificate(world: Mutual) -> None:
    for shown, client_id, wanted in (
        (world.bot, "PyNormal", None), (world.bot, world.key, None), (world.bot, world.other, "key_unknown"),
        (world.guest, "PyNormal", "key_unknown"), (world.guest, world.other, None),
    ):  # fmt: skip
        bot = world.raw(client_id, shown)
        assert code_of(bot.ask(GLOBAL_STATE, state_request())) == wanted, client_id[:4]
        bot.close()


# -- a reload ----------------------------------------------------------------------------------------------------


async def test_a_certificate_taken_off_its_key_opens_nothing_more_and_what_it_opened_ends(world: Mutual) -> None:
    bot = world.raw("PyNormal", world.bot)
    context = world.context(world.bot)
    async with FrameClient(world.sidecar.doors["websocket"], tls=context) as socket_:
        await socket_.introduce()
        try:
            world.list(world.guest)
            assert code_of(bot.ask(GLOBAL_STATE, state_request())) == "key_revoked"
            assert isinstance(await socket_.ended(), Ended)
            assert world.curl("/api/key", None, world.bot).status == 401
            assert world.curl("/api/key", None, world.guest).json["s2c"]["key_id"] == "bot"
        finally:
            world.list()
    bot.close()


def test_a_client_in_quarantine_is_let_go_when_its_certificate_is_listed(world: Mutual) -> None:
    guest = world.raw("PyNormal", world.guest)
    assert code_of(guest.ask(GLOBAL_STATE, state_request())) == "key_unknown"
    try:
        world.list(world.bot, world.guest)
        eventually(guest.closed, 3, "the quarantine to end")
        assert code_of(world.raw("PyNormal", world.guest).ask(GLOBAL_STATE, state_request())) is None
    finally:
        world.list()


def test_two_keys_cannot_have_one_certificate_and_the_keys_before_stay_in_force(world: Mutual) -> None:
    keys = world.stage.keys
    keys.change("other", client_certs=[world.bot.fingerprint])
    try:
        eventually(lambda: world.sidecar.metric("sidecar_keys_reload_total", result="failed") >= 1)
        assert world.curl("/api/key", None, world.bot).json["s2c"]["key_id"] == "bot"
    finally:
        keys.change("other", client_certs=None)
        world.sidecar.wait_keys()


# -- listeners bound to a key ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bound(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A listener that gives the key `other` to whoever the CA has signed."""

    class Bound(Mutual):
        def __init__(self, stage: Stage) -> None:
            super().__init__(stage)
            self.sidecar.stop()
            self.sidecar.settings["listeners"]["tcp"].append({"port": 0, "key": "other", "tls": self.tls})
            self.sidecar.start()

    with Stage(tmp_path_factory.mktemp("bound")) as stage:
        yield Bound(stage)


def test_a_listener_with_a_key_takes_a_listed_certificate_before_its_own_key(bound: Mutual) -> None:
    for shown, key_id in ((bound.bot, "bot"), (bound.guest, "other")):
        before = len(bound.sidecar.audit(key_id=key_id))
        client = bound.raw("PyNormal", shown, place=1)
        assert client.ask(2202, client.order_request(price=300)).retType == 0
        eventually(lambda key_id=key_id, before=before: len(bound.sidecar.audit(key_id=key_id)) > before)
        client.close()
