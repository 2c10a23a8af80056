"""What docs/runbook.md says of a restored state directory: the next start begins halted, and the audit is sound."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from live import PROJECT, LiveSidecar, Stage
from rest_client import RestClient, order


def run(sidecar: LiveSidecar, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sidecar.cli.main", *words, "--config", str(sidecar.config_file)]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=30)


def test_a_restored_state_is_halted_before_it_starts_and_its_audit_is_sound(tmp_path: Path) -> None:
    with Stage(tmp_path) as stage:
        key = stage.keys.add("bot", "qot:read", "acc:read", "trade:simulate", max_daily_value=70_000)
        sandbox = stage.sandbox(tick_interval=0)
        sidecar = stage.sidecar(sandbox.port, listeners={"websocket": "off", "grpc": "off", "mcp": "off"})
        bot = RestClient(sidecar.doors["rest"], key)
        assert bot.post("/api/order", order()).status == 200
        sidecar.stop()
        kept = tmp_path / "kept"
        kept.mkdir()
        shutil.copytree(sidecar.folder / "state", kept / "state")
        shutil.copy2(sidecar.audit_file, kept)

        sidecar.start()
        bot = RestClient(sidecar.doors["rest"], key)
        assert bot.post("/api/order", order(price=301)).status == 200
        assert bot.post("/api/order", order(price=302)).code == "daily_value"
        sidecar.stop()

        shutil.rmtree(sidecar.folder / "state")
        shutil.copytree(kept / "state", sidecar.folder / "state")
        shutil.copy2(kept / sidecar.audit_file.name, sidecar.audit_file)
        assert run(sidecar, "halt", "--reason", "restored from a backup").returncode == 0
        sidecar.start()
        bot = RestClient(sidecar.doors["rest"], key)
        assert bot.post("/api/order", order(price=303)).code == "trading_halted"
        verified = run(sidecar, "audit", "verify")
        assert verified.returncode == 0, verified.stdout + verified.stderr
        assert run(sidecar, "resume", "--reason", "checked").returncode == 0
        # as the page says: what was traded after the backup is not counted
        assert bot.post("/api/order", order(price=304)).status == 200
