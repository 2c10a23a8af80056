"""What docs/runbook.md tells to do, done: a lost key, and a state directory restored from a backup."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from documents import block
from live import PROJECT, LiveSandbox, LiveSidecar, Stage, eventually
from rest_client import PAPER_HK, RestClient, order

DOORS = {"websocket": "off", "grpc": "off", "mcp": "off"}


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with Stage(tmp_path) as made:
        yield made


def run(sidecar: LiveSidecar, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sidecar.cli.main", *words, "--config", str(sidecar.config_file)]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=30)


def paper(sandbox: LiveSandbox) -> int:
    return len(sandbox.working(PAPER_HK))


def test_the_lines_for_a_lost_key_stop_it_cancel_its_orders_and_leave_those_of_others(
    stage: Stage, tmp_path: Path
) -> None:
    scopes = ("qot:read", "acc:read", "trade:simulate")
    lost, other = (stage.keys.add(name, *scopes) for name in ("sim-bot", "other"))
    sandbox = stage.sandbox(tick_interval=0)
    sidecar = stage.sidecar(sandbox.port, listeners=DOORS)
    door = sidecar.doors["rest"]
    for key, price in ((lost, 300), (lost, 301), (other, 302)):
        assert RestClient(door, key).post("/api/order", order(price=price)).status == 200
    assert paper(sandbox) == 3

    lines = block("docs/runbook.md", "sh", "--freeze")
    assert [line.split()[1] for line in lines.splitlines() if line.startswith("opend-sidecar")] == [
        "bind-key", "halt", "audit", "revoke-key",
    ]  # fmt: skip
    program = tmp_path / "opend-sidecar"
    program.write_text(
        f'#!/bin/sh\ncase "$1" in bind-key|revoke-key) more="--admin 127.0.0.1:{sidecar.admin_port}";; esac\n'
        f'exec {sys.executable} -m sidecar.cli.main "$@" --config {sidecar.config_file} $more\n'
    )
    program.chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    ran = subprocess.run(
        ["sh", "-e", "-c", lines], cwd=PROJECT, env={**os.environ, "PATH": path}, capture_output=True, text=True,
        timeout=60,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert '"key_id":"sim-bot"' in ran.stdout

    eventually(lambda: paper(sandbox) == 1)
    assert RestClient(door, lost).get("/api/key").status == 401
    assert RestClient(door, other).post("/api/order", order(price=303)).status == 200


def test_a_restored_state_is_halted_before_it_starts_and_its_audit_is_sound(stage: Stage, tmp_path: Path) -> None:
    key = stage.keys.add("bot", "qot:read", "acc:read", "trade:simulate", max_daily_value=70_000)
    sandbox = stage.sandbox(tick_interval=0)
    sidecar = stage.sidecar(sandbox.port, listeners=DOORS)
    bot = RestClient(sidecar.doors["rest"], key)
    assert bot.post("/api/order", order()).status == 200
    sidecar.stop()
    kept = tmp_path / "kept"
    kept.mkdir()
    shutil.copytree(sidecar.folder / "state", kept / "state")
    shutil.copy2(sidecar.audit_file, kept)

    sidecar.start()
    assert bot.post("/api/order", order(price=301)).status == 200
    assert bot.post("/api/order", order(price=302)).code == "daily_value"
    sidecar.stop()

    shutil.rmtree(sidecar.folder / "state")
    shutil.copytree(kept / "state", sidecar.folder / "state")
    shutil.copy2(kept / sidecar.audit_file.name, sidecar.audit_file)
    assert run(sidecar, "halt", "--reason", "restored from a backup").returncode == 0
    sidecar.start()
    assert bot.post("/api/order", order(price=303)).code == "trading_halted"
    verified = run(sidecar, "audit", "verify")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert run(sidecar, "resume", "--reason", "checked").returncode == 0
    # as the page says: what was traded after the backup is not counted
    assert bot.post("/api/order", order(price=304)).status == 200
