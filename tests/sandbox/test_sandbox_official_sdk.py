"""The official Python SDK, unmodified and in its own process, against the sandbox."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import signal
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from real_parts import json_sdk_python
from sandbox_client import STILL

from sidecar.sandbox import Sandbox, SandboxSettings
from sidecar.wire.encryption import RsaKey

SCRIPT = Path(__file__).with_name("official_sdk_session.py")
MOVING = replace(STILL, tick_interval=0.05, order_latency=0.05)


async def run(python: str, *arguments: str) -> str:
    """What the process printed; it must end by itself."""
    process = await asyncio.create_subprocess_exec(
        python, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), 100)
    except TimeoutError:
        process.kill()
        raise
    return output.decode(errors="replace")


async def sdk_session(python: str, port: int, *mode: str) -> dict[str, Any]:
    output = await run(python, str(SCRIPT), str(port), *mode)
    lines = [line for line in output.splitlines() if line.startswith("RESULT ")]
    assert lines, output
    result: dict[str, Any] = json.loads(lines[0].removeprefix("RESULT "))
    return result


@pytest.fixture
def official() -> str:
    """futu-api is one of the project's own dependencies, so this interpreter has the official SDK."""
    return sys.executable


def check(result: dict[str, Any], sandbox: Sandbox) -> None:
    assert result["basic info"] == 30
    assert (result["history"] >= 50, result["accounts"], result["deals"]) == (True, 5, 1)
    assert result["order"] == ["CANCELLED_ALL", 200.0, "first"]
    assert "locked" in result["locked"]
    assert result["combo"] == ["SPREAD", -3.0, True]
    statuses = [status for status, remark in result["pushes"]["order"] if remark == "first"]
    assert statuses[0] == "SUBMITTING"
    assert statuses[-1] == "CANCELLED_ALL"
    assert result["pushes"]["deal"] == [100.0]
    assert result["pushes"]["quote"]
    assert all(isinstance(price, float) for price in result["pushes"]["quote"])
    assert {record.client_id for record in sandbox.received} == {"official"}
    assert len({record.conn for record in sandbox.received}) == 4


async def test_the_official_sdk_works_in_clear(official: str) -> None:
    async with Sandbox(MOVING) as sandbox:
        check(await sdk_session(official, sandbox.port), sandbox)


async def test_the_official_sdk_works_encrypted(official: str, tmp_path: Path) -> None:
    key = tmp_path / "rsa.pem"
    key.write_bytes(RsaKey.generate_pem())
    async with Sandbox(replace(MOVING, rsa_key=str(key))) as sandbox:
        check(await sdk_session(official, sandbox.port, str(key)), sandbox)


async def test_the_official_sdk_works_with_json_bodies() -> None:
    python = json_sdk_python()
    async with Sandbox(MOVING) as sandbox:
        check(await sdk_session(python, sandbox.port, "json"), sandbox)


UNBUFFERED = {**os.environ, "PYTHONUNBUFFERED": "1"}


async def example(python: str, source: Path, sandbox: Sandbox, folder: Path) -> tuple[int | None, str]:
    """Exit code and output of a copy that differs in the port only; code None for the one that never ends by itself."""
    copy = folder / source.name
    copy.write_text(source.read_text(encoding="utf-8").replace("11111", str(sandbox.port)), encoding="utf-8")
    process = await asyncio.create_subprocess_exec(
        python, str(copy), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, cwd=folder, env=UNBUFFERED
    )
    end = asyncio.get_running_loop().call_later(90, process.kill)
    reading = asyncio.ensure_future(process.communicate())
    if source.stem == "quote_push":
        while not any("999010" in str(record.c2s) for record in sandbox.received.of(3001)) and not reading.done():
            await asyncio.sleep(0.1)
        await asyncio.sleep(2)
        process.kill()
    output, _ = await reading
    end.cancel()
    return None if process.returncode == -signal.SIGKILL else process.returncode, output.decode(errors="replace")


async def test_the_sdk_s_own_examples_run_to_their_end(official: str, tmp_path: Path) -> None:
    spec = importlib.util.find_spec("futu")
    assert spec is not None
    assert spec.submodule_search_locations
    examples = sorted((Path(spec.submodule_search_locations[0]) / "examples").glob("[a-z]*.py"))
    if importlib.util.find_spec("talib") is None:
        examples = [path for path in examples if path.stem != "macd_strategy"]
        warnings.warn("NOT TESTED: macd_strategy, TA-Lib is not installed", stacklevel=1)
    async with Sandbox(SandboxSettings(port=0)) as sandbox:
        results = await asyncio.gather(*(example(official, path, sandbox, tmp_path) for path in examples))
    ended = dict(zip((path.stem for path in examples), results, strict=True))
    assert len(ended) >= 5
    for name, (code, output) in ended.items():
        assert code == (None if name == "quote_push" else 0), f"{name}: {output[-2000:]}"
        assert "Traceback" not in output, f"{name}: {output[-2000:]}"
        assert "(-1," not in output, f"{name}: {output[-2000:]}"
    assert "* subscribe : (0, None)" in ended["quote_push"][1]
    assert "HK.00883" in ended["simple_filter_demo"][1]
    assert "smart_sell 下单成功" in ended["stocksell_demo"][1]
    for kind in ("StockQuoteTest", "RTDataTest", "TickerTest", "OrderBookTest", "BrokerTest"):
        assert kind in ended["quote_and_trade_demo"][1]
