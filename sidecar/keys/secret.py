"""Plaintext keys and their hashes. Stores nothing: a plaintext lives where it is made and where a client sends it."""

from __future__ import annotations

import hashlib
import re
import secrets

PREFIX = "fc_"
_MD5_HEX = re.compile(r"[0-9a-fA-F]{32}")


def new_plaintext() -> str:
    """A new key: `fc_` and 64 hex digits (32 random bytes). SECURITY: show it once, never store or log it."""
    return PREFIX + secrets.token_bytes(32).hex()


def digest_of(plaintext: str) -> bytes:
    """SHA-256 of the plaintext. A plain hash is right for 32 random bytes; a slow one would be a lever against us."""
    return hashlib.sha256(plaintext.encode("utf-8", "surrogatepass")).digest()


def hash_of(plaintext: str) -> str:
    """What keys.json stores as `hash`: 64 lower-case hex digits."""
    return digest_of(plaintext).hex()


def ws_digest_of(md5_hex: str) -> bytes | None:
    """SHA-256 of the lower-case hex MD5 the official JavaScript SDK sends for a key; None when it is none."""
    if _MD5_HEX.fullmatch(md5_hex) is None:
        return None
    return hashlib.sha256(md5_hex.lower().encode("ascii")).digest()


def ws_hash_of(plaintext: str) -> str:
    """What keys.json stores as `ws_hash`, so that the key also works in the JavaScript SDK (protocol facts §3)."""
    # The MD5 is the SDK's wire form, not a protection; its own SHA-256 is what is stored.
    md5_hex = hashlib.md5(plaintext.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()
    return hashlib.sha256(md5_hex.encode("ascii")).hexdigest()
