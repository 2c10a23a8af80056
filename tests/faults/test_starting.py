"""Surroundings in which the sidecar must not start: one clear line, exit code 1, nothing left behind."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from faults_process import Process, process, told
from faults_world import ALICE, CARL, KEYS, write_keys

from sidecar.sandbox import Sandbox, SandboxSettings


def one_line(said: str) -> str:
    """What a person is told: one line, or one for each problem below a heading; never a traceback."""
    lines = [line for line in said.strip().splitlines() if line]
    assert lines[0].startswith("opend-sidecar: "), said[:2000]
    assert len(lines) <= 3, said[:2000]
    assert all(line.startswith("  ") for line in lines[1:]), said[:2000]
    return " ".join(lines)


GOOD = json.dumps({"version": 1, "keys": list(KEYS)})


def with_first(**changes: Any) -> str:
    return json.dumps({"version": 1, "keys": [{**KEYS[0], **changes}, *KEYS[1:]]})


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (None, "keys.json"),
        ("", "keys.json"),
        ("{", "keys.json"),
        ("[]", "keys.json"),
        (GOOD[:-20], "keys.json"),
        ("\x00\xff", "keys.json"),
        ("[" * 100_000, "keys.json"),
        ('{"version": 1, "keys": ' + "[" * 50_000 + "]" * 50_000 + "}", "keys.json"),
        (GOOD.replace('"version": 1', '"version": 2'), "version"),
        (GOOD.replace('"bob"', '"alice"'), "alice"),
        (GOOD.replace('"id": "bob"', '"id": "bob", "id": "bert"'), "id"),
        (with_first(allowed_symbols=[]), "allowed_symbols"),
        (with_first(max_order_vaule=5), "max_order_value"),
        (with_first(scopes=["trade:everything"]), "trade:everything"),
        (with_first(max_order_value=-1), "max_order_value"),
        (with_first(max_order_value="NaN"), "max_order_value"),
        (with_first(max_order_value=float("nan")), "keys.json"),
        (with_first(max_daily_value=float("inf")), "keys.json"),
        (with_first(hash="00"), "hash"),
        (with_first(hash=KEYS[1]["hash"]), "hash"),
        (with_first(allowed_card_nums=["1"]), "allowed_acc_ids"),
        (with_first(limits={"max_order_value": 1}), "max_order_value"),
        (with_first(expires_at="soon"), "expires_at"),
        (with_first(hours_window="25:00-26:00"), "hours_window"),
    ],
    ids=range(24),
)  # fmt: skip
async def test_keys_that_cannot_be_used_are_refused_clearly(tmp_path: Path, content: str | None, named: str) -> None:
    if content is not None:
        (tmp_path / "keys.json").write_bytes(content.encode("latin-1"))
        (tmp_path / "keys.json").chmod(0o600)
    code, said = await told(*Process(tmp_path, 9).arguments())
    assert code == 1, said
    assert named in one_line(said)
    for record in KEYS:
        assert record["hash"] not in said


@pytest.mark.parametrize("mode", [0o622, 0o660, 0o604, 0o666])
async def test_keys_that_others_may_write_or_read_are_refused(tmp_path: Path, mode: int) -> None:
    write_keys(tmp_path / "keys.json", KEYS)
    (tmp_path / "keys.json").chmod(mode)
    code, said = await told(*Process(tmp_path, 9).arguments())
    assert code == 1, said
    assert "chmod" in one_line(said)


@pytest.mark.parametrize("which", ["state-dir", "audit-log", "keys-file"])
@pytest.mark.parametrize("what", ["a file in the way", "a folder", "a place that cannot be made"])
async def test_paths_that_cannot_be_used_are_named_clearly(tmp_path: Path, which: str, what: str) -> None:
    write_keys(tmp_path / "keys.json", KEYS)
    one = Process(tmp_path, 9)
    if what == "a file in the way":
        (tmp_path / "file").write_text("hello")
        path = tmp_path / "file" / "below"
    elif what == "a folder":
        if which == "state-dir":
            return  # a folder is what it should be
        path = tmp_path / "folder"
        path.mkdir()
    else:
        path = Path("/proc/nowhere/below")
    one.flags[which] = str(path)
    code, said = await told(*one.arguments())
    assert code == 1, said
    assert str(path) in one_line(said) or str(path.parent) in one_line(said)


async def test_an_audit_that_is_something_else_is_left_as_it_was(tmp_path: Path) -> None:
    write_keys(tmp_path / "keys.json", KEYS)
    (tmp_path / "audit.jsonl").write_text("dear diary\n" * 50)
    code, said = await told(*Process(tmp_path, 9).arguments())
    assert code == 1, said
    assert "audit.jsonl" in one_line(said)
    assert (tmp_path / "audit.jsonl").read_text() == "dear diary\n" * 50


async def test_a_ledger_that_is_no_database_is_refused_clearly(tmp_path: Path) -> None:
    write_keys(tmp_path / "keys.json", KEYS)
    async with Sandbox(SandboxSettings(port=0, tick_interval=0.0)) as opend:
        async with process(tmp_path, opend.port) as one:
            await one.stop()
        (database,) = [path for path in (tmp_path / "state").iterdir() if path.suffix in (".db", ".sqlite", ".sqlite3")]
        for path in (tmp_path / "state").iterdir():
            if path.name.startswith(database.name):
                path.write_bytes(os.urandom(9000))
        code, said = await told(*one.arguments())
    assert code == 1, said
    assert "ledger" in one_line(said)


async def test_a_second_instance_on_the_same_state_is_refused_and_names_the_first(tmp_path: Path) -> None:
    async with Sandbox(SandboxSettings(port=0, tick_interval=0.0)) as opend, process(tmp_path, opend.port) as one:
        code, said = await told(*one.arguments())
        assert code == 1
        assert f"process {one.pid}" in one_line(said)
        client = await one.client(CARL)
        await client.close()
        assert await one.stop() == 0


@pytest.mark.parametrize("which", ["tcp-port", "admin-port"])
async def test_a_port_in_use_is_named_with_the_option_that_changes_it(tmp_path: Path, which: str) -> None:
    write_keys(tmp_path / "keys.json", KEYS)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        one = Process(tmp_path, 9, **{which.replace("-", "_"): str(taken.getsockname()[1])})
        code, said = await told(*one.arguments())
    assert code == 1, said
    line = said.strip().splitlines()[-1]
    assert f"--{which}" in line
    assert "Traceback" not in said


@pytest.mark.parametrize(
    "flags",
    [
        ["--tcp-port", "99999"],
        ["--tcp-port", "x"],
        ["--upstream", "nowhere"],
        ["--bind", "everywhere"],
        ["--config", "/nowhere.yaml"],
    ],
)
async def test_flags_that_make_no_sense_are_refused_clearly(tmp_path: Path, flags: list[str]) -> None:
    write_keys(tmp_path / "keys.json", KEYS)
    arguments = [*Process(tmp_path, 9).arguments(), *flags]
    code, said = await told(*arguments)
    assert code == (1 if flags[0] == "--config" else 2), said  # a file that is missing is no wrong usage
    one_line(said)


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "a: [",
        "upstream: 5",
        "upstrem: {}",
        "- 1",
        "a: &a [*a]",
        "\t",
        "x: !!python/object:os.system {}",
        "[" * 5000,
    ],
)
async def test_settings_that_cannot_be_read_are_refused_clearly(tmp_path: Path, content: str) -> None:
    write_keys(tmp_path / "keys.json", KEYS)
    (tmp_path / "sidecar.yaml").write_text(content)
    code, said = await told(*Process(tmp_path, 9).arguments(), "--config", str(tmp_path / "sidecar.yaml"))
    assert code == 1, said
    one_line(said)


@pytest.mark.parametrize(
    "content", ["", "{", "[" * 100_000, '{"version": 1, "keys": ' + "[" * 50_000 + "]" * 50_000 + "}", "\xff"]
)
async def test_keys_broken_while_running_keep_the_last_good_ones(tmp_path: Path, content: str) -> None:
    async with Sandbox(SandboxSettings(port=0, tick_interval=0.0)) as opend, process(tmp_path, opend.port) as one:
        (tmp_path / "new").write_bytes(content.encode("latin-1"))
        (tmp_path / "new").chmod(0o600)
        (tmp_path / "new").rename(tmp_path / "keys.json")
        os.kill(one.pid, 1)  # SIGHUP
        client = await one.client(ALICE)
        assert (await client.place()).ret_type == 0
        await client.close()
        assert "cannot be used" in one.stderr.read_text()
        assert await one.stop() == 0
