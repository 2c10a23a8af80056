"""What the owner sees while orders are cancelled, on a terminal and without one, and what is said of the result."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from sidecar.cli import cancel_progress
from sidecar.cli.cancel_progress import all_cancelled, follow, run_lines, show
from sidecar.cli.owner import NoAnswer
from sidecar.errors import ConfigError

FOLDER = Path("nowhere")


def run(done: int = 0, total: int = 34, *, finished: bool = False, **more: Any) -> dict[str, Any]:
    return {
        "run": "R1", "key": "bot", "by": "the command line", "began": "2026-01-05T10:41:00+00:00", "finished": finished, "stopped": None,
        "waiting_for": None,
        "total": total, "done": done, "seconds_left": 0 if finished else 30,
        "accounts": [{"acc_id": "1001", "trd_env": "REAL", "total": total, "done": done, "seconds_left": 0, "problem": None}],
        "not_cancelled": [], **more,
    }  # fmt: skip


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """What the sidecar answers one after the other: runs, None (none runs), or an error."""
    told: list[Any] = []

    def ask(folder: Path, method: str, path: str) -> Any:
        assert (folder, method, path) == (FOLDER, "GET", "/api/admin/status")
        answer = told.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return None if answer is None else {"cancelling": [{**run(), "run": "R0"}, answer]}

    monkeypatch.setattr(cancel_progress, "ask", ask)
    monkeypatch.setattr(cancel_progress, "LOOK_EVERY", 0.001)
    monkeypatch.setattr(cancel_progress, "SAY_EVERY", 0.0)
    yield told
    assert told == []


def plain() -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    return Console(file=out, width=120), out


def test_without_a_terminal_each_change_is_a_line(answers: list[Any]) -> None:
    answers += [run(20), run(20), run(20, seconds_left=12, waiting_for="OpenD is away"), run(34, finished=True)]
    console, out = plain()
    assert follow(FOLDER, run(), console)["finished"]
    assert out.getvalue().splitlines() == [
        "cancelling the orders of key bot: 0 of 34 about 30 s left",
        "cancelling the orders of key bot: 20 of 34 about 30 s left",
        "cancelling the orders of key bot (waiting: OpenD is away): 20 of 34 about 12 s left",
    ]


def test_on_a_terminal_there_is_a_bar_with_the_number_and_the_time_left(answers: list[Any]) -> None:
    answers += [run(20)] * 60 + [run(34, finished=True)]
    out = io.StringIO()
    follow(FOLDER, run(), Console(file=out, force_terminal=True, width=100))
    assert "20/34" in out.getvalue() and "about 30 s left" in out.getvalue()


def test_a_sidecar_that_is_slow_to_answer_is_asked_again_and_one_that_ended_is_told(answers: list[Any]) -> None:
    console, _ = plain()
    answers += [NoAnswer("busy"), run(34, finished=True)]
    assert follow(FOLDER, run(), console)["done"] == 34
    answers += [None]
    with pytest.raises(ConfigError, match="the next one goes on with it"):
        follow(FOLDER, run(), console)
    answers += [{**run(), "run": "R9"}]
    with pytest.raises(ConfigError, match="started again"):
        follow(FOLDER, run(), console)


def test_one_that_never_answers_is_given_up(answers: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cancel_progress, "SILENCE", -1.0)
    answers += [NoAnswer("it does not answer")]
    with pytest.raises(NoAnswer):
        follow(FOLDER, run(), plain()[0])


LEFT = {"acc_id": "1001", "order_id": "X7", "symbol": "HK.00700", "reason": "filled before it could be cancelled"}


def test_the_result_names_every_order_that_is_not_cancelled() -> None:
    console, out = plain()
    ended = run(34, finished=True, not_cancelled=[LEFT])
    show(ended, console)
    assert "│ 1001    │ REAL │ 34     │ 33        │ 1             │" in out.getvalue()
    assert "│ 1001    │ X7    │ HK.00700 │ filled before it could be cancelled │" in out.getvalue()
    assert not all_cancelled(ended)
    assert run_lines(ended) == [
        "2026-01-05 10:41:00 UTC: cancelling the orders of key bot has ended, 33 of 34 cancelled",
        "  X7 HK.00700: filled before it could be cancelled",
    ]
    assert run_lines(run(20)) == [
        "since 2026-01-05 10:41:00 UTC: cancelling the orders of key bot, 20 of 34 about 30 s left"
    ]


@pytest.mark.parametrize(
    ("more", "clean", "says"),
    [
        ({}, True, "34"),
        ({"accounts": []}, True, "there was nothing to cancel"),
        ({"stopped": "trading was resumed"}, False, "stopped after 34 of 34: trading was resumed"),
        ({"accounts": [{"acc_id": "7", "trd_env": "REAL", "total": 0, "done": 0, "problem": "not listed"}]}, False, "not listed"),
    ],
)  # fmt: skip
def test_only_what_was_cancelled_whole_is_a_success(more: dict[str, Any], clean: bool, says: str) -> None:
    console, out = plain()
    ended = run(34, finished=True, **more)
    show(ended, console)
    assert all_cancelled(ended) is clean
    assert says in out.getvalue()
