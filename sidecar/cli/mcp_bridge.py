"""MCP over a pair of pipes, passed on to a sidecar over HTTP. It reads no more of a message than where it belongs.

Every request is a connection of its own and is sent once: one that got no answer is said to have an unknown outcome.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, BinaryIO

import aiohttp

LONGEST_LINE = 1024 * 1024
"""Bytes. The sidecar takes less; what is longer is read over and refused."""

_PARSE_ERROR, _INVALID_REQUEST, _INTERNAL_ERROR, _UNAVAILABLE = -32700, -32600, -32603, -32000
_MOST_AT_ONCE = 64
_TIMEOUT = aiohttp.ClientTimeout(total=300, sock_connect=5)
_VERSION = "io.modelcontextprotocol/protocolVersion"
_NAMED_BY = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
_PLAIN = re.compile(r"(?! )[\x20-\x7e]*(?<! )")

Message = dict[str, Any]


class Bridge:
    """`run` until the client closes its end. `key` goes into each request's Authorization header, and nowhere else."""

    def __init__(self, url: str, key: str, source: BinaryIO, sink: BinaryIO) -> None:
        self._url = url
        self._key = key
        self._source = source
        self._sink = sink
        self._lines: asyncio.Queue[bytes | None] = asyncio.Queue(_MOST_AT_ONCE)
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="mcp-out")
        self._under_way: dict[str | int, asyncio.Task[None]] = {}
        self._version: str | None = None
        """What `initialize` agreed on; clients of the newer protocol say it in every request."""

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        # a thread, since what stdin is (a pipe, a file, a terminal) differs; it ends with the process
        threading.Thread(target=self._read, args=(loop,), daemon=True, name="mcp-in").start()
        connector = aiohttp.TCPConnector(force_close=True, limit=_MOST_AT_ONCE + 1)
        headers = {"Authorization": f"Bearer {self._key}"}
        async with (
            aiohttp.ClientSession(connector=connector, headers=headers, timeout=_TIMEOUT) as http,
            asyncio.TaskGroup() as group,
        ):
            while (line := await self._lines.get()) is not None:
                await self._came(line, http, group)

    # -- from the client ------------------------------------------------------------------------------------------

    def _read(self, loop: asyncio.AbstractEventLoop) -> None:
        """In a thread of its own: line by line, a line that is too long cut short."""
        while line := self._source.readline(LONGEST_LINE + 1):
            rest = line
            while not rest.endswith(b"\n") and len(rest) > LONGEST_LINE:
                rest = self._source.readline(LONGEST_LINE + 1)
            if line.strip():
                asyncio.run_coroutine_threadsafe(self._lines.put(line), loop).result()
        asyncio.run_coroutine_threadsafe(self._lines.put(None), loop).result()

    async def _came(self, line: bytes, http: aiohttp.ClientSession, group: asyncio.TaskGroup) -> None:
        message = _parsed(line)
        if isinstance(message, str):
            await self._say(_error(None, _PARSE_ERROR, message))
            return
        method, number = message.get("method"), message.get("id")
        if "id" not in message and method == "notifications/cancelled":
            self._cancel(message.get("params"))
        elif not isinstance(method, str):
            if "result" not in message and "error" not in message:  # an answer has nobody here who asked
                await self._say(_error(None, _INVALID_REQUEST, "the message has no `method`"))
        elif "id" not in message:
            group.create_task(self._notify(message, http))
        elif not isinstance(number, str | int) or isinstance(number, bool):
            await self._say(_error(None, _INVALID_REQUEST, "the `id` of a request must be a text or a whole number"))
        elif number in self._under_way or len(self._under_way) >= _MOST_AT_ONCE:
            await self._say(_error(number, _INVALID_REQUEST, "this `id` is in use, or too many requests are under way"))
        else:
            task = group.create_task(self._ask(message, number, http))
            self._under_way[number] = task
            task.add_done_callback(lambda _: self._under_way.pop(number, None))

    def _cancel(self, params: object) -> None:
        """Closing the connection is what tells the sidecar; a request that is cancelled gets no answer."""
        number = params.get("requestId") if isinstance(params, dict) else None
        task = self._under_way.get(number) if isinstance(number, str | int) else None
        if task is not None:
            task.cancel()

    # -- to the sidecar -------------------------------------------------------------------------------------------

    async def _notify(self, message: Message, http: aiohttp.ClientSession) -> None:
        try:
            async with self._post(message, http):
                pass
        except (aiohttp.ClientError, OSError):
            pass  # nobody waits to be told

    async def _ask(self, message: Message, number: str | int, http: aiohttp.ClientSession) -> None:
        try:
            async with self._post(message, http) as response:
                body = await response.read()
                answer = _answer(number, response.status, body)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            said = (
                f"the sidecar at {self._url} cannot be reached ({_reason(error)}); nothing was sent, it may run later"
            )
            answer = _error(number, _UNAVAILABLE, said)
        except (aiohttp.ClientError, OSError) as error:
            answer = _error(
                number, _UNAVAILABLE,
                f"the sidecar at {self._url} did not answer ({type(error).__name__}): whether this was done is unknown, "
                "look at the orders before you repeat one",
            )  # fmt: skip
        except Exception as error:
            # nothing that a client writes may end the bridge for its other requests
            answer = _error(number, _INTERNAL_ERROR, f"the bridge failed at this request ({type(error).__name__})")
        if message["method"] == "initialize":
            self._version = _agreed(answer) or self._version
        await self._say(answer)

    def _post(self, message: Message, http: aiohttp.ClientSession) -> Any:
        body = json.dumps(message, separators=(",", ":")).encode()
        # SECURITY: a redirect would take the key to another place
        return http.post(self._url, data=body, headers=self._headers(message), allow_redirects=False)

    def _headers(self, message: Message) -> Mapping[str, str]:
        """What streamable HTTP repeats of a message in its headers."""
        method, params = message["method"], message.get("params")
        params = params if isinstance(params, dict) else {}
        meta = params.get("_meta")
        version = meta.get(_VERSION) if isinstance(meta, dict) else None
        if version is None and method != "initialize":
            version = self._version
        headers = {
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
            "Mcp-Method": _safe(method),
        }
        if isinstance(version, str):
            headers["MCP-Protocol-Version"] = _safe(version)
        name = params.get(_NAMED_BY.get(method, ""))
        if isinstance(name, str):
            headers["Mcp-Name"] = _safe(name)
        return headers

    # -- to the client --------------------------------------------------------------------------------------------

    async def _say(self, message: Message) -> None:
        """One line. In a thread: a client that does not read must not stop the reading of what it cancels."""
        line = json.dumps(message, separators=(",", ":")).encode() + b"\n"
        await asyncio.get_running_loop().run_in_executor(self._writer, self._write, line)

    def _write(self, line: bytes) -> None:
        self._sink.write(line)
        self._sink.flush()


def _parsed(line: bytes) -> Message | str:
    """The message of a line, or what is wrong with it."""
    if len(line) > LONGEST_LINE:
        return f"the message is longer than {LONGEST_LINE} bytes"
    try:
        message = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError:
        return "the message is not valid UTF-8"
    except (ValueError, RecursionError):
        return "the message is not valid JSON"
    return message if isinstance(message, dict) else "the message is not a JSON object"


def _answer(number: str | int, status: int, body: bytes) -> Message:
    """What the sidecar answered, under the id of the request: where it did not get as far, it says null."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict) or not ("result" in answer or "error" in answer):
        return _error(number, _UNAVAILABLE, f"what answered with HTTP status {status} is not a sidecar's MCP door")
    return {**answer, "id": number}


def _reason(error: Exception) -> str:
    cause = getattr(error, "os_error", None)
    number = getattr(cause, "errno", None)
    if isinstance(number, int) and number > 0:
        return os.strerror(number).lower()
    return "no answer" if isinstance(error, TimeoutError) else str(cause or error)


def _agreed(answer: Message) -> str | None:
    result = answer.get("result")
    version = result.get("protocolVersion") if isinstance(result, dict) else None
    return version if isinstance(version, str) else None


def _safe(text: str) -> str:
    """A header value; what would not survive as one goes as base64, as the MCP specification has it."""
    if _PLAIN.fullmatch(text) and not text.startswith("=?"):
        return text
    return f"=?base64?{base64.b64encode(text.encode('utf-8', 'replace')).decode()}?="


def _error(number: str | int | None, code: int, text: str) -> Message:
    return {"jsonrpc": "2.0", "id": number, "error": {"code": code, "message": text}}
