"""A REST request read as far as HTTP and JSON go: the key it shows, its body, whether it is a dry run. Looks no key up.

What the body's fields mean, and which there are, is `wire.dialect`'s business.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from sidecar.keys.secret import PREFIX
from sidecar.policy.decision import Code, Refusal

_KEY_PARAMETERS = frozenset({"token", "key", "api_key", "apikey", "access_token", "authorization"})
_DRY_RUN = ("dry_run", "dryRun")
_TRUTH = {"true": True, "false": False}


@dataclass(frozen=True, slots=True)
class Rejected:
    """Why the door itself could not take a request. `status`: where HTTP knows a more exact one than the code's."""

    refusal: Refusal
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


def malformed(message: str, status: int | None = None) -> Rejected:
    return Rejected(Refusal(Code.MALFORMED_REQUEST, message), status)


def key_in_url(request: web.Request) -> Rejected | None:
    """SECURITY: what is in a URL is written into the logs of every program on the way, so a key there is refused."""
    if not request.query_string:
        return None
    for name, value in request.query.items():
        if name.lower() in _KEY_PARAMETERS or PREFIX in value.casefold():
            return malformed(
                "a key in the URL would be logged on its way; send it as `Authorization: Bearer fc_...`, and make a new one"
            )
    return None


def idempotency_key(request: web.Request) -> str | Rejected | None:
    tokens = request.headers.getall("Idempotency-Key", [])
    if len(tokens) > 1:
        return malformed("there are two Idempotency-Key headers; send one")
    return tokens[0] if tokens else None


def tree_of_query(request: web.Request) -> dict[str, Any] | Rejected:
    """The query parameters of a GET as a flat body; `true` and `false` are truth values."""
    if request.body_exists:
        return malformed("a GET has no body here; send its fields as query parameters, or use POST")
    tree: dict[str, Any] = {}
    for name, value in request.query.items():
        if name in tree:
            return malformed(f"the query parameter `{printable(name)}` is given twice; use POST for lists")
        tree[name] = _TRUTH.get(value, value)
    return tree


async def body_of(request: web.Request, limit: int, patience: float) -> bytes | Rejected:
    """The body's bytes, at most `limit` of them, which must be here within `patience` seconds; b"" where there is none."""
    if request.query_string:
        return Rejected(
            Refusal(Code.UNKNOWN_FIELD, "POST takes no query parameters; put the fields into the JSON body")
        )
    if not request.body_exists:
        return b""
    encodings = request.headers.getall("Content-Encoding", [])
    if any(encoding.strip().lower() not in ("", "identity") for encoding in encodings):
        return malformed(f"Content-Encoding `{printable(encodings[0])}` is not accepted; send the body as it is", 415)
    too_large = Rejected(Refusal(Code.BODY_TOO_LARGE, f"the body is over the limit of {limit} bytes"))
    if request.content_length is not None and request.content_length > limit:
        return too_large
    if request.content_length != 0 and not _is_json(request):
        return malformed("the body must be JSON; send it with `Content-Type: application/json`", 415)
    if request.headers.get("Expect", "").lower() == "100-continue" and request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(patience):
            while not request.content.at_eof():
                part = await request.content.readany()
                size += len(part)
                if size > limit:
                    return too_large
                parts.append(part)
    except TimeoutError:
        return malformed(f"the body was not complete after {patience:g} s", 408)
    except web.RequestPayloadError:
        return malformed("the body is not well-formed HTTP")
    return b"".join(parts)


def _is_json(request: web.Request) -> bool:
    types = request.headers.getall("Content-Type", [])
    charset = request.charset
    return (
        len(types) == 1
        and request.content_type == "application/json"
        and (charset is None or charset.lower() in ("utf-8", "utf8", "us-ascii"))
    )


def take_dry_run(tree: Any) -> bool | Rejected:
    """Whether `dry_run` is set, at the top of the body or in its c2s; it is taken out of the tree."""
    if not isinstance(tree, dict):
        return False
    places = [tree, *(each for each in (tree.get("c2s"),) if isinstance(each, dict))]
    found = [(place, name) for place in places for name in _DRY_RUN if name in place]
    if not found:
        return False
    if len(found) > 1:
        return malformed("`dry_run` is given twice")
    place, name = found[0]
    wanted = place.pop(name)
    if not isinstance(wanted, bool):
        return malformed(f"`{name}` must be true or false")
    return wanted


def printable(text: str) -> str:
    """SECURITY: what a client wrote goes into replies and the audit: short, without control characters, and without keys."""
    at = text.casefold().find(PREFIX)
    short = text if at < 0 else text[: at + len(PREFIX)] + "…"
    short = short if len(short) <= 80 else short[:80] + "…"
    return "".join(character if character.isprintable() else "�" for character in short)
