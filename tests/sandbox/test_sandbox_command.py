"""`opend-sidecar sandbox` as a process: what it prints, how it ends."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from sidecar.sandbox import FaultKind

COMMAND = [sys.executable, "-m", "sidecar.cli.main", "sandbox"]


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


def test_faults_and_market_states_are_options_and_a_bad_day_is_announced() -> None:
    process = subprocess.Popen(
        [*COMMAND, "--port", "0", "--fault", "drop:2205@1", "--fault", "delay=0.1@%50", "--market-state", "HK=CLOSED",
         "--exchange-hours", "--partial-fills", "--rejections", "5"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("sandbox listens on")
        assert process.stdout.readline() == "bad day: drop:2205@1, delay=0.1@%50\n"
    finally:
        process.terminate()
        process.communicate(timeout=10)


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--fault", "disconect:2202", "did you mean `disconnect`?"),
        ("--market-state", "HK=SHUT", "`SHUT` is no state of a market"),
    ],
)
def test_a_word_that_is_none_is_one_line_that_says_so(option: str, value: str, said: str) -> None:
    result = subprocess.run(
        [*COMMAND, "--port", "0", option, value], capture_output=True, text=True, timeout=20, check=False
    )
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert said in result.stderr


def test_the_help_explains_every_kind_of_fault_with_an_example() -> None:
    result = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True, timeout=20, check=True)
    for kind in FaultKind:
        assert re.search(rf"^ +{kind}[:@=]\S+\s+\w", result.stdout, re.MULTILINE), kind
