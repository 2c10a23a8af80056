"""Ways around the sidecar, on real sockets of real processes: each one that is open is told, with what closes it."""

from __future__ import annotations

import ipaddress
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sidecar.doctor import around
from sidecar.doctor.around import around_checks, connects_as_nobody
from sidecar.doctor.check import Check, Verdict
from sidecar.doctor.sockets import addresses_of, inodes_of, is_here, named, processes, tcp_sockets
from sidecar.settings import Settings, Upstream

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="other systems do not tell whose a socket is"
)

_PROGRAM = """
import socket, sys, time
held = []
for word in sys.argv[1:]:
    kind, host, port = word.split(",")
    if kind == "listen":
        one = socket.create_server((host, int(port)))
        print(one.getsockname()[1], flush=True)
    else:
        one = socket.create_connection((host, int(port)))
        print(port, flush=True)
    held.append(one)
time.sleep(60)
"""


@contextmanager
def program(*words: str) -> Iterator[tuple[int, list[int]]]:
    """A process that listens (`listen,HOST,PORT`) or is connected (`connect,...`): its pid and the ports."""
    running = subprocess.Popen([sys.executable, "-c", _PROGRAM, *words], stdout=subprocess.PIPE, text=True)
    assert running.stdout is not None
    try:
        yield running.pid, [int(running.stdout.readline()) for _ in words]
    finally:
        running.kill()
        running.wait()
        running.stdout.close()


def looked(
    port: int, sidecar: int | None = None, *, host: str = "127.0.0.1", nobody: bool | None = False
) -> dict[str, list[Check]]:
    found: dict[str, list[Check]] = {}
    settings = Settings(upstream=Upstream(host=host, port=port))
    for check in around_checks(settings, sidecar, as_nobody=lambda host, port: nobody):
        found.setdefault(check.name, []).append(check)
    return found


def verdicts(found: dict[str, list[Check]]) -> dict[str, Verdict]:
    return {name: checks[0].verdict for name, checks in found.items()}


def test_an_opend_that_only_the_sidecar_reaches_is_all_green() -> None:
    with program("listen,127.0.0.1,0") as (_, (port,)), program(f"connect,127.0.0.1,{port}") as (sidecar, _):
        assert verdicts(looked(port, sidecar)) == dict.fromkeys(
            ("opend_bind", "opend_doors", "others_connected", "other_users"), Verdict.GOOD
        )


def test_an_opend_that_the_network_reaches_is_wrong_and_says_where_to_change_it() -> None:
    with program("listen,0.0.0.0,0") as (_, (port,)):
        (check,) = looked(port)["opend_bind"]
        assert check.verdict is Verdict.BAD
        assert f"0.0.0.0:{port}" in check.text and "FutuOpenD.xml" in check.remedy


def test_a_telnet_or_websocket_port_of_opend_is_wrong() -> None:
    with program("listen,127.0.0.1,0", "listen,127.0.0.1,0") as (pid, (port, telnet)):
        (check,) = looked(port)["opend_doors"]
        assert check.verdict is Verdict.BAD
        assert f"127.0.0.1:{telnet}" in check.text and f"process {pid}" in check.text and "telnet_port" in check.remedy


def test_a_bot_that_is_connected_past_the_sidecar_is_named() -> None:
    with (
        program("listen,127.0.0.1,0") as (_, (port,)),
        program(f"connect,127.0.0.1,{port}") as (sidecar, _),
        program(f"connect,127.0.0.1,{port}") as (bot, _),
    ):
        (check,) = looked(port, sidecar)["others_connected"]
        assert check.verdict is Verdict.BAD and f"process {bot} (" in check.text
        assert len(looked(port)["others_connected"]) == 2, "where no sidecar runs both are past it"


def test_doctor_itself_is_nobody_else() -> None:
    with program("listen,127.0.0.1,0") as (_, (port,)), socket.create_connection(("127.0.0.1", port)):
        assert looked(port)["others_connected"][0].verdict is Verdict.GOOD


def test_what_other_users_reach_is_told_and_what_could_not_be_tried_too() -> None:
    with program("listen,127.0.0.1,0") as (_, (port,)):
        assert verdicts(looked(port, nobody=True))["other_users"] is Verdict.DOUBT
        (untried,) = looked(port, nobody=None)["other_users"]
        assert untried.verdict is Verdict.DOUBT and "root" in untried.remedy


def test_whose_sockets_cannot_be_seen_is_a_doubt_and_no_all_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(around, "processes", lambda proc: {})
    monkeypatch.setattr(around, "inodes_of", lambda pid, proc: None)
    with program("listen,127.0.0.1,0") as (_, (port,)):
        found = verdicts(looked(port, 1))
    assert found["opend_doors"] is Verdict.DOUBT and found["others_connected"] is Verdict.DOUBT


def test_a_system_that_tells_nothing_is_a_doubt(tmp_path: Path) -> None:
    assert tcp_sockets(tmp_path) is None
    (check,) = around_checks(Settings(), None, proc=tmp_path)
    assert (check.name, check.verdict) == ("around", Verdict.DOUBT)


def test_an_opend_elsewhere_cannot_be_seen_from_here() -> None:
    (check,) = looked(11111, host="192.0.2.1")["around"]
    assert check.verdict is Verdict.DOUBT and "in clear" in check.text


def test_an_opend_that_does_not_run_or_has_no_name_is_told_elsewhere() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert looked(port) == {}
    assert looked(11111, host="nowhere.invalid") == {}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_root_tries_it_as_nobody() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        assert connects_as_nobody("127.0.0.1", port) is True
    assert connects_as_nobody("127.0.0.1", port) is False
    assert os.geteuid() == 0, "and is root again"


# -- what it is made of -----------------------------------------------------------------------------------------------


def test_sockets_are_read_with_their_addresses_and_processes() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        one = next(each for each in tcp_sockets() or () if each.listening and each.port == port)
        assert (str(one.local), one.uid, str(one)) == ("127.0.0.1", os.geteuid(), f"127.0.0.1:{port}")
        assert processes()[one.inode] == os.getpid()
        assert one.inode in (inodes_of(os.getpid()) or ())


def test_addresses_of_both_kinds_are_read_as_the_kernel_writes_them(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
    rest = "00000000:00000000 00:00000000 00000000  1000        0 4711 1 0000 100 0 0 10 0"
    (tmp_path / "net/tcp").write_text(
        f"{head}   0: 0100007F:2B67 00000000:0000 0A {rest}\n   1: 0100007F:2B67 0100007F:9C40 06 {rest}\nbroken\n"
    )
    (tmp_path / "net/tcp6").write_text(
        f"{head}   0: 00000000000000000000000000000000:2B67 00000000000000000000000000000000:0000 0A {rest}\n"
        f"   1: 0000000000000000FFFF00000100007F:9C40 0000000000000000FFFF00000100007F:2B67 01 {rest}\n"
    )
    found = tcp_sockets(tmp_path)
    assert found is not None
    assert [(str(one), one.listening, one.uid, one.inode) for one in found] == [
        ("127.0.0.1:11111", True, 1000, 4711), ("[::]:11111", True, 1000, 4711), ("127.0.0.1:40000", False, 1000, 4711)
    ]  # fmt: skip
    assert (str(found[2].remote), found[2].remote_port) == ("127.0.0.1", 11111)


def test_a_process_is_named_without_its_secrets(tmp_path: Path) -> None:
    folder = tmp_path / "7"
    folder.mkdir()
    (folder / "cmdline").write_bytes(b"/opt/FutuOpenD\0-login_pwd=hunter2\0-login_account=1\0")
    assert named(7, tmp_path) == "process 7 (FutuOpenD)"
    assert named(8, tmp_path) == "process 8"


def test_which_addresses_are_here() -> None:
    assert is_here(ipaddress.ip_address("127.0.0.1")) and not is_here(ipaddress.ip_address("192.0.2.1"))
    assert addresses_of("localhost") and addresses_of("nowhere.invalid") == ()
