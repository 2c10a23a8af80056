"""A real browser that tests drive over its DevTools protocol: what it shows, what it asks for, and what it complains about."""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Self

import aiohttp
from real_parts import need_program

_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--window-size=1400,1000", "--remote-debugging-port=0",
)  # fmt: skip


class Browser:
    """One page of chromium. `requested`: every URL it asked for; `complaints`: what it wrote to its console."""

    def __init__(self) -> None:
        self.requested: list[str] = []
        self.complaints: list[str] = []
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}

    async def __aenter__(self) -> Self:
        program = need_program("chromium")
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        command = [program, *_FLAGS, f"--user-data-dir={self._profile.name}", "about:blank"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._http = aiohttp.ClientSession()
        self._socket = await self._http.ws_connect(await self._page(), max_msg_size=0)
        self._reading = asyncio.get_running_loop().create_task(self._read())
        for domain in ("Network", "Log", "Runtime", "Page"):
            await self.command(f"{domain}.enable")
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self.command("Browser.close")
        self._reading.cancel()
        await self._http.close()
        try:
            await asyncio.to_thread(self._process.wait, 5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._profile.cleanup()

    async def open(self, url: str) -> None:
        await self.command("Page.navigate", url=url)

    async def run(self, script: str) -> Any:
        """The value of a script in the page."""
        answer = await self.command("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    async def until(self, script: str, timeout: float = 45.0) -> float:
        """Wait until a script is true in the page; the seconds that took."""
        started = time.monotonic()
        while not await self.run(script):
            assert time.monotonic() - started < timeout, f"not within {timeout:g} s: {script}; {self.complaints}"
            await asyncio.sleep(0.05)
        return time.monotonic() - started

    async def command(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        return await asyncio.wait_for(answer, 45)

    async def _read(self) -> None:
        async for message in self._socket:
            told = message.json()
            if "id" in told:
                self._answers.pop(told["id"]).set_result(told.get("result", told))
            elif told["method"] == "Network.requestWillBeSent":
                self.requested.append(told["params"]["request"]["url"])
            elif told["method"] == "Log.entryAdded":
                self.complaints.append(told["params"]["entry"]["text"])
            elif told["method"] in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown"):
                self.complaints.append(str(told["params"]))

    async def _page(self) -> str:
        """The address at which its one page is driven."""
        port_file = Path(self._profile.name) / "DevToolsActivePort"
        deadline = time.monotonic() + 20
        while not (port_file.exists() and port_file.read_text().count("\n")):
            assert self._process.poll() is None, "chromium ended at once"
            assert time.monotonic() < deadline, "chromium did not open its port within 20 s"
            await asyncio.sleep(0.05)
        port = port_file.read_text().split("\n")[0]
        async with self._http.get(f"http://127.0.0.1:{port}/json/list") as reply:
            pages = [page for page in await reply.json() if page["type"] == "page"]
        address: str = pages[0]["webSocketDebuggerUrl"]
        return address
