"""Reaches a running sidecar over the owner's socket in its state directory. Changes nothing by itself."""

from __future__ import annotations

import http.client
import json
import socket
from pathlib import Path
from typing import Any

from sidecar.errors import ConfigError
from sidecar.ledger import admin_socket

PATIENCE = 15.0
"""Seconds for an answer: the running sidecar gives its disk five."""


class NoAnswer(ConfigError):
    """One runs perhaps, but what was asked is not known to be done."""


class _Connection(http.client.HTTPConnection):
    def __init__(self, opened: socket.socket) -> None:
        super().__init__("localhost")
        self.sock = opened


def ask(folder: Path, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any] | None:
    """The answer of the sidecar that runs with this state directory, None where none runs.

    Raises NoAnswer, and ConfigError with the sidecar's own words where it refuses.
    """
    try:
        opened = admin_socket.connected(folder, PATIENCE)
    except OSError as error:
        raise NoAnswer(f"the socket `{folder / admin_socket.NAME}` cannot be used: {_words(error)}") from None
    if opened is None:
        return None
    connection = _Connection(opened)
    try:
        content = None if body is None else json.dumps(body)
        connection.request(method, path, content, {"Content-Type": "application/json"} if content else {})
        reply = connection.getresponse()
        answer = json.loads(reply.read(1024 * 1024))
        if not isinstance(answer, dict):
            raise ValueError("it is no object")
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise NoAnswer(
            f"the running sidecar does not answer over `{folder / admin_socket.NAME}`: {_words(error)}"
        ) from None
    finally:
        connection.close()
    if reply.status != 200:
        raise ConfigError(str(answer.get("error", f"the running sidecar answered with status {reply.status}")))
    return answer


def _words(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error or type(error).__name__).lower()
