"""The demo does what it says on the screen: its snippet runs as printed, its lines tell what happened, it ends cleanly."""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

READY = "Decisions, as they are made."


class Demo:
    """`opend-sidecar demo` in a session of its own, its output in files, its temporary directory in ours."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        self._output = folder / "output.txt"
        self._errors = folder / "errors.txt"
        with self._output.open("wb") as output, self._errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "sidecar.cli.main", "demo", *(arguments or ("--any-ports",))],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                env={**os.environ, "TMPDIR": str(self.temporary), "PYTHONUTF8": "1"},
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        return self._output.read_text("utf-8")

    @property
    def errors(self) -> str:
        return self._errors.read_text("utf-8")

    def until(self, seen: Callable[[str], object], seconds: float = 20.0) -> str:
        deadline = time.monotonic() + seconds
        while not seen(self.output):
            assert self.process.poll() is None, f"it ended by itself: {self.output}{self.errors}"
            assert time.monotonic() < deadline, f"not seen within {seconds:g} s: {self.output}{self.errors}"
            time.sleep(0.05)
        return self.output

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(15)

    def nothing_is_left(self) -> bool:
        try:
            os.killpg(self.process.pid, 0)
        except ProcessLookupError:
            return not list(self.temporary.iterdir())
        return False


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    made = Demo(tmp_path)
    try:
        yield made
    finally:
        if made.process.poll() is None:
            made.process.kill()
            made.process.wait()


def snippet_in(output: str) -> str:
    found = re.search(r"^[^\n]* <<'EOF'\n.*?^EOF$", output, re.DOTALL | re.MULTILINE)
    assert found is not None, output
    return found[0]


def fetched(output: str, page: str) -> str:
    found = re.search(rf"http://127\.0\.0\.1:\d+/{page}", output)
    assert found is not None, output
    with urllib.request.urlopen(found[0], timeout=5) as reply:
        return str(reply.read(), "utf-8")


def test_the_printed_snippet_runs_as_it_is_and_each_decision_is_shown(demo: Demo, tmp_path: Path) -> None:
    introduction = demo.until(lambda seen: READY in seen)
    assert fetched(introduction, "readyz") == '{"ready":true,"problems":[]}'
    snippet = snippet_in(introduction)
    assert shlex.split(snippet.partition("\n")[0])[0] == sys.executable

    ran = subprocess.run(
        ["bash", "-c", snippet],
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        env={**os.environ, "HOME": str(tmp_path), "PYTHONUTF8": "1"},
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    accepted = re.search(r"^100 x 300 HKD: accepted, order (\d+)$", ran.stdout, re.MULTILINE)
    assert accepted is not None, ran.stdout
    over = "order value 120000 HKD is over the limit of 100000 HKD"
    assert f"400 x 300 HKD: [sidecar:order_value] {over} (decision " in ran.stdout
    assert "100 x 300 HKD: [sidecar:scope] " in ran.stdout
    assert re.search(r"^HK.00700 is at \d+", ran.stdout, re.MULTILINE)

    shown = demo.until(lambda seen: "research" in seen.partition(READY)[2]).partition(READY)[2]
    lines = [line.partition(" ")[2] for line in shown.splitlines() if re.match(r"\d\d:\d\d:\d\d ", line)]
    assert lines[0] == "✓ sim-bot place_order HK.00700 BUY 100 × 300 = 30000 HKD → allowed"
    assert (
        f"✓ sim-bot place_order HK.00700 BUY 100 × 300 = 30000 HKD → OpenD took it as order {accepted[1]}" in lines[1:]
    )
    assert f"✗ sim-bot place_order HK.00700 BUY 400 × 300 = 120000 HKD → order_value: {over}" in lines
    assert any(line.startswith("✗ research get_acc_list → scope: ") for line in lines)
    metrics = fetched(introduction, "metrics")
    assert 'futu_auth_limit_rejects_total{iface="tcp",key_id="sim-bot",reason="per_order"} 1.0' in metrics

    assert demo.end(signal.SIGINT) == 0
    assert demo.output.rstrip().endswith("temporary files deleted")
    assert demo.errors == ""
    assert demo.nothing_is_left()


def test_only_its_user_can_read_what_it_keeps(demo: Demo) -> None:
    demo.until(lambda seen: READY in seen)
    (folder,) = demo.temporary.iterdir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "keys.json").stat().st_mode) == 0o600
    plaintexts = re.findall(r"fc_[0-9a-f]{64}", demo.output)
    assert len(set(plaintexts)) == 2
    for kept in folder.rglob("*"):
        if kept.is_file():
            assert not any(one.encode() in kept.read_bytes() for one in plaintexts), kept


def test_sigterm_ends_it_as_cleanly_as_ctrl_c(demo: Demo) -> None:
    demo.until(lambda seen: READY in seen)
    assert demo.end(signal.SIGTERM) == 0
    assert demo.errors == ""
    assert demo.nothing_is_left()


def test_a_reader_that_leaves_is_no_reason_to_complain(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "sidecar.cli.main", "demo", "--any-ports"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(tmp_path), "PYTHONUTF8": "1"},
    )
    try:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        complaints = process.stderr.read()
        assert process.wait(15) == 0
        assert complaints == b""
    finally:
        process.kill()
        process.stderr.close()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("option", ["--tcp-port", "--admin-port"])
def test_a_port_in_use_is_one_line_with_the_port_and_the_option(tmp_path: Path, option: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        demo = Demo(tmp_path, option, str(port), "--any-ports")
        assert demo.process.wait(15) == 1
    assert demo.output == ""
    (line,) = demo.errors.splitlines()
    assert line.startswith(f"opend-sidecar: port {port} is in use")
    assert f"`{option}`" in line
    assert demo.nothing_is_left()
