"""Files, disks and ports: each thing that keeps a sidecar from working is told, with what to do."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path
from typing import Any

import pytest
from live import KeysFile

from sidecar.doctor import machine
from sidecar.doctor.check import Check, Verdict
from sidecar.doctor.machine import disk_checks, keys_checks, port_checks, settings_checks, state_checks
from sidecar.listener_settings import AdminListener, Listeners, TcpListener
from sidecar.settings import Audit, Keys, Settings

RUNNING: dict[str, Any] = {
    "pid": 4711, "version": "0.1.0", "began": "2026-01-05T10:00:00+00:00", "problems": [], "revision": "",
    "trading": {"state": "ACTIVE", "reason": None},
}  # fmt: skip


@pytest.fixture
def keys(tmp_path: Path) -> KeysFile:
    return KeysFile(tmp_path / "keys.json")


def only(checks: list[Check], name: str, verdict: Verdict) -> Check:
    (found,) = [check for check in checks if check.name == name and check.verdict is verdict]
    return found


def doors(*, tcp: int = 0, admin: int | None = None, bind: str = "127.0.0.1") -> Settings:
    return Settings(
        listeners=Listeners(
            tcp=(TcpListener(bind=bind, port=tcp),), websocket=None, rest=None, grpc=None, mcp=None,
            admin=None if admin is None else AdminListener(port=admin),
        )
    )  # fmt: skip


# -- keys -------------------------------------------------------------------------------------------------------------


def settings_with(keys: KeysFile) -> Settings:
    return Settings(keys=Keys(file=keys.path))


def test_a_good_keys_file_is_good_and_an_empty_one_a_doubt(keys: KeysFile) -> None:
    (check,) = [one for one in keys_checks(settings_with(keys), None, bridged=False) if one.name == "keys"]
    assert check.verdict is Verdict.DOUBT and "no key yet" in check.text
    keys.add("bot", "qot:read", ws_hash="0" * 64)
    (check,) = keys_checks(settings_with(keys), None, bridged=False)
    assert check.verdict is Verdict.GOOD


def test_a_keys_file_that_is_missing_broken_or_open_to_others_is_told(keys: KeysFile) -> None:
    keys.write_text("{")
    only(list(keys_checks(settings_with(keys), None)), "keys", Verdict.BAD)
    keys.path.unlink()
    assert str(keys.path) in only(list(keys_checks(settings_with(keys), None)), "keys", Verdict.BAD).text
    keys.add("bot", "qot:read", ws_hash="0" * 64)
    keys.path.chmod(0o666)
    told = [one for one in keys_checks(settings_with(keys), None, bridged=False) if one.verdict is not Verdict.GOOD]
    assert told and "0666" in told[0].text


def test_a_key_for_addresses_is_a_doubt_where_a_container_hides_them(keys: KeysFile) -> None:
    keys.add("bot", "qot:read", allowed_ips=["10.0.0.5/32"], ws_hash="0" * 64)
    found = list(keys_checks(settings_with(keys), None, bridged=True))
    assert "gateway" in only(found, "allowed_ips", Verdict.DOUBT).text
    assert all(check.name != "allowed_ips" for check in keys_checks(settings_with(keys), None, bridged=False))


def test_what_a_key_may_do_unmeant_is_a_doubt(keys: KeysFile) -> None:
    keys.add("bot", "qot:read", "trade:real", ws_hash="0" * 64)
    texts = [check.text for check in keys_checks(settings_with(keys), None) if check.verdict is Verdict.DOUBT]
    assert any("without max_order_value" in text for text in texts)


def test_a_sidecar_with_other_keys_in_force_is_wrong(keys: KeysFile) -> None:
    keys.add("bot", "qot:read")
    found = list(keys_checks(settings_with(keys), {**RUNNING, "revision": "other"}))
    only(found, "keys_in_force", Verdict.BAD)


# -- state and disk ---------------------------------------------------------------------------------------------------


def test_a_state_directory_is_there_or_can_be_made(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    only(list(state_checks(Settings(state_dir=folder), None)), "state_dir", Verdict.GOOD)
    assert not folder.exists(), "it only looks"
    folder.mkdir(mode=0o700)
    only(list(state_checks(Settings(state_dir=folder), None)), "state_dir", Verdict.GOOD)


def test_a_state_directory_that_others_may_write_into_is_wrong(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    folder.chmod(0o777)
    check = only(list(state_checks(Settings(state_dir=folder), None)), "state_dir", Verdict.BAD)
    assert "0777" in check.text and check.remedy == f"chmod 700 {folder}"


def test_a_state_directory_that_is_none_or_cannot_be_written_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.touch()
    only(list(state_checks(Settings(state_dir=file), None)), "state_dir", Verdict.BAD)
    monkeypatch.setattr(machine.os, "access", lambda path, mode: False)  # root may write everywhere
    only(list(state_checks(Settings(state_dir=tmp_path / "new"), None)), "state_dir", Verdict.BAD)


def test_a_running_sidecar_tells_what_is_the_matter_with_it(tmp_path: Path) -> None:
    running = {
        **RUNNING,
        "problems": [{"component": "audit", "message": "the audit cannot be written; orders are refused"}],
        "trading": {"state": "HALTED", "reason": "fat finger"},
    }
    found = list(state_checks(Settings(state_dir=tmp_path), running))
    assert "4711" in only(found, "running", Verdict.GOOD).text
    assert "the audit cannot be written" in only(found, "ready", Verdict.BAD).text
    assert "fat finger" in only(found, "trading", Verdict.DOUBT).text
    only(list(state_checks(Settings(state_dir=tmp_path), None)), "running", Verdict.DOUBT)


@pytest.mark.parametrize(
    ("free", "verdict"), [(10, Verdict.BAD), (64, Verdict.BAD), (200, Verdict.DOUBT), (300, Verdict.GOOD)]
)
def test_a_disk_is_judged_by_what_the_audit_keeps_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, verdict: Verdict
) -> None:
    usage = type("Usage", (), {"free": free * 1024**2})
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda path: usage)
    settings = Settings(state_dir=tmp_path / "not" / "there", audit=Audit(file=tmp_path / "audit.jsonl"))
    (check,) = disk_checks(settings)
    assert check.verdict is verdict


# -- ports ------------------------------------------------------------------------------------------------------------


def test_a_port_that_is_free_is_good_and_one_in_use_says_by_whom() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        check = only(list(port_checks(doors(tcp=port), None)), "port", Verdict.BAD)
        assert f"127.0.0.1:{port} is in use" in check.text and f"process {os.getpid()}" in check.text
    only(list(port_checks(doors(tcp=port), None)), "port", Verdict.GOOD)


def test_an_address_that_this_machine_does_not_have_is_wrong() -> None:
    check = only(list(port_checks(doors(tcp=11110, bind="192.0.2.1"), None)), "port", Verdict.BAD)
    assert "192.0.2.1:11110" in check.text


def test_while_a_sidecar_runs_its_doors_must_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]
        only(list(port_checks(doors(tcp=port), RUNNING)), "port", Verdict.GOOD)
    check = only(list(port_checks(doors(tcp=port), RUNNING)), "port", Verdict.BAD)
    assert "nobody answers" in check.text


def test_a_unix_socket_has_a_folder_and_is_there_while_a_sidecar_runs(tmp_path: Path) -> None:
    settings = Settings(listeners=Listeners(tcp=(TcpListener(bind=f"unix:{tmp_path}/run/tcp.sock"),), websocket=None,
                                            rest=None, grpc=None, mcp=None, admin=None))  # fmt: skip
    only(list(port_checks(settings, None)), "port", Verdict.BAD)
    (tmp_path / "run").mkdir()
    only(list(port_checks(settings, None)), "port", Verdict.GOOD)
    only(list(port_checks(settings, RUNNING)), "port", Verdict.BAD)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"{tmp_path}/run/tcp.sock")
        assert stat.S_ISSOCK((tmp_path / "run/tcp.sock").stat().st_mode)
        only(list(port_checks(settings, RUNNING)), "port", Verdict.GOOD)


def test_a_listener_that_takes_keys_in_clear_from_the_network_is_a_doubt() -> None:
    (check,) = settings_checks(doors(tcp=11110, bind="0.0.0.0"))
    assert check.verdict is Verdict.DOUBT and "in clear" in check.text
