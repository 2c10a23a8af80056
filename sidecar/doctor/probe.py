"""What the protocol's description leaves open, tried on a real OpenD by reading alone; what is otherwise than the sidecar takes for
granted names the setting that helps.

SECURITY: the report is to be shared. No account, no user and no address is in it.
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from typing import Any

from sidecar.doctor import probe_accounts
from sidecar.doctor.aes_ecb import aes_ecb
from sidecar.doctor.check import Check, doubt, good
from sidecar.doctor.line import Line
from sidecar.doctor.requests import KNOWN_SYMBOLS, state_request
from sidecar.errors import ConfigError, UpstreamError
from sidecar.settings import Settings
from sidecar.upstream.pool import KEEP_ALIVE_TICKS, TICK
from sidecar.wire import catalog
from sidecar.wire.messages import message_class

_UNKNOWN_FIELD = 15_000
"""No message of OpenD has a field of this number."""
_SIZES = (64 * 1024, 1024**2)
_PATIENCE = 5.0
_NUMBER = re.compile(r"(?<![.\d])\d{5,}")
"""As accounts and users have."""

Probe = Callable[[Settings], Awaitable[Check]]


async def probe_checks(settings: Settings) -> AsyncIterator[Check]:
    """Each on a connection of its own, since some may end it."""
    for name, probe in _PROBES.items():
        try:
            yield await probe(settings)
        except (UpstreamError, ConfigError) as error:
            yield doubt(name, f"it could not be tried: {error}", "try again; if it stays so, share the report")
    for market in KNOWN_SYMBOLS:
        yield await probe_accounts.quote(settings, market)


async def _version(settings: Settings) -> Check:
    async with await Line.opened(settings.upstream) as line:
        reply = await line.ask(catalog.GET_GLOBAL_STATE, state_request())
        session = line.session
        assert session is not None
        told = f"OpenD {reply.s2c.serverVer} (build {reply.s2c.serverBuildNo}), InitConnect says {session.init_reply.s2c.serverVer}"
        return good("probe.version", told)


async def _clear(settings: Settings) -> Check:
    name = "probe.clear_connection"
    if settings.upstream.rsa_key is None:
        async with await Line.opened(settings.upstream):
            return good(name, "OpenD takes connections in clear, as the sidecar makes them without `upstream.rsa_key`")
    try:
        line = await Line.opened(settings.upstream, rsa=False)
    except UpstreamError:
        return good(name, "OpenD, which has an RSA key, takes no connection in clear")
    line.close()
    text = "OpenD takes connections in clear though it has an RSA key, so that key keeps nobody out"
    return doubt(name, text, "keep OpenD's port to the sidecar by a firewall or a network of its own")


async def _serials(settings: Settings) -> Check:
    name = "probe.serial_goes_back"
    async with await Line.opened(settings.upstream) as line:
        assert line.session is not None
        line.session.last_serial += 1000
        await line.ask(catalog.GET_GLOBAL_STATE, state_request())
        line.session.last_serial -= 500
        try:
            reply = await line.ask(catalog.GET_GLOBAL_STATE, state_request(), timeout=2.0)
        except UpstreamError:
            how = "does not answer"
        else:
            how = "answers" if reply.retType == 0 else "refuses"
    return good(name, f"OpenD {how} a serial number below the one before; the sidecar sends none")


async def _unknown_field(settings: Settings) -> Check:
    name = "probe.unknown_field"
    async with await Line.opened(settings.upstream) as line:
        try:
            reply = await line.ask_raw(catalog.GET_GLOBAL_STATE, _padded(1))
        except UpstreamError:
            return good(name, "OpenD does not answer a request with a field it does not know; the sidecar sends none")
        how = "passes over" if reply.retType == 0 else "refuses"
        return good(name, f"OpenD {how} a field it does not know; the sidecar sends none")


async def _body_size(settings: Settings) -> Check:
    name, most = "probe.body_size", settings.limits.request_body
    taken = 0
    for size in sorted({*(size for size in _SIZES if size < most), most}):
        async with await Line.opened(settings.upstream) as line:
            try:
                await line.ask_raw(catalog.GET_GLOBAL_STATE, _padded(size - 1024), timeout=_PATIENCE)
            except UpstreamError:
                text = f"OpenD takes a request of {taken // 1024} KiB and none of {size // 1024} KiB, which a client may send"
                return doubt(name, text, f"`limits.request_body: {max(taken, 64 * 1024) // 1024} KiB`")
            taken = size
    return good(name, f"OpenD takes a request of {most // 1024} KiB, the largest a client may send")


async def _keep_alive(settings: Settings) -> Check:
    name, ours = "probe.keep_alive", TICK * KEEP_ALIVE_TICKS
    async with await Line.opened(settings.upstream) as line:
        assert line.session is not None
        every = line.session.init_reply.s2c.keepAliveInterval
        request: Any = message_class("KeepAlive.Request")()
        request.c2s.time = int(time.time())
        await line.ask(catalog.KEEP_ALIVE, request)
    if every < ours:
        text = f"OpenD wants a KeepAlive every {every} s, the sidecar sends one after {ours:g} quiet seconds"
        return doubt(name, text, "share the report: no setting changes that yet")
    return good(
        name,
        f"OpenD wants a KeepAlive every {every} s and answers it; the sidecar sends one after {ours:g} quiet seconds",
    )


_PROBES: dict[str, Probe] = {
    "probe.version": _version,
    "probe.clear_connection": _clear,
    "probe.serial_goes_back": _serials,
    "probe.unknown_field": _unknown_field,
    "probe.body_size": _body_size,
    "probe.keep_alive": _keep_alive,
    "probe.aes_ecb": aes_ecb,
    "probe.sec_market": probe_accounts.sec_market,
    "probe.numbers": probe_accounts.numbers,
    "probe.order_lists": probe_accounts.order_lists,
    "probe.holdings": probe_accounts.holdings,
}


def shareable(check: Check, settings: Settings) -> Check:
    """Without what OpenD's words may hold of accounts, users and addresses; the number of an order stays, which has to be found."""
    if check.name == "paper.cancel":
        return check
    address = f"{settings.upstream.host}:{settings.upstream.port}"
    text = _NUMBER.sub("…", check.text.replace(address, "its address").replace(settings.upstream.host, "its address"))
    return replace(check, text=text)


def _padded(size: int) -> bytes:
    """A 1002 with so many bytes in a field that no OpenD knows."""
    return bytes(state_request().SerializeToString() + b"".join(_field(b"\0" * size)))


def _field(content: bytes) -> Iterator[bytes]:
    """Of the kind `bytes`: tag, length, content."""
    yield _varint(_UNKNOWN_FIELD << 3 | 2)
    yield _varint(len(content))
    yield content


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
