"""The systemd unit: read by systemd without a complaint, hardened, and starting what there is. It is not started here."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from real_parts import PROJECT, need_program

from sidecar.cli.run import run
from sidecar.settings import Settings

UNIT = PROJECT / "deploy/systemd/opend-sidecar.service"
INSTALLED = "/opt/opend-sidecar/bin/opend-sidecar"


def analyze(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """By systemd-analyze, with a program that is there in place of the installed one."""
    here = folder / UNIT.name
    here.write_text(UNIT.read_text().replace(INSTALLED, sys.executable))
    command = [need_program("systemd-analyze"), *arguments, str(here)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.real_part
def test_systemd_has_no_complaint(tmp_path: Path) -> None:
    done = analyze(tmp_path, "verify", "--man=no")
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.real_part
def test_systemd_finds_it_exposed_by_little_more_than_its_network(tmp_path: Path) -> None:
    done = analyze(tmp_path, "security", "--offline=true", "--threshold=15", "--no-pager")
    assert done.returncode == 0, done.stdout + done.stderr  # of 100; a service without any hardening has 96


def test_it_is_started_by_options_that_there_are() -> None:
    [line] = re.findall(r"(?m)^ExecStart=(.*)$", UNIT.read_text())
    program, command, *arguments = line.split()
    assert (program, command) == (INSTALLED, "run")
    known = {option for parameter in run.params for option in parameter.opts}
    assert {one for one in arguments if one.startswith("--")} <= known


def test_it_is_given_more_time_to_stop_than_requests_in_flight_are_given() -> None:
    [seconds] = re.findall(r"(?m)^TimeoutStopSec=(\d+)$", UNIT.read_text())
    assert int(seconds) > Settings().drain


def test_its_state_is_where_systemd_makes_a_folder_for_it() -> None:
    text = UNIT.read_text()
    [name] = re.findall(r"(?m)^StateDirectory=(.*)$", text)
    assert f"--state-dir /var/lib/{name}" in text
    assert "StateDirectoryMode=0700" in text
