"""The operator's log: from which level on it tells, while that changes, and what it does when it cannot be written."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from sidecar.operator_log import configure_log, use_level
from sidecar.settings import Log


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    before = structlog.get_config()
    yield
    structlog.configure(**before)
    use_level("info")


def say_all(log: Any) -> None:
    for level in ("debug", "info", "warning", "error"):
        getattr(log, level)(level)
    try:
        raise RuntimeError("made")
    except RuntimeError:
        log.exception("exception")


ALL = ["debug", "info", "warning", "error", "exception"]


@pytest.mark.parametrize(("level", "left_out"), [("debug", 0), ("info", 1), ("warning", 2), ("error", 3)])
def test_what_is_below_the_level_is_left_out(level: Any, left_out: int, capsys: pytest.CaptureFixture[str]) -> None:
    configure_log(Log(level=level, json=True))
    say_all(structlog.get_logger())
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["event"] for line in lines] == ALL[left_out:]
    assert "RuntimeError: made" in lines[-1]["exception"]


def test_a_level_that_changes_holds_for_loggers_that_were_used_before(capsys: pytest.CaptureFixture[str]) -> None:
    configure_log(Log(level="warning"))
    used = structlog.get_logger()
    bound = used.bind(where="here")
    say_all(used)
    assert "info" not in capsys.readouterr().err
    use_level("debug")
    for log in (used, bound):
        say_all(log)
        told = capsys.readouterr().err
        assert all(event in told for event in ALL)
    use_level("error")
    say_all(bound)
    assert "warning" not in capsys.readouterr().err


def test_a_log_that_cannot_be_written_raises_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def write(self, _text: str) -> int:
            raise OSError(28, "no space left on device")

        def flush(self) -> None:
            raise ValueError("closed")

        def isatty(self) -> bool:
            return False

    monkeypatch.setattr(sys, "stderr", Full())
    configure_log(Log())
    say_all(structlog.get_logger())
