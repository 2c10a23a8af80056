"""A sidecar as its own process, in front of a sandbox of the test: for what only a process can show."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from faults_world import KEYS, RawClient, write_keys

ROOT = Path(__file__).resolve().parents[2]
_OPEN = re.compile(r"tcp=\[(\d+)\]")
_TRACE = "Traceback (most recent call last)"


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "sidecar.cli.main", *arguments]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"}


async def told(*arguments: str, timeout: float = 20) -> tuple[int, str]:
    """Run a command to its end: exit code, and what it said on stderr."""
    process = await asyncio.create_subprocess_exec(
        *command(*arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment(),
        cwd=ROOT,
    )
    try:
        out, error = await asyncio.wait_for(process.communicate(), timeout)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    return process.returncode or 0, (error or out).decode()


class Process:
    """A running `opend-sidecar run`."""

    def __init__(self, folder: Path, opend_port: int, **more: str) -> None:
        self.folder = folder
        self.flags = {
            "upstream": f"127.0.0.1:{opend_port}",
            "keys-file": str(folder / "keys.json"),
            "state-dir": str(folder / "state"),
            "audit-log": str(folder / "audit.jsonl"),
            "tcp-port": "0",
            **{f"{door}-port": "off" for door in ("ws", "rest", "grpc", "mcp", "admin")},
            **{name.replace("_", "-"): value for name, value in more.items()},
        }
        self.port = 0
        self.stderr = folder / "stderr.txt"
        self._process: asyncio.subprocess.Process | None = None

    def arguments(self) -> list[str]:
        return ["run", *(part for name, value in self.flags.items() for part in (f"--{name}", value))]

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def start(self, timeout: float = 15) -> None:
        at = self.stderr.stat().st_size if self.stderr.exists() else 0
        with self.stderr.open("ab") as file:
            self._process = await asyncio.create_subprocess_exec(
                *command(*self.arguments()), stderr=file, stdout=file, env=environment(), cwd=ROOT
            )
        async with asyncio.timeout(timeout):
            while True:
                said = self.stderr.read_bytes()[at:].decode()
                found = _OPEN.search(said)
                if found is not None and "connected to OpenD" in said:
                    break
                assert self._process.returncode is None, said
                await asyncio.sleep(0.05)
        self.port = int(found.group(1))

    async def client(self, key: str) -> RawClient:
        client = await RawClient.connect(self.port)
        assert (await client.init(key)).ret_type == 0
        return client

    async def kill(self) -> None:
        """As a power cut would: no word, no chance to tidy up."""
        assert self._process is not None
        self._process.kill()
        await self._process.wait()

    async def stop(self) -> int:
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                return await asyncio.wait_for(self._process.wait(), 30)
            self._process.kill()
            await self._process.wait()
            raise AssertionError("it did not end on SIGTERM")
        return self._process.returncode

    def audit(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / "audit.jsonl").read_text().splitlines()]

    def assert_calm(self) -> None:
        said = self.stderr.read_text()
        assert _TRACE not in said, said[-4000:]


@contextlib.asynccontextmanager
async def process(folder: Path, opend_port: int, keys: Any = KEYS, **more: str) -> AsyncIterator[Process]:
    write_keys(folder / "keys.json", keys)
    one = Process(folder, opend_port, **more)
    try:
        await one.start()
        yield one
        one.assert_calm()
    finally:
        if one._process is not None and one._process.returncode is None:
            one._process.kill()
            await one._process.wait()
