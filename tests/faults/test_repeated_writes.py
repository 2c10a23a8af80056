"""kill -9 at every step of an order under an idempotency key: it is never sent twice, and a repeat is told what is known."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from faults_process import ROOT, environment
from faults_world import ALICE, HK_PAPER, KEYS, write_keys

from sidecar.sandbox import Sandbox, SandboxSettings

DRIVER = Path(__file__).with_name("repeated_writes_driver.py")
Told = dict[str, Any]


async def run(
    folder: Path, opend: Sandbox, moment: str = "never", meanwhile: Callable[[], None] | None = None
) -> Told | None:
    """Ask for the order in a process of its own; what the asker was told, None if the process died before."""
    environ = environment()
    environ["PYTHONPATH"] = f"{ROOT}:{DRIVER.parent}"
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(DRIVER), str(folder), str(opend.port), ALICE, "token", moment,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env=environ, cwd=ROOT,
    )  # fmt: skip
    try:
        if meanwhile is not None:
            # its house connection subscribes when it is ready
            while not opend.received.of(2008):
                await asyncio.sleep(0.02)
            meanwhile()
            await asyncio.sleep(0.3)
        out, error = await asyncio.wait_for(process.communicate(b"\n"), 20)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert b"Traceback" not in error, error.decode()
    assert process.returncode == (0 if moment == "never" else -9), error.decode()
    found: Told | None = json.loads(out) if out else None
    return found


def sent(opend: Sandbox) -> int:
    return len(opend.received.of(2202))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_keys(tmp_path / "keys.json", KEYS)
    return tmp_path


def quiet(**changes: Any) -> Sandbox:
    return Sandbox(SandboxSettings(port=0, tick_interval=0.0, limits=False, **changes))


@pytest.mark.parametrize("moment", ["before the reservation is written", "before the audit record is written"])
async def test_what_died_before_it_was_recorded_was_never_sent_and_is_sent_by_the_repeat(
    folder: Path, moment: str
) -> None:
    async with quiet() as opend:
        assert await run(folder, opend, moment) is None
        assert sent(opend) == 0
        told = await run(folder, opend)
        assert told is not None
        assert told["order"]
        assert not told["replayed"]
        assert sent(opend) == 1


async def test_what_died_between_the_record_and_the_first_byte_may_have_been_sent_and_is_not_sent_again(
    folder: Path,
) -> None:
    async with quiet() as opend:
        assert await run(folder, opend, "before the first byte") is None
        for _ in range(2):
            assert await run(folder, opend) == {"code": "upstream_unavailable", "unknown": True}
        assert sent(opend) == 0


@pytest.mark.parametrize("moment", ["after it was sent", "when the answer has come"])
async def test_what_died_before_its_outcome_was_written_is_not_sent_again_and_unknown(
    folder: Path, moment: str
) -> None:
    async with quiet(delays={2202: 1.0} if moment == "after it was sent" else {}) as opend:
        opend.set_faults("refuse:2201")
        assert await run(folder, opend, moment) is None
        assert sent(opend) == 1
        assert await run(folder, opend) == {"code": "upstream_unavailable", "unknown": True}
        assert sent(opend) == 1


@pytest.mark.parametrize("moment", ["after it was sent", "when the answer has come"])
async def test_what_opend_lists_of_the_order_after_the_restart_is_what_the_repeat_is_told(
    folder: Path, moment: str
) -> None:
    async with quiet(delays={2202: 1.0} if moment == "after it was sent" else {}) as opend:
        assert await run(folder, opend, moment) is None
        (record,) = opend.received.of(2202)
        order = next(each for each in opend.accounts[HK_PAPER].orders.values() if each.remark == record.c2s["remark"])
        opend.received.clear()
        told = await run(folder, opend, meanwhile=lambda: None)
        assert told == {"order": order.number, "ex": order.text_id, "replayed": True}
        assert sent(opend) == 0


async def test_what_opend_reports_of_the_order_after_the_restart_is_what_the_repeat_is_told(folder: Path) -> None:
    async with quiet(delays={2202: 1.0}, order_latency=60.0) as opend:
        opend.set_faults("refuse:2201")
        assert await run(folder, opend, "after it was sent") is None
        (record,) = opend.received.of(2202)
        order = next(each for each in opend.accounts[HK_PAPER].orders.values() if each.remark == record.c2s["remark"])
        opend.received.clear()

        def report() -> None:
            opend.trading._publish_order(order)
            opend.flush_pushes()

        told = await run(folder, opend, meanwhile=report)
        assert told == {"order": order.number, "ex": order.text_id, "replayed": True}
        assert sent(opend) == 0


async def test_what_the_asker_was_told_is_told_again(folder: Path) -> None:
    async with quiet() as opend:
        first = await run(folder, opend, "when the asker was told")
        assert first is not None
        assert not first["replayed"]
        again = await run(folder, opend)
        assert again == {**first, "replayed": True}
        assert sent(opend) == 1
