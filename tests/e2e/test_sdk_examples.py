"""The example scripts of the official SDK, byte for byte, through a listener bound to a key on the port they have built in."""

from __future__ import annotations

import fcntl
import filecmp
import importlib.util
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from live import LiveSandbox, LiveSidecar, Stage
from real_parts import need

PORT = 11111
ENDLESS_FOR = 60.0
"""Seconds a script without an end may run."""
AT_MOST = 90.0

EXAMPLES = (
    "quote_push",
    "get_mkt_snapshot_demo",
    "simple_filter_demo",
    "quote_and_trade_demo",
    "stocksell_demo",
    "macd_strategy",
)
ENDLESS = {"quote_push"}


@dataclass
class Run:
    """One example as a process; `output` is stdout and stderr together."""

    process: subprocess.Popen[bytes]
    output_file: Path
    home: Path
    started: float

    @property
    def output(self) -> str:
        return self.output_file.read_text(errors="replace")

    def sdk_log(self) -> str:
        """What the SDK itself logged."""
        logs = sorted(self.home.rglob("*.log"))
        return "".join(log.read_text(errors="replace") for log in logs)


@dataclass
class Examples:
    sandbox: LiveSandbox
    sidecar: LiveSidecar
    runs: dict[str, Run]


def free() -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", PORT))
        except OSError:
            return False
    return True


@pytest.fixture(scope="module")
def the_port() -> Iterator[None]:
    """Port 11111, one test run at a time."""
    lock = Path(tempfile.gettempdir()) / f"opend-sidecar-tests-port-{PORT}.lock"
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                need("port 11111", time.monotonic() < deadline)
                time.sleep(0.5)
        need("port 11111", free())
        yield
    finally:
        os.close(descriptor)


@pytest.fixture(scope="module")
def examples(the_port: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Examples]:
    """All of them at once, as several people would run them."""
    spec = importlib.util.find_spec("futu")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    folder = Path(spec.submodule_search_locations[0]) / "examples"
    with Stage(tmp_path_factory.mktemp("examples")) as stage:
        stage.keys.add("examples", "qot:read", "acc:read", "trade:simulate", "trade:unlock", max_order_value=1_000_000)
        sandbox = stage.sandbox(limits=True)
        sidecar = stage.sidecar(sandbox.port, listeners={"tcp": [{"port": PORT, "key": "examples"}]})
        runs: dict[str, Run] = {}
        for name in EXAMPLES:
            if name == "macd_strategy" and importlib.util.find_spec("talib") is None:
                continue
            home = stage.folder / name
            home.mkdir()
            script = home / f"{name}.py"
            shutil.copyfile(folder / f"{name}.py", script)
            assert filecmp.cmp(folder / f"{name}.py", script, shallow=False)
            output = home / "output.txt"
            with output.open("wb") as written:
                process = subprocess.Popen(
                    [sys.executable, "-u", str(script)], cwd=home, stdin=subprocess.DEVNULL, stdout=written, stderr=written,
                    env={"HOME": str(home), "PATH": "/usr/bin:/bin", "PYTHONIOENCODING": "utf-8"},
                )  # fmt: skip
            runs[name] = Run(process, output, home, time.monotonic())
        try:
            yield Examples(sandbox, sidecar, runs)
        finally:
            for run in runs.values():
                if run.process.poll() is None:
                    run.process.kill()
                run.process.wait()


def outcome(examples: Examples, name: str) -> Run:
    """An example at its end; one without an end is ended after a while. No traceback anywhere."""
    run = examples.runs[name]
    if name in ENDLESS:
        time.sleep(max(0.0, run.started + ENDLESS_FOR - time.monotonic()))
        assert run.process.poll() is None, run.output
        run.process.terminate()
        run.process.wait(10)
    else:
        assert run.process.wait(max(1.0, run.started + AT_MOST - time.monotonic())) == 0, run.output
    assert "Traceback" not in run.output
    assert "[sidecar:" not in run.output
    return run


def test_simple_filter_demo_lists_stocks(examples: Examples) -> None:
    run = outcome(examples, "simple_filter_demo")
    assert "error" not in run.output
    assert "HK.00700" in run.output


def test_stocksell_demo_unlocks_and_sells_twice(examples: Examples) -> None:
    run = outcome(examples, "stocksell_demo")
    assert "* unlock_trade success" in run.output
    assert "simple_sell 下单成功" in run.output
    assert "smart_sell 下单成功" in run.output
    sold = [one for one in examples.sandbox.orders() if one["code"] == "00700" and one["trdSide"] == 2]
    assert len(sold) == 2
    assert examples.sandbox.received(2005) == []


def test_macd_strategy_computes_its_signal_from_history(examples: Examples) -> None:
    need("talib", "macd_strategy" in examples.runs)
    run = outcome(examples, "macd_strategy")
    assert "解锁交易成功" in run.output
    assert "fail" not in run.output
    assert any(one.c2s["security"]["code"] == "00123" for one in examples.sandbox.received(3103))


def test_get_mkt_snapshot_demo_gets_the_snapshots_of_every_market(examples: Examples) -> None:
    run = outcome(examples, "get_mkt_snapshot_demo")
    for market in ("HK", "US", "SZ", "SH"):
        assert f"get_stock_basicinfo: market={market}, sub_type=STOCK" in run.output
    assert len(re.findall(r"\[\d+ rows x \d+ columns\]", run.output)) >= 4, "a table of snapshots for each"
    assert "can not get stock info" not in run.output


def test_quote_and_trade_demo_gets_pushes_of_every_kind(examples: Examples) -> None:
    run = outcome(examples, "quote_and_trade_demo")
    assert "* subscribe : (0, None)" in run.output
    for push in ("StockQuoteTest", "RTDataTest", "TickerTest", "OrderBookTest", "BrokerTest code"):
        assert f"* {push}" in run.output, push
    assert "error" not in run.output


def test_quote_push_runs_on_and_on(examples: Examples) -> None:
    run = outcome(examples, "quote_push")
    assert "* subscribe : (0, None)" in run.output
    assert "error" not in run.output
    assert "proto=3005" in run.sdk_log()
