"""`opend-sidecar mcp-stdio`: the running sidecar's MCP door for clients that start a program and speak through its pipes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import stat
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

import click

from sidecar.border import shown
from sidecar.cli.command import Command, WrongUsage
from sidecar.cli.mcp_bridge import Bridge
from sidecar.errors import ConfigError

URL = "http://127.0.0.1:38765/mcp"
VARIABLES = ("OPEND_SIDECAR_KEY", "FUTU_MCP_API_KEY")
_SECRET = re.compile(r"[!-~]+")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@click.command(
    "mcp-stdio",
    cls=Command,
    short_help="Serve MCP on stdin and stdout, for desktop clients.",
    exits={0: "the client closed its end", 1: "there is no key, or its file cannot be used; a line on stderr says why"},
    examples="""
OPEND_SIDECAR_KEY=fc_... opend-sidecar mcp-stdio
opend-sidecar mcp-stdio --key-file ~/.config/futu/desktop.key
""",
)
@click.option("--url", metavar="URL", default=URL, show_default=True, help="The MCP door of the running sidecar.")
@click.option("--key-file", type=click.Path(path_type=Path), help="File that holds the key, readable by you alone.")
def mcp_stdio(url: str, key_file: Path | None) -> None:
    """Serve MCP on stdin and stdout, for desktop clients, through the sidecar that runs.

    The key is taken from --key-file, or else from the environment: OPEND_SIDECAR_KEY or FUTU_MCP_API_KEY. Its rules and
    counters are the sidecar's, shared with every other way the key is used. Nothing but MCP is written to stdout.
    """
    check_url(url)
    key = find_key(key_file, os.environ)
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        source, sink = _pipes()
        try:
            asyncio.run(Bridge(url, key, source, sink).run())
        except* (BrokenPipeError, KeyboardInterrupt):
            pass  # the client has gone
    # threads may hang in a read or a write that never ends
    sys.stderr.flush()
    os._exit(0)


def find_key(key_file: Path | None, environment: Mapping[str, str]) -> str:
    """The key, whole. Raises ConfigError; its text never shows what was found."""
    if key_file is not None:
        where, key = f"`{key_file}`", _read(key_file)
    else:
        name = next((name for name in VARIABLES if environment.get(name, "").strip()), None)
        if name is None:
            raise ConfigError(f"no key was given; set {VARIABLES[0]}, or name its file with --key-file")
        where, key = name, environment[name]
    key = key.strip()
    if not _SECRET.fullmatch(key):
        raise ConfigError(f"{where} does not hold a key; it is one line that begins with `fc_`")
    return key


def _read(path: Path) -> str:
    path = path.expanduser()
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise ConfigError(f"`{path}` is not a file")
            if sys.platform != "win32" and found.st_mode & 0o077:
                raise ConfigError(f"`{path}` can be read by others; `chmod 600 {path}`")
            return file.read(4096).decode("ascii", "replace")
    except OSError as error:
        raise ConfigError(f"cannot read `{path}`: {(error.strerror or str(error)).lower()}") from None


def check_url(url: str) -> None:
    """Raises WrongUsage; warns of a key that would travel in clear."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise WrongUsage(f"--url {shown(url)} is not a URL; write e.g. `{URL}`")
    if parts.username or parts.password:
        raise WrongUsage("--url must not hold a password; the key goes into the environment or --key-file")
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        click.echo(f"opend-sidecar: the key travels in clear to {parts.hostname}; use https, or a tunnel", err=True)


def _pipes() -> tuple[BinaryIO, BinaryIO]:
    """stdin and stdout for the bridge alone: whatever else writes to stdout from now on goes to stderr."""
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return sys.stdin.buffer, sink
