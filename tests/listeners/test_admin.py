"""The operator's port, asked over real HTTP."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator

import aiohttp
import orjson
import pytest
import pytest_asyncio

from sidecar.errors import ConfigError
from sidecar.listeners.admin import AdminListener, Problem
from sidecar.metrics import Metrics


class Sidecar:
    """An admin listener with its surroundings, and a client."""

    def __init__(self) -> None:
        self.metrics = Metrics()
        self.metrics.set_keys(["research"], "rev7")
        self.problems: list[Problem] = []
        self.broken = False
        self.listener = AdminListener(
            metrics=self.metrics,
            readiness=self.readiness,
            revision=lambda: "rev7",
            port=0,
            allowed_hosts=["Sidecar.internal", "metrics.example:9999"],
        )
        self.port = 0

    def readiness(self) -> list[Problem]:
        if self.broken:
            raise RuntimeError("secret detail")
        return self.problems

    async def raw(self, request: str) -> tuple[int, str, bytes]:
        """Status, head and body of a request sent as written."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(request.encode())
        await writer.drain()
        reply = await asyncio.wait_for(reader.read(), 5)
        writer.close()
        head, _, body = reply.partition(b"\r\n\r\n")
        return int(head.split()[1]), head.decode(), body

    async def get(
        self, path: str, *headers: str, host: str = "127.0.0.1", method: str = "GET"
    ) -> tuple[int, str, bytes]:
        lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", "Connection: close", *headers, "", ""]
        return await self.raw("\r\n".join(lines))


@pytest_asyncio.fixture
async def sidecar() -> AsyncIterator[Sidecar]:
    made = Sidecar()
    made.port = await made.listener.start()
    yield made
    await made.listener.stop()


async def test_it_is_alive_as_long_as_the_loop_runs_even_when_not_ready(sidecar: Sidecar) -> None:
    sidecar.problems = [Problem("upstream", "OpenD is away")]
    status, _, body = await sidecar.get("/healthz")
    assert (status, body) == (200, b"ok")


async def test_it_is_ready_when_there_is_no_problem(sidecar: Sidecar) -> None:
    status, _, body = await sidecar.get("/readyz")
    assert (status, orjson.loads(body)) == (200, {"ready": True, "problems": []})


async def test_not_ready_says_what_is_wrong_and_where(sidecar: Sidecar) -> None:
    sidecar.problems = [Problem("upstream", "not connected to OpenD"), Problem("audit", "the disk is full")]
    status, _, body = await sidecar.get("/readyz")
    assert status == 503
    assert orjson.loads(body) == {
        "ready": False,
        "problems": [
            {"component": "upstream", "message": "not connected to OpenD"},
            {"component": "audit", "message": "the disk is full"},
        ],
    }


async def test_the_revision_and_the_pid_tell_a_command_which_instance_has_loaded_what(sidecar: Sidecar) -> None:
    status, _, body = await sidecar.get("/api/revision")
    assert (status, orjson.loads(body)) == (200, {"revision": "rev7", "pid": os.getpid()})


async def test_metrics_are_plain_text_or_openmetrics_as_asked(sidecar: Sidecar) -> None:
    sidecar.metrics.refused("rest", "rate", "research")
    async with aiohttp.ClientSession(f"http://127.0.0.1:{sidecar.port}") as client:
        async with client.get("/metrics") as plain:
            text = await plain.text()
            assert plain.headers["Content-Type"].startswith("text/plain")
        async with client.get("/metrics", headers={"Accept": "application/openmetrics-text;version=1.0.0"}) as modern:
            assert modern.headers["Content-Type"].startswith("application/openmetrics-text")
            assert (await modern.text()).endswith("# EOF\n")
    assert 'futu_auth_limit_rejects_total{iface="rest",key_id="research",reason="rate"} 1.0' in text


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.0.0.1:11180",
        "localhost",
        "LOCALHOST:9",
        "[::1]:80",
        "[::1]",
        "127.8.8.8",
        "[::ffff:127.0.0.1]",
        "sidecar.internal:80",
    ],
)
async def test_requests_addressed_to_this_machine_are_answered(sidecar: Sidecar, host: str) -> None:
    assert (await sidecar.get("/healthz", host=host))[0] == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:11180",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "10.1.2.3",
        "[fe80::1]",
        "evil@127.0.0.1",
        "127.0.0.1:x",
        "",
        "[",
    ],
)
@pytest.mark.parametrize("path", ["/healthz", "/metrics", "/api/revision", "/nothing"])
async def test_a_name_that_only_resolves_to_this_machine_is_refused(sidecar: Sidecar, host: str, path: str) -> None:
    status, _, body = await sidecar.get(path, host=host)
    assert status in (400, 403)
    assert b"rev7" not in body
    assert b"futu_" not in body


async def test_a_request_without_or_with_two_hosts_is_refused(sidecar: Sidecar) -> None:
    assert (await sidecar.raw("GET /metrics HTTP/1.0\r\n\r\n"))[0] in (400, 403)
    two = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\nConnection: close\r\n\r\n"
    assert (await sidecar.raw(two))[0] in (400, 403)


async def test_an_absolute_target_does_not_get_around_the_host(sidecar: Sidecar) -> None:
    request = "GET http://localhost/api/revision HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n"
    assert (await sidecar.raw(request))[0] in (400, 403)


@pytest.mark.parametrize(
    "header",
    [
        "Origin: https://evil.example",
        "Origin: null",
        "Origin: http://localhost:3000",
        "Origin: https://127.0.0.1",
        "Sec-Fetch-Site: cross-site",
        "Sec-Fetch-Site: same-site",
        "Sec-Fetch-Site: ",
    ],
)
async def test_what_a_browser_asks_for_another_site_is_refused(sidecar: Sidecar, header: str) -> None:
    assert (await sidecar.get("/metrics", header))[0] == 403


@pytest.mark.parametrize("header", ["Origin: http://127.0.0.1", "Sec-Fetch-Site: none", "Sec-Fetch-Site: same-origin"])
async def test_the_operators_own_browser_is_answered(sidecar: Sidecar, header: str) -> None:
    assert (await sidecar.get("/metrics", header))[0] == 200


@pytest.mark.parametrize(
    ("method", "path", "expected"), [("GET", "/", 404), ("POST", "/metrics", 405), ("DELETE", "/x", 404)]
)
async def test_what_is_not_there_is_refused_plainly(sidecar: Sidecar, method: str, path: str, expected: int) -> None:
    status, head, body = await sidecar.get(path, method=method)
    assert status == expected
    assert set(orjson.loads(body)) == {"error"}
    assert ("Allow:" in head) == (expected == 405)


async def test_an_error_inside_shows_no_traceback_even_in_debug_mode(sidecar: Sidecar) -> None:
    asyncio.get_running_loop().set_debug(True)
    debugged = Sidecar()
    debugged.broken = True
    debugged.port = await debugged.listener.start()
    try:
        status, _, body = await debugged.get("/readyz")
    finally:
        await debugged.listener.stop()
        asyncio.get_running_loop().set_debug(False)
    assert status == 500
    assert orjson.loads(body) == {"error": "internal error"}


@pytest.mark.parametrize("path", ["/healthz", "/nothing", "/metrics"])
async def test_replies_do_not_name_the_server_and_are_not_kept(sidecar: Sidecar, path: str) -> None:
    _, head, _ = await sidecar.get(path)
    assert "server:" not in head.lower()
    assert "aiohttp" not in head.lower()
    assert "cache-control: no-store" in head.lower()


async def test_bytes_that_are_not_http_get_no_traceback(sidecar: Sidecar) -> None:
    status, _, body = await sidecar.raw("\x00\x01 nonsense\r\n\r\n")
    assert status == 400
    assert b"Traceback" not in body
    assert b"File " not in body


async def test_a_port_in_use_is_said_with_the_port_and_the_option_to_change_it() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        listener = AdminListener(metrics=Metrics(), readiness=list, revision=str, port=port)
        with pytest.raises(ConfigError, match=rf"127\.0\.0\.1:{port} .*in use.*--admin-port"):
            await listener.start()
        await listener.stop()


async def test_after_the_stop_nobody_answers() -> None:
    made = Sidecar()
    made.port = await made.listener.start()
    await made.listener.stop()
    with pytest.raises(OSError):
        await asyncio.open_connection("127.0.0.1", made.port)
    await made.listener.stop()


async def test_on_every_address_it_answers_to_the_address_it_was_reached_at() -> None:
    made = Sidecar()
    listener = AdminListener(metrics=made.metrics, readiness=list, revision=str, bind="0.0.0.0", port=0)
    made.port = await listener.start()
    try:
        assert (await made.get("/healthz", host="127.0.0.1"))[0] == 200
        assert (await made.get("/healthz", host="10.1.2.3"))[0] == 403
    finally:
        await listener.stop()


async def test_an_address_that_cannot_be_bound_is_said_in_words() -> None:
    listener = AdminListener(metrics=Metrics(), readiness=list, revision=str, bind="no.such.host.invalid", port=0)
    with pytest.raises(ConfigError, match=r"cannot listen on no\.such\.host\.invalid:0"):
        await listener.start()
