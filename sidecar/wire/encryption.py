"""The encryption of OpenD's TCP protocol: the session ciphers and InitConnect's RSA key. Keeps no connection state.

The protocol's ciphers are weak (fixed IV, ECB, RSA-1024, no authentication). They are here because clients speak them;
on a network that is not trusted, TLS has to go around them.
"""

from __future__ import annotations

import secrets
import string
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher as BlockCipher
from cryptography.hazmat.primitives.ciphers import algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7

from sidecar.errors import ConfigError, WireError

BLOCK = 16
SECRET_LENGTH = 16
RSA_BITS = 1024
RSA_PLAIN_CHUNK = 100
RSA_BLOCK = 128
RSA_MAX_BLOCKS = 64
"""SECURITY: one RSA block costs about 0.1 ms before anybody is known; an InitConnect needs two or three."""

_SECRET_ALPHABET = string.ascii_letters + string.digits
_PKCS7 = PKCS7(BLOCK * 8)


class Algorithm(IntEnum):
    """Common.PacketEncAlgo: what InitConnect.c2s.packetEncAlgo asks for. Absent means FTAES_ECB where RSA is in use."""

    FTAES_ECB = 0
    AES_ECB = 1
    AES_CBC = 2
    NONE = -1


class Cipher(Protocol):
    """The body cipher of one session; the same object serves both directions and every packet starts afresh."""

    def encrypt(self, plaintext: bytes) -> bytes: ...

    def decrypt(self, body: bytes) -> bytes:
        """Raises WireError on an impossible length or padding."""
        ...


class _Cbc:
    """AES-128-CBC, PKCS7, the session's one IV restarted for every packet (protocol facts, section 2)."""

    __slots__ = ("_aes",)

    def __init__(self, key: bytes, iv: bytes) -> None:
        self._aes = BlockCipher(algorithms.AES(key), modes.CBC(iv))

    def encrypt(self, plaintext: bytes) -> bytes:
        encryptor = self._aes.encryptor()
        return encryptor.update(_pad(plaintext)) + encryptor.finalize()

    def decrypt(self, body: bytes) -> bytes:
        _whole_blocks(body)
        decryptor = self._aes.decryptor()
        return _unpad(decryptor.update(body) + decryptor.finalize())


class _Ecb:
    """AES-128-ECB with PKCS7. The Python SDK has no such mode: the padding is likely, not verified against OpenD."""

    __slots__ = ("_aes",)

    def __init__(self, key: bytes) -> None:
        self._aes = _ecb(key)

    def encrypt(self, plaintext: bytes) -> bytes:
        encryptor = self._aes.encryptor()
        return encryptor.update(_pad(plaintext)) + encryptor.finalize()

    def decrypt(self, body: bytes) -> bytes:
        _whole_blocks(body)
        decryptor = self._aes.decryptor()
        return _unpad(decryptor.update(body) + decryptor.finalize())


class _FtEcb:
    """Futu's own AES-128-ECB: zeros up to whole blocks, then a block in clear whose last byte is `length % 16`."""

    __slots__ = ("_aes",)

    def __init__(self, key: bytes) -> None:
        self._aes = _ecb(key)

    def encrypt(self, plaintext: bytes) -> bytes:
        tail = len(plaintext) % BLOCK
        encryptor = self._aes.encryptor()
        padded = plaintext + bytes(BLOCK - tail) if tail else plaintext
        return encryptor.update(padded) + encryptor.finalize() + bytes(BLOCK - 1) + bytes((tail,))

    def decrypt(self, body: bytes) -> bytes:
        _whole_blocks(body)
        tail = body[-1]
        if tail >= BLOCK or (tail and len(body) == BLOCK):
            raise WireError("the trailer of an encrypted body names an impossible length")
        decryptor = self._aes.decryptor()
        padded = decryptor.update(body[:-BLOCK]) + decryptor.finalize()
        return padded[: len(padded) - BLOCK + tail] if tail else padded


def _ecb(key: bytes) -> BlockCipher[modes.ECB]:
    return BlockCipher(algorithms.AES(key), modes.ECB())  # noqa: S305 - the mode is the protocol's


def _whole_blocks(body: bytes) -> None:
    if not body or len(body) % BLOCK:
        raise WireError(f"an encrypted body must be a positive multiple of {BLOCK} bytes, this one has {len(body)}")


def _pad(plaintext: bytes) -> bytes:
    padder = _PKCS7.padder()
    return padder.update(plaintext) + padder.finalize()


def _unpad(padded: bytes) -> bytes:
    unpadder = _PKCS7.unpadder()
    try:
        return unpadder.update(padded) + unpadder.finalize()
    except ValueError:
        raise WireError(
            "the padding of an encrypted body is wrong; the two sides use different keys or modes"
        ) from None


def session_cipher(algorithm: int, key: bytes, iv: bytes | None) -> Cipher | None:
    """The cipher of a session, None where bodies travel in clear. `key` and `iv` are connAESKey and aesCBCiv as bytes.

    Only AES_CBC uses `iv`. Raises WireError for an unknown algorithm and for a key or IV that is not 16 bytes.
    """
    if algorithm == Algorithm.NONE:
        return None
    if len(key) != SECRET_LENGTH:
        raise WireError(f"a session key must be {SECRET_LENGTH} bytes, this one has {len(key)}")
    if algorithm == Algorithm.FTAES_ECB:
        return _FtEcb(key)
    if algorithm == Algorithm.AES_ECB:
        return _Ecb(key)
    if algorithm == Algorithm.AES_CBC:
        if iv is None or len(iv) != SECRET_LENGTH:
            found = "none" if iv is None else str(len(iv))
            raise WireError(f"AES-CBC needs an IV of {SECRET_LENGTH} bytes, got {found}")
        return _Cbc(key, iv)
    raise WireError(f"unknown packet encryption algorithm `{algorithm}`; known are 0, 1, 2 and -1")


def new_session_secret() -> str:
    """A fresh connAESKey or aesCBCiv: 16 ASCII characters, about 95 bits."""
    return "".join(secrets.choice(_SECRET_ALPHABET) for _ in range(SECRET_LENGTH))


@dataclass(frozen=True, slots=True)
class RsaKey:
    """The private key that client and OpenD share; it encrypts InitConnect, request and reply, and nothing else.

    Both sides use one private key file: its public part encrypts, its private part decrypts (protocol facts,
    section 2).
    """

    _private: rsa.RSAPrivateKey = field(repr=False)
    _public: rsa.RSAPublicKey = field(repr=False)

    @classmethod
    def load(cls, path: str | Path) -> RsaKey:
        """Raises ConfigError, naming the file, when it cannot be read or used."""
        try:
            pem = Path(path).read_bytes()
        except OSError as error:
            raise ConfigError(f"cannot read the RSA key `{path}`: {(error.strerror or str(error)).lower()}") from None
        try:
            return cls.from_pem(pem)
        except ConfigError as error:
            raise ConfigError(f"the RSA key `{path}` cannot be used: {error}") from None

    @classmethod
    def from_pem(cls, pem: bytes) -> RsaKey:
        """From PKCS#1 (what OpenD and the SDKs use) or PKCS#8, without a passphrase. Raises ConfigError."""
        try:
            private = serialization.load_pem_private_key(pem, password=None)
        except TypeError:
            raise ConfigError("it is protected by a passphrase; OpenD's clients need it without one") from None
        except (ValueError, UnsupportedAlgorithm):
            raise ConfigError("it is not a private key in PEM form (PKCS#1 or PKCS#8)") from None
        if not isinstance(private, rsa.RSAPrivateKey):
            raise ConfigError("it is not an RSA key")
        if private.key_size != RSA_BITS:
            raise ConfigError(
                f"it has {private.key_size} bits, the protocol needs {RSA_BITS}; "
                f"make one with `openssl genrsa -traditional {RSA_BITS}`"
            )
        return cls(private, private.public_key())

    @staticmethod
    def generate_pem() -> bytes:
        """A new key as a PKCS#1 PEM file, for demonstrations and tests."""
        key = rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS)
        return key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )

    def encrypt(self, plaintext: bytes) -> bytes:
        """PKCS#1 v1.5, a block of 128 bytes for every 100 of plaintext."""
        scheme = padding.PKCS1v15()
        return b"".join(
            self._public.encrypt(plaintext[start : start + RSA_PLAIN_CHUNK], scheme)
            for start in range(0, len(plaintext), RSA_PLAIN_CHUNK)
        )

    def decrypt(self, body: bytes) -> bytes:
        """The plaintext, or for a body of another key either WireError or meaningless bytes: check the header's SHA-1.

        SECURITY: every block is tried and one message covers all failures, so that the answer does not tell which
        block or what in it was wrong. (Newer OpenSSL answers bad padding with random bytes, for the same reason.)
        """
        if not body or len(body) % RSA_BLOCK or len(body) > RSA_MAX_BLOCKS * RSA_BLOCK:
            raise WireError(
                f"an RSA-encrypted body must be 1 to {RSA_MAX_BLOCKS} blocks of {RSA_BLOCK} bytes, "
                f"this one has {len(body)} bytes"
            )
        scheme = padding.PKCS1v15()
        parts: list[bytes] = []
        broken = False
        for start in range(0, len(body), RSA_BLOCK):
            try:
                parts.append(self._private.decrypt(body[start : start + RSA_BLOCK], scheme))
            except ValueError:
                broken = True
        if broken:
            raise WireError("the body is not encrypted with this RSA key")
        return b"".join(parts)
