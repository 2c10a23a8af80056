"""`status --watch`: what is shown where a terminal has too few rows for everything."""

from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console

from sidecar.cli.status_screen import screen

Tree = dict[str, Any]


def key(name: str, used: int = 0, state: str = "ACTIVE") -> Tree:
    return {
        "key": name, "state": state, "unusable": None, "connections": 0, "cap_currency": None,
        "orders_per_minute": {"limit": 10, "used": used, "left": 10 - used},
        "open_orders": {"limit": None, "used": 0, "left": None},
        "daily_value": {"limit": None, "used": {}, "left": None},
    }  # fmt: skip


def standing(key_id: str | None, state: str = "ACTIVE") -> Tree:
    return {"key": key_id, "state": state, "since": None, "by": "the command line", "reason": "drill"}


def told(keys: int, refusals: int, halted: int = 0) -> Tree:
    return {
        "trading": standing(None), "keys": [standing(f"halted-{number}", "HALTED") for number in range(halted)],
        "saved": True, "save_problem": None, "cancelling": [], "ready": False,
        "problems": [{"component": "opend", "message": "OpenD at 127.0.0.1:11111 is away " + "for very long " * 10}],
        "revision": "0123456789abcdef", "pid": 4711, "version": "1", "began": "2026-03-02T09:30:00+00:00",
        "upstream": {"address": "127.0.0.1:11111", "up": True, "lock": "unlocked", "connections": 2, "max_connections": 100},
        "clients": {"tcp": 1}, "breakers": {"refusals_in_a_row": None},
        "records": {"audit_ok": True, "ledger_ok": True, "waiting": 0},
        "headroom": [key(f"idle-{number:02}") for number in range(keys)] + [key("zealous", 9)],
        "refusals": [
            {"at": f"2026-03-02T09:30:{number:02}", "times": 2, "key": "zealous", "code": "order_value", "message": "value 90 is over"}
            for number in range(refusals)
        ],
    }  # fmt: skip


def shown(tree: Tree, width: int, height: int) -> list[str]:
    console = Console(width=width, height=height, force_terminal=True, color_system=None, legacy_windows=False)
    with console.capture() as captured:
        console.print(screen(tree, console, "09:30:00"))
    return captured.get().splitlines()


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 50), (80, 10), (40, 6), (200, 100)])
@pytest.mark.parametrize("tree", [told(0, 0), told(30, 8), told(200, 1), told(3, 8, halted=40)])
def test_it_is_never_higher_or_wider_than_the_terminal(tree: Tree, width: int, height: int) -> None:
    rows = shown(tree, width, height)
    assert len(rows) <= height
    assert max(map(len, rows)) <= width
    assert rows[0].startswith("trading") and "Ctrl-C" in rows[-1]


def test_what_fits_is_shown_whole_and_nothing_is_said_to_be_missing() -> None:
    rows = shown(told(3, 2), 120, 60)
    assert any("process" in row for row in rows) and "no room" not in rows[-1]


def test_the_key_nearest_to_its_limits_the_last_refusals_and_opend_have_room_on_80_by_24() -> None:
    rows = shown(told(30, 8), 80, 24)
    text = "\n".join(rows)
    assert any(row.startswith("zealous") and "9 of 10" in row for row in rows)
    assert "opend: OpenD at 127.0.0.1:11111 is away" in text and "OpenD      127.0.0.1:11111, connected" in text
    assert "09:30:00 (2×)   zealous   order_value   value 90 is over" in text


@pytest.mark.parametrize(("width", "height"), [(80, 24), (100, 18)])
def test_what_has_no_room_is_counted(width: int, height: int) -> None:
    tree = told(30, 8)
    rows = shown(tree, width, height)
    keys = sum(row.startswith(("idle-", "zealous")) for row in rows)
    refusals = sum(row.startswith("09:30:") for row in rows[:-1])
    said = rows[-1]
    assert keys and refusals and f"{31 - keys} keys" in said
    assert (f"{8 - refusals} refusal" in said) == (refusals < 8)


def test_halted_keys_come_before_those_that_are_well() -> None:
    tree = told(30, 0)
    tree["headroom"].append(key("stopped", state="HALTED"))
    assert any(row.startswith("stopped") for row in shown(tree, 80, 14))
