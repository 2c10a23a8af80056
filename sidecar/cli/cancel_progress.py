"""What `halt --cancel-orders` shows: how the cancelling goes on and how long it will take, then what came of it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Table

from sidecar.cli.owner import NoAnswer, ask
from sidecar.errors import ConfigError

LOOK_EVERY = 0.25
SAY_EVERY = 5.0
"""Seconds between two lines where there is no terminal to draw on."""
SILENCE = 15.0
"""Seconds without an answer of the sidecar after which nobody waits on."""

Tree = dict[str, Any]


def follow(folder: Path, run: Tree, console: Console) -> Tree:
    """The run as it is when it has ended. Raises ConfigError where that cannot be learnt; it goes on all the same."""
    if not console.is_terminal:
        return _follow_in_lines(folder, run, console)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TextColumn("{task.fields[left]}"), console=console, transient=True) as progress:
        task = progress.add_task(_doing(run), total=None, left="")
        while not run["finished"]:
            progress.update(
                task, description=_doing(run), total=run["total"] or None, completed=run["done"], left=_left(run)
            )
            time.sleep(LOOK_EVERY)
            run = _look(folder, run)
    return run


def _follow_in_lines(folder: Path, run: Tree, console: Console) -> Tree:
    said, said_at = "", -SAY_EVERY
    while not run["finished"]:
        line = f"{_doing(run)}: {run['done']} of {run['total']} {_left(run)}".strip()
        if line != said and time.monotonic() - said_at >= SAY_EVERY:
            console.print(line, markup=False, highlight=False, soft_wrap=True)
            said, said_at = line, time.monotonic()
        time.sleep(LOOK_EVERY)
        run = _look(folder, run)
    return run


def show(run: Tree, console: Console) -> None:
    """What came of it: the accounts, and every order that is not cancelled, with the reason."""
    if run["stopped"]:
        console.print(f"stopped after {run['done']} of {run['total']}: {run['stopped']}", markup=False, soft_wrap=True)
    if not run["accounts"]:
        console.print("there was nothing to cancel")
        return
    left: dict[str, int] = {}
    for one in run["not_cancelled"]:
        left[one["acc_id"]] = left.get(one["acc_id"], 0) + 1
    accounts = Table("account", "", "orders", "cancelled", "not cancelled", "problem")
    for each in run["accounts"]:
        missed = left.get(each["acc_id"], 0)
        accounts.add_row(
            each["acc_id"], each["trd_env"], str(each["total"]), str(each["total"] - missed), str(missed), each["problem"] or ""
        )  # fmt: skip
    console.print(accounts)
    if run["not_cancelled"]:
        orders = Table("account", "order", "symbol", "why it is not cancelled")
        for one in run["not_cancelled"]:
            orders.add_row(one["acc_id"], one["order_id"], one["symbol"], one["reason"])
        console.print(orders)


def run_lines(run: Tree) -> list[str]:
    """A run as `status` shows it."""
    began = run["began"].replace("T", " ").replace("+00:00", " UTC")
    if not run["finished"]:
        return [f"since {began}: {_doing(run)}, {run['done']} of {run['total']} {_left(run)}".rstrip()]
    left = len(run["not_cancelled"])
    end = f"was stopped ({run['stopped']})" if run["stopped"] else "has ended"
    lines = [f"{began}: {_doing(run)} {end}, {run['total'] - left} of {run['total']} cancelled"]
    lines += [f"  {one['order_id']} {one['symbol']}: {one['reason']}" for one in run["not_cancelled"]]
    return lines + [f"  account {each['acc_id']}: {each['problem']}" for each in run["accounts"] if each["problem"]]


def all_cancelled(run: Tree) -> bool:
    """Whether nothing that was meant can still be working, and none was filled."""
    return not run["stopped"] and not run["not_cancelled"] and not any(each["problem"] for each in run["accounts"])


def _look(folder: Path, run: Tree) -> Tree:
    until = time.monotonic() + SILENCE
    while True:
        try:
            told = ask(folder, "GET", "/api/admin/status")
        except NoAnswer:
            if time.monotonic() > until:
                raise
            time.sleep(LOOK_EVERY)
            continue
        if told is None:
            raise ConfigError("the sidecar has ended before all orders were cancelled; the next one goes on with it")
        found = next((one for one in told["cancelling"] if one["run"] == run["run"]), None)
        if found is None:
            raise ConfigError("the sidecar was started again and goes on with the orders; look with `status`")
        return dict(found)


def _doing(run: Tree) -> str:
    whose = "all orders" if run["key"] is None else f"the orders of key {run['key']}"
    return f"cancelling {whose}" + (f" (waiting: {run['waiting_for']})" if run["waiting_for"] else "")


def _left(run: Tree) -> str:
    return f"about {run['seconds_left']} s left" if run["seconds_left"] else ""
