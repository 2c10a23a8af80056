"""Certificates that are replaced while everybody trades: nobody notices, and a broken one changes nothing but the alarm."""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator

import pytest
from certificates import Authority, Pair, write_whole
from cryptography import x509
from live import Stage, eventually
from raw_client import code_of, state_request
from tls_world import TlsWorld

GLOBAL_STATE = 1002


class Here(TlsWorld):
    def serial(self, door: str = "rest") -> int:
        """Of the certificate that a new connection is met with."""
        port = self.sidecar.ports[0] if door == "tcp" else self.sidecar.doors[door]
        with self.connect(port) as connection:
            der = connection.getpeercert(binary_form=True)
        assert der is not None
        return x509.load_der_x509_certificate(der).serial_number

    def reloads(self, result: str) -> float:
        return self.sidecar.metric("sidecar_tls_reload_total", result=result)

    def ready(self) -> dict[str, object]:
        return json.loads(self.sidecar.get("/readyz")[1])

    def renew(self) -> None:
        self.authority.issue("server", into=self.server)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Here]:
    with Stage(tmp_path_factory.mktemp("reload")) as stage:
        yield Here(stage)


def test_changed_files_are_noticed_by_every_listener(here: Here) -> None:
    here.renew()
    for door in ("tcp", "websocket", "rest", "grpc", "mcp"):
        eventually(lambda door=door: here.serial(door) == here.server.serial, 6, f"the new certificate at {door}")


def test_under_load_no_connection_fails_and_old_ones_stay(here: Here) -> None:
    """New connections without a pause, all verified, and one that trades through it all."""
    stop = threading.Event()
    failures: list[object] = []
    seen: set[int] = set()
    asked = 0

    def ask() -> None:
        nonlocal asked
        while not stop.is_set():
            try:
                seen.add(here.serial())
                asked += 1
            except OSError as error:
                failures.append(error)

    standing = here.raw(here.key)
    workers = [threading.Thread(target=ask) for _ in range(2)]
    for worker in workers:
        worker.start()
    wanted = set()
    try:
        for _ in range(3):
            here.renew()
            wanted.add(here.server.serial)
            eventually(lambda: here.server.serial in seen, 10, "the new certificate")
            assert standing.ask(2202, standing.order_request(price=300)).retType == 0
    finally:
        stop.set()
        for worker in workers:
            worker.join()
    assert not failures
    assert wanted <= seen
    assert asked > 20
    standing.close()


def test_sighup_reads_them_again_at_once(here: Here) -> None:
    before = here.reloads("ok")
    here.sidecar.hangup()
    eventually(lambda: here.reloads("ok") == before + 5, 5, "five listeners to have read theirs again")


def test_a_broken_certificate_keeps_the_old_one_loudly_until_it_is_repaired(here: Here) -> None:
    serial = here.serial()
    good = here.server.cert.read_bytes()
    failed = here.reloads("failed")
    write_whole(here.server.cert, good[: len(good) // 2])
    try:
        eventually(lambda: here.reloads("failed") > failed, 6, "the reload to fail")
        assert here.serial() == serial
        ready = here.ready()
        assert ready["ready"] is False
        (problem, *_) = ready["problems"]  # type: ignore[misc]
        assert problem["component"] == "certificate"
        assert "a new certificate cannot be used, the one before stays in force" in problem["message"]
        assert f"`{here.server.cert}` holds no certificate in PEM form" in problem["message"]
        assert here.curl("/readyz").json == {"ready": False, "problems": ["certificate"]}
        assert here.curl("/api/key", here.key).status == 200
        assert any(
            line["level"] == "error" and line["event"].startswith("a new certificate cannot be used")
            for line in here.sidecar.log()
        )
    finally:
        write_whole(here.server.cert, good)
    eventually(lambda: here.ready()["ready"], 6, "the repaired certificate")
    assert "Traceback" not in here.sidecar.log_text()


def test_a_key_that_comes_long_after_its_certificate_is_waited_for(here: Here) -> None:
    """Between the two nothing that fits is there; the pair before goes on."""
    fresh = here.authority.issue("fresh")
    old = here.serial()
    write_whole(here.server.cert, fresh.cert.read_bytes())
    time.sleep(2.5)
    assert here.serial() == old
    fresh.key.replace(here.server.key)
    eventually(lambda: here.serial() == fresh.serial, 6, "the pair")
    here.renew()
    eventually(lambda: here.serial() == here.server.serial, 6, "the certificate after it")


def test_a_dangling_link_and_its_return_are_survived(here: Here) -> None:
    away = here.server.cert.with_suffix(".away")
    failed = here.reloads("failed")
    here.server.cert.rename(away)
    eventually(lambda: here.reloads("failed") > failed, 6, "the reload to fail")
    assert here.curl("/health").body == "ok"
    away.rename(here.server.cert)
    eventually(lambda: here.ready()["ready"], 6, "the certificate to be back")


def test_when_it_expires_is_a_metric(here: Here) -> None:
    in_days = (
        here.sidecar.metric("sidecar_tls_certificate_expires_timestamp_seconds", listener="rest") - time.time()
    ) / 86400
    assert 29 < in_days < 31


def test_a_new_client_ca_is_in_force_for_the_next_connection_and_no_session_is_resumed_past_it(stage: Stage) -> None:
    world = Here(stage, client_ca=True)
    bot = world.authority.issue("bot", client=True)
    context = world.context(bot)
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # whose sessions a server keeps, too
    port = world.sidecar.doors["rest"]

    def connect(session: ssl.SSLSession | None = None) -> ssl.SSLSocket:
        plain = socket.create_connection(("127.0.0.1", port), 5)
        return context.wrap_socket(plain, server_hostname="localhost", session=session)

    standing = world.raw(world.key, bot)
    with connect() as first:
        session = first.session
    other = Authority(stage.folder / "other", "another CA")
    write_whole(world.authority.cert.parent / "before.pem", world.authority.cert.read_bytes())
    trusted = Pair(world.authority.cert.parent / "before.pem", bot.key).cert
    context.load_verify_locations(trusted)
    before = world.reloads("ok")
    write_whole(world.authority.cert, other.cert.read_bytes())
    eventually(lambda: world.reloads("ok") >= before + 5, 6, "the new CA")
    with pytest.raises(OSError):
        connect(session)
    assert code_of(standing.ask(GLOBAL_STATE, state_request())) is None, "who is in is in"
    standing.close()
