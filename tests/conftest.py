"""Fixtures shared by all tests: a keys file, sandboxes, sidecars and official-SDK processes, ended when the test ends."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from live import KeysFile, LiveSandbox, LiveSidecar, Stage
from official_sdk import SdkProcess
from real_parts import need

from sidecar.errors import ConfigError
from sidecar.keys.machine import ID_FILE_VARIABLE, machine_id

__all__ = ["need"]


def pytest_configure() -> None:
    """A shell that runs the tests in the background has Ctrl-C ignored, and the commands under test would inherit that. Keys
    are bound to machines, so this one needs an id."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        machine_id()
    except ConfigError:  # as in a container
        made = Path(tempfile.mkdtemp()) / "machine-id"
        made.write_text("a machine for the tests\n")
        os.environ[ID_FILE_VARIABLE] = str(made)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """What one test runs; see `live.Stage`. For a whole module: `with Stage(tmp_path_factory.mktemp("stage")) as stage`."""
    with Stage(tmp_path) as made:
        yield made


@pytest.fixture
def keys(stage: Stage) -> KeysFile:
    """An empty keys.json; `keys.add("bot", "qot:read", ...)` returns the plaintext."""
    return stage.keys


@pytest.fixture
def make_sandbox(stage: Stage) -> Callable[..., LiveSandbox]:
    """Starts sandboxes with the given SandboxSettings; free port, and no frequency limits unless asked for."""
    return stage.sandbox


@pytest.fixture
def make_sidecar(stage: Stage) -> Callable[..., LiveSidecar]:
    """Starts `opend-sidecar run` before the sandbox at a port; keywords are sections of its YAML."""
    return stage.sidecar


@pytest.fixture
def make_sdk(stage: Stage) -> Callable[..., SdkProcess]:
    """Starts processes with the official SDK: `make_sdk(port, key)`."""
    return stage.sdk


@pytest.fixture
def sandbox(stage: Stage) -> LiveSandbox:
    """One whose prices stand still."""
    return stage.sandbox(tick_interval=0)
