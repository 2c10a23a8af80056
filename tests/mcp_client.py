"""The official MCP client, over HTTP and over stdio, in both of its protocols: with a handshake, and without one."""

from __future__ import annotations

import importlib.util
import json
import os
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from live import PROJECT
from real_parts import need

PROTOCOLS = ("auto", "legacy")
"""`auto` finds the newest, where every request stands for itself; `legacy` begins with `initialize`."""
PAPER_HK = "1001001"
BUY = {
    "acc_id": PAPER_HK, "trd_env": "SIMULATE", "symbol": "HK.00700", "side": "BUY", "qty": 100, "price": 300,
}  # fmt: skip
ACCOUNT = {"acc_id": PAPER_HK, "trd_env": "SIMULATE", "market": "HK"}


class McpClient:
    """One connected client. A result is its tree; `told` gives whether it was an error, too."""

    def __init__(self, client: Any) -> None:
        self.client = client

    async def tools(self) -> dict[str, Any]:
        """The tools the key is shown, by name."""
        return {tool.name: tool for tool in (await self.client.list_tools()).tools}

    async def told(self, tool: str, **arguments: Any) -> tuple[dict[str, Any], bool]:
        result = await self.client.call_tool(tool, arguments)
        tree = result.structured_content
        assert json.loads(result.content[0].text) == tree, "text and structure say the same"
        return tree, result.is_error

    async def ask(self, tool: str, **arguments: Any) -> dict[str, Any]:
        tree, is_error = await self.told(tool, **arguments)
        assert not is_error, tree
        return tree

    async def refused(self, tool: str, **arguments: Any) -> dict[str, Any]:
        tree, is_error = await self.told(tool, **arguments)
        assert is_error, tree
        assert tree["status"] == "error"
        return tree


@asynccontextmanager
async def over_http(
    port: int, key: str | None, mode: str = "auto", *, tls: ssl.SSLContext | None = None, **headers: str
) -> AsyncIterator[McpClient]:
    need("mcp", importlib.util.find_spec("mcp") is not None)
    import httpx2
    from mcp.client import Client
    from mcp.client.streamable_http import streamable_http_client

    shown = headers if key is None else {"Authorization": f"Bearer {key}", **headers}
    more = {} if tls is None else {"verify": tls}
    async with httpx2.AsyncClient(headers=shown, **more) as http:
        scheme = "http" if tls is None else "https"
        transport = streamable_http_client(f"{scheme}://127.0.0.1:{port}/mcp", http_client=http)
        async with Client(transport, mode=mode) as client:
            yield McpClient(client)


def bridge_command(port: int, *more: str) -> list[str]:
    return [
        sys.executable, "-m", "sidecar.cli.main", "mcp-stdio", "--url", f"http://127.0.0.1:{port}/mcp", *more,
    ]  # fmt: skip


def bridge_environment(**more: str) -> dict[str, str]:
    mine = {name: value for name, value in os.environ.items() if not name.endswith("_KEY")}
    return {**mine, "PYTHONPATH": str(PROJECT), **more}


@asynccontextmanager
async def over_stdio(port: int, key: str, mode: str = "auto", errlog: Path | None = None) -> AsyncIterator[McpClient]:
    need("mcp", importlib.util.find_spec("mcp") is not None)
    from mcp.client import Client
    from mcp.client.stdio import StdioServerParameters, stdio_client

    command, *arguments = bridge_command(port)
    program = StdioServerParameters(
        command=command, args=arguments, env=bridge_environment(OPEND_SIDECAR_KEY=key), cwd=PROJECT
    )
    async with Client(stdio_client(program), mode=mode) as client:
        yield McpClient(client)
