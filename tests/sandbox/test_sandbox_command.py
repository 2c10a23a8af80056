"""`opend-sidecar sandbox` as a process: what it prints, how it ends."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-m", "sidecar.cli.sandbox"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_prints_one_line_when_it_listens_and_ends_cleanly(number: signal.Signals) -> None:
    process = subprocess.Popen(
        [*COMMAND, "--port", "0", "--seed", "7"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.fullmatch(r"sandbox listens on 127\.0\.0\.1:(\d+) \(seed 7\)\n", line)
        assert found, line
        with socket.create_connection(("127.0.0.1", int(found[1])), timeout=5):
            process.send_signal(number)
            output, errors = process.communicate(timeout=10)
    finally:
        process.kill()
    assert (process.returncode, output, errors) == (0, "", "")


def test_a_port_in_use_is_one_line_that_names_the_port_and_the_option() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = subprocess.run(
            [*COMMAND, "--port", str(port)], capture_output=True, text=True, timeout=20, check=False
        )
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert str(port) in result.stderr
    assert "--port" in result.stderr


@pytest.mark.parametrize("option", ["--rsa-key", "--log"])
def test_a_file_that_cannot_be_used_is_one_line_that_names_it(tmp_path: Path, option: str) -> None:
    missing = tmp_path / "nowhere" / "file"
    result = subprocess.run(
        [*COMMAND, "--port", "0", option, str(missing)], capture_output=True, text=True, timeout=20, check=False
    )
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert str(missing) in result.stderr
