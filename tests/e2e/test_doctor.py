"""`doctor` as it is typed: all green beside a sidecar and a paper OpenD that are well, red where something is broken."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner, Result
from live import PROJECT, LiveSidecar, Stage, eventually

from sidecar.cli.main import main
from sidecar.doctor import around


class Scene:
    """The paper OpenD is a process of its own, as a real one is."""

    def __init__(self, stage: Stage) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.opend = free.getsockname()[1]
        command = [sys.executable, "-m", "sidecar.cli.main", "sandbox", "--port", str(self.opend)]
        self.process = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        eventually(self.answers, 20, "the paper OpenD")
        stage.keys.add(
            "bot",
            "qot:read",
            "acc:read",
            "trade:simulate",
            ws_hash="0" * 64,
            allow_short=False,
            allowed_acc_ids=[1001001],
        )
        self.stage = stage
        self.sidecar: LiveSidecar = stage.sidecar(self.opend)
        self.sidecar.write_settings()  # with the ports it has

    def answers(self) -> bool:
        with socket.socket() as trying:
            return trying.connect_ex(("127.0.0.1", self.opend)) == 0

    def doctor(self, *words: str) -> Result:
        done = CliRunner().invoke(main, ["doctor", "--config", str(self.sidecar.config_file), *words])
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with Stage(tmp_path_factory.mktemp("doctor")) as stage:
        made = Scene(stage)
        yield made
        made.process.terminate()
        made.process.wait(20)


@pytest.fixture(autouse=True)
def firewalled(monkeypatch: pytest.MonkeyPatch) -> None:
    """As though other users were kept out; that this is really tried is tested where it is done."""
    monkeypatch.setattr(around, "connects_as_nobody", lambda host, port: False)


def wrong(done: Result) -> dict[str, Any]:
    return {one["check"]: one for one in json.loads(done.stdout)["checks"] if one["verdict"] == "bad"}


def test_beside_a_well_sidecar_everything_is_green(scene: Scene) -> None:
    done = scene.doctor()
    assert done.exit_code == 0, done.stdout
    assert "✗" not in done.stdout and "! " not in done.stdout, done.stdout
    for told in ("rest: 127.0.0.1:", "8 paper, 2 real", "nobody else is connected", f"process {scene.sidecar.pid}"):
        assert told in done.stdout, told
    assert done.stdout.rstrip().endswith("in doubt, 0 wrong")


def test_programs_read_the_same_as_json(scene: Scene) -> None:
    tree = json.loads(scene.doctor("--json").stdout)
    assert tree["ok"] is True
    names = {one["check"] for one in tree["checks"]}
    assert names == {
        "settings", "keys", "state_dir", "running", "disk", "port", "opend", "opend_login", "clock", "accounts",
        "opend_bind", "opend_doors", "others_connected", "other_users",
    }  # fmt: skip
    assert set(tree["checks"][0]) == {"check", "verdict", "text", "remedy"}


def test_a_probe_makes_a_report_to_share_and_its_paper_order_is_cancelled(scene: Scene) -> None:
    done = scene.doctor("--paper")
    assert done.exit_code == 0, done.stdout
    shared = done.stdout.partition("report to share, without accounts, users and addresses:")[2]
    for told in (
        "probe.version: OpenD 1011",
        "probe.body_size",
        "probe.quote_us",
        "paper.order",
        "paper.cancel: it was cancelled",
    ):
        assert told in shared, told
    for private in ("127.0.0.1", str(scene.opend), "1001001", str(scene.stage.folder)):
        assert private not in shared, private
    tree = json.loads(scene.doctor("--probe", "--json").stdout)
    assert {one["check"].partition(".")[0] for one in tree["probe"]} == {"probe", "unasked"}, "no order without --paper"
    assert {one["verdict"] for one in tree["probe"] if one["check"].startswith("unasked.")} == {"unasked"}


def test_a_bot_past_the_sidecar_turns_it_red_and_is_named(scene: Scene) -> None:
    program = f"import socket, time; one = socket.create_connection(('127.0.0.1', {scene.opend})); print(1, flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as bot:
        assert bot.stdout is not None
        bot.stdout.readline()
        done = scene.doctor("--json")
        bot.kill()
    assert done.exit_code == 1
    assert f"process {bot.pid} " in wrong(done)["others_connected"]["text"]


def test_an_opend_that_is_away_is_red_with_what_to_do(scene: Scene) -> None:
    done = scene.doctor("--upstream", "127.0.0.1:1")
    assert done.exit_code == 1
    assert "✗ opend: OpenD at 127.0.0.1:1 cannot be reached" in done.stdout
    assert "    → start OpenD" in done.stdout


def test_settings_that_do_not_load_are_one_red_line(scene: Scene) -> None:
    broken = scene.stage.folder / "broken.yaml"
    broken.write_text("upstreem: {port: 1}")
    done = CliRunner().invoke(main, ["doctor", "--config", str(broken), "--json"])
    assert done.exit_code == 1
    assert list(wrong(done)) == ["settings"] and "did you mean `upstream`" in wrong(done)["settings"]["text"]


def test_without_a_sidecar_it_looks_whether_one_could_start(scene: Scene) -> None:
    state = scene.stage.folder / "new-state"
    done = scene.doctor("--json", "--state-dir", str(state))
    tree = {one["check"]: one for one in json.loads(done.stdout)["checks"] if one["check"] != "port"}
    assert tree["running"]["verdict"] == "doubt" and tree["state_dir"]["verdict"] == "good"
    assert "is in use" in wrong(done)["port"]["text"], "the other one has them"
    assert not state.exists()


def test_it_takes_no_longer_than_a_person_waits(scene: Scene) -> None:
    began = time.monotonic()
    scene.doctor()
    assert time.monotonic() - began < 10
