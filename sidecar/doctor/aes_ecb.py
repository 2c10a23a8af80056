"""How OpenD pads what it encrypts with AES_ECB, which no official SDK asks for: one InitConnect and one question of its own."""

from __future__ import annotations

import asyncio
from typing import Any

from google.protobuf.message import DecodeError

from sidecar.doctor.check import Check, doubt, good, unasked
from sidecar.doctor.requests import state_request
from sidecar.errors import UpstreamError, WireError
from sidecar.settings import Settings, Upstream
from sidecar.upstream.session import NEUTRAL_CLIENT_ID
from sidecar.wire import catalog, frame
from sidecar.wire.encryption import Algorithm, RsaKey, session_cipher
from sidecar.wire.messages import message_class

_NAME = "probe.aes_ecb"
_PATIENCE = 5.0
_REPLY_CAP = 1024 * 1024
_ASSUMED = "the sidecar's TCP door pads so for clients with an RSA key that ask for it"


async def aes_ecb(settings: Settings) -> Check:
    """Raises UpstreamError, ConfigError."""
    upstream = settings.upstream
    if upstream.rsa_key is None:
        return unasked(_NAME, "how OpenD pads AES_ECB shows only with an RSA key (`upstream.rsa_key`)")
    rsa = RsaKey.load(upstream.rsa_key)
    try:
        async with asyncio.timeout(_PATIENCE):
            answered = await _exchange(upstream, rsa)
    except (TimeoutError, OSError, EOFError):
        return _other("OpenD does not answer what is padded with PKCS#7 under AES_ECB")
    except WireError as error:
        return _other(f"what OpenD encrypts with AES_ECB is not padded with PKCS#7: {error}")
    if not answered:
        return _other("OpenD refuses what is padded with PKCS#7 under AES_ECB")
    return good(_NAME, f"OpenD pads AES_ECB with PKCS#7; {_ASSUMED}")


def _other(text: str) -> Check:
    remedy = "let clients with an RSA key of their own ask for AES_CBC (packetEncAlgo 2), as the official SDKs do"
    return doubt(_NAME, f"{text}; {_ASSUMED}", remedy)


async def _exchange(upstream: Upstream, rsa: RsaKey) -> bool:
    """Whether OpenD understands a question and its answer can be read. Raises WireError where that cannot."""
    frames = frame.FrameReader(_REPLY_CAP)
    reader, writer = await asyncio.open_connection(upstream.host, upstream.port)
    try:
        request: Any = message_class("InitConnect.Request")()
        request.c2s.clientVer, request.c2s.clientID = 300, NEUTRAL_CLIENT_ID
        request.c2s.packetEncAlgo, request.c2s.recvNotify = Algorithm.AES_ECB, False
        plain = request.SerializeToString()
        writer.write(frame.build(catalog.INIT_CONNECT, 1, plain, ciphertext=rsa.encrypt(plain)))
        reply = await _init_reply(reader, frames, rsa)
        if reply.retType != 0:
            raise UpstreamError(f"OpenD refused InitConnect: {reply.retMsg}")
        cipher = session_cipher(Algorithm.AES_ECB, reply.s2c.connAESKey.encode(), None)
        assert cipher is not None
        plain = state_request().SerializeToString()
        writer.write(frame.build(catalog.GET_GLOBAL_STATE, 2, plain, ciphertext=cipher.encrypt(plain)))
        body, digest = await _next(reader, frames, catalog.GET_GLOBAL_STATE)
        opened = cipher.decrypt(body)
        if frame.digest(opened) != digest:
            raise WireError("its SHA-1 is of something else")
        state: Any = message_class("GetGlobalState.Response").FromString(opened)
        return bool(state.retType == 0)
    finally:
        writer.close()


async def _init_reply(reader: asyncio.StreamReader, frames: frame.FrameReader, rsa: RsaKey) -> Any:
    body, _ = await _next(reader, frames, catalog.INIT_CONNECT)
    try:
        return message_class("InitConnect.Response").FromString(rsa.decrypt(body))
    except (WireError, DecodeError) as error:
        raise UpstreamError(f"OpenD's answer to InitConnect could not be read: {error}") from None


async def _next(reader: asyncio.StreamReader, frames: frame.FrameReader, proto_id: int) -> tuple[bytes, bytes]:
    """Body and SHA-1 of the next frame of a kind. Raises EOFError where OpenD has closed."""
    while True:
        received = await reader.read(64 * 1024)
        if not received:
            raise EOFError
        chunk, heads = frames.receive(received)
        for head in heads:
            if head.proto_id == proto_id:
                return chunk[head.start + frame.HEADER_SIZE : head.stop], head.digest
