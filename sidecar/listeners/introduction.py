"""InitConnect on the client's side: read in clear or under RSA, answered with a session secret of our own. Holds no socket and no rule."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sidecar.errors import BodyError, WireError
from sidecar.upstream.session import InitChoices
from sidecar.wire import body, catalog, frame, replies
from sidecar.wire.encryption import Algorithm, Cipher, RsaKey, new_session_secret, session_cipher
from sidecar.wire.frame import HEADER_SIZE, JSON, PROTOBUF, Head
from sidecar.wire.messages import message_class

KEEP_ALIVE_INTERVAL = 10
"""Seconds, as OpenD's documentation shows it; the official SDK sends at four fifths of it."""

_ALGORITHMS = frozenset(Algorithm)


@dataclass(frozen=True, slots=True)
class Introduction:
    """One InitConnect as a client sent it, and the encryption it leads to (`cipher` None = bodies in clear)."""

    client_id: str
    """May be a secret: never logged, never sent on."""
    choices: InitChoices
    push_fmt: int
    cipher: Cipher | None
    rsa_key_id: str | None
    """The key whose RSA key opened it; None in clear or under the listener's shared one."""
    fmt: int
    serial: int
    _secret: str
    _iv: str
    _rsa: RsaKey | None

    def welcome(self, theirs: Any = None) -> bytes:
        """The answer as a frame: OpenD's own (`theirs`, its S2C) under our secret, or for the quarantine one of nobody's."""
        reply: Any = message_class("InitConnect.Response")()
        reply.retType = 0
        s2c = reply.s2c
        if theirs is None:
            s2c.serverVer, s2c.loginUserID, s2c.connID = 1000, 0, secrets.randbits(62) | 1
        else:
            s2c.CopyFrom(theirs)
        s2c.connAESKey = self._secret
        s2c.keepAliveInterval = KEEP_ALIVE_INTERVAL
        s2c.ClearField("aesCBCiv")
        if self._iv:  # the SDK takes its presence for CBC
            s2c.aesCBCiv = self._iv
        return self._framed(body.serialise(reply, self.fmt))

    def refusal(self, text: str) -> bytes:
        """The refusing answer as a frame."""
        return self._framed(replies.refusal(self.fmt, text))

    def _framed(self, plaintext: bytes) -> bytes:
        # the SDK encrypts InitConnect whenever it has an RSA file, but expects the answer in clear when it asked for none
        sealed = self._rsa.encrypt(plaintext) if self._rsa is not None and self.cipher is not None else None
        return frame.build(catalog.INIT_CONNECT, self.serial, plaintext, fmt=self.fmt, ciphertext=sealed)


def read_introduction(
    chunk: bytes, head: Head, shared_rsa: RsaKey | None, rsa_keys: Mapping[str, RsaKey]
) -> Introduction:
    """Read the first frame of a connection. Raises BodyError when it cannot be opened or understood."""
    plaintext, rsa, rsa_key_id = _opened(chunk, head, shared_rsa, rsa_keys)
    c2s = _parsed(head.fmt, plaintext).c2s
    secret, iv, cipher = _session(c2s, rsa)
    return Introduction(
        client_id=c2s.clientID,
        choices=InitChoices(c2s.clientVer, c2s.recvNotify, c2s.programmingLanguage or "Unknown", c2s.aiType),
        push_fmt=JSON if c2s.pushProtoFmt == JSON else PROTOBUF,
        cipher=cipher,
        rsa_key_id=rsa_key_id,
        fmt=head.fmt,
        serial=head.serial,
        _secret=secret,
        _iv=iv,
        _rsa=rsa,
    )


def _opened(
    chunk: bytes, head: Head, shared_rsa: RsaKey | None, rsa_keys: Mapping[str, RsaKey]
) -> tuple[bytes, RsaKey | None, str | None]:
    """In clear if the digest says so; else by the RSA key under which it does, which also tells who it is."""
    raw = chunk[head.start + HEADER_SIZE : head.stop]
    if frame.digest_matches(chunk, head):
        return raw, None, None
    candidates: list[tuple[str | None, RsaKey]] = list(rsa_keys.items())
    if shared_rsa is not None:
        candidates.append((None, shared_rsa))
    for key_id, rsa in candidates:
        try:
            plaintext = rsa.decrypt(raw)
        except WireError:
            continue
        if frame.digest(plaintext) == head.digest:
            return plaintext, rsa, key_id
    if candidates:
        raise _malformed("InitConnect is neither in clear nor encrypted with an RSA key of this listener")
    raise _malformed("InitConnect does not match its SHA-1; this listener has no RSA key for encrypted clients")


def _parsed(fmt: int, plaintext: bytes) -> Any:
    """Fields of newer clients are let be, since it is not passed on."""
    request: Any = body.parse("InitConnect.Request", fmt, plaintext, strict=False)
    if not request.IsInitialized():
        raise _malformed("InitConnect lacks `clientVer` or `clientID`")
    for name in ("clientID", "programmingLanguage"):
        if not isinstance(getattr(request.c2s, name), str):  # protobuf gives `bytes` for what is not UTF-8
            raise _malformed(f"`{name}` of InitConnect is not valid UTF-8")
    if request.c2s.packetEncAlgo not in _ALGORITHMS:
        raise _malformed(f"packetEncAlgo `{request.c2s.packetEncAlgo}` of InitConnect is not known")
    return request


def _session(c2s: Any, rsa: RsaKey | None) -> tuple[str, str, Cipher | None]:
    """The secret we hand out, its IV ("" unless CBC), and the cipher they make; without RSA there is none."""
    secret = new_session_secret()
    if rsa is None:
        return secret, "", None
    algorithm = Algorithm(c2s.packetEncAlgo) if c2s.HasField("packetEncAlgo") else Algorithm.FTAES_ECB
    iv = new_session_secret() if algorithm is Algorithm.AES_CBC else ""
    return secret, iv, session_cipher(algorithm, secret.encode(), iv.encode() or None)


def _malformed(message: str) -> BodyError:
    return BodyError("malformed_request", message)
