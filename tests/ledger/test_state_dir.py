"""One instance per state directory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sidecar.errors import ConfigError
from sidecar.ledger.state_dir import StateDir

HOLD = """
import sys, pathlib
from sidecar.ledger.state_dir import StateDir
state = StateDir.acquire(pathlib.Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""
TRY = """
import os, sys, pathlib
from sidecar.errors import ConfigError
from sidecar.ledger.state_dir import StateDir
if os.getuid() == 0:
    os.setuid(65534)  # root may write anywhere
try:
    StateDir.acquire(pathlib.Path(sys.argv[1]))
except ConfigError as error:
    print(error)
    sys.exit(3)
"""


def test_the_directory_is_made_for_its_owner_only(tmp_path: Path) -> None:
    with StateDir.acquire(tmp_path / "a" / "state") as state:
        assert state.path.stat().st_mode & 0o777 == 0o700
        assert (state.path / "lock").stat().st_mode & 0o777 == 0o600
        assert (state.path / "lock").read_text() == f"{os.getpid()}\n"
        assert state.warnings == ()


def test_a_second_instance_refuses_to_start_and_names_the_first(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(ConfigError, match=f"in use by process {holder.pid};"):
            StateDir.acquire(tmp_path)
    finally:
        holder.kill()
        holder.communicate()
    with StateDir.acquire(tmp_path):
        pass


def test_the_lock_holds_within_one_process_too_and_ends_with_release(tmp_path: Path) -> None:
    state = StateDir.acquire(tmp_path)
    with pytest.raises(ConfigError, match="in use"):
        StateDir.acquire(tmp_path)
    state.release()
    state.release()
    StateDir.acquire(tmp_path).release()


def test_a_file_in_its_place_is_an_error_in_plain_words(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    with pytest.raises(ConfigError, match="cannot be created"):
        StateDir.acquire(tmp_path / "state")


def test_a_directory_others_may_write_to_is_warned_about(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state").chmod(0o777)
    with StateDir.acquire(tmp_path / "state") as state:
        assert "chmod 700" in state.warnings[0]


def test_a_directory_that_cannot_be_written_is_an_error_in_plain_words(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    for path in state.parents:
        if not path.stat().st_mode & 0o001:
            path.chmod(0o711)
    state.chmod(0o555)
    done = subprocess.run([sys.executable, "-c", TRY, str(state)], capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
    assert "cannot be written: Permission denied" in done.stdout
