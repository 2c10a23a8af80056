"""The 44-byte frame of OpenD's TCP protocol: bytes in, heads out, and frames built. No sockets, no meaning of bodies.

Layout (little-endian, packed): `FT`, u32 proto id, u8 body format, u8 version, u32 serial, u32 body length on the
wire, SHA-1 of the *plaintext* body, 8 reserved bytes, body (protocol facts, section 1).
"""

from __future__ import annotations

import struct
from hashlib import sha1
from typing import NamedTuple, cast

from sidecar.errors import WireError

HEADER = struct.Struct("<2sIBBII20s8s")
HEADER_SIZE = HEADER.size
MAGIC = b"FT"
MAX_SERIAL = 0xFFFF_FFFF

PROTOBUF = 0
JSON = 1

DEFAULT_REQUEST_CAP = 4 * 1024 * 1024
DEFAULT_REPLY_CAP = 64 * 1024 * 1024

_RESERVED = bytes(8)
_SERIAL = struct.Struct("<I")
_walk = struct.Struct("<2sIBxII").unpack_from  # all of the header but the digest
_DIGEST_AT = 16
_NO_RUNS: frozenset[int] = frozenset()
_new = tuple.__new__  # a third of what calling the NamedTuple costs, and there is one for every frame


class Head(NamedTuple):
    """One whole frame in a chunk: `chunk[start:stop]` is the frame, `chunk[start + 44:stop]` its body as sent."""

    proto_id: int
    fmt: int
    serial: int
    digest: bytes
    start: int
    stop: int


class Run(NamedTuple):
    """`frames` whole neighbouring frames: `chunk[start:stop]`."""

    frames: int
    start: int
    stop: int


class OversizedFrame(WireError):
    """A frame whose body is over the cap; its header is known, so it can be answered before the connection ends."""

    def __init__(self, proto_id: int, fmt: int, serial: int, message: str) -> None:
        super().__init__(message)
        self.proto_id = proto_id
        self.fmt = fmt
        self.serial = serial


class FrameReader:
    """Cuts a byte stream into frames, however it is split. `body_cap` is the largest body accepted, in bytes.

    After an error the reader must not be used again: the protocol has no way to resynchronise. `error` is set when whole
    frames came before the broken bytes: they are returned, and the error is raised by the next call.
    """

    __slots__ = ("_body_cap", "_need", "_parts", "_size", "error")

    def __init__(self, body_cap: int) -> None:
        self._body_cap = body_cap
        self._parts: list[bytes] = []
        self._size = 0
        self._need = HEADER_SIZE
        self.error: WireError | None = None

    @property
    def broken(self) -> bool:
        return self.error is not None

    def accept_up_to(self, body_cap: int) -> None:
        """Another largest body from now on, in bytes; for a frame that has begun the old one held."""
        self._body_cap = body_cap

    @property
    def buffered(self) -> int:
        """Bytes of an unfinished frame held back."""
        return self._size

    def receive(self, data: bytes) -> tuple[bytes, list[Head]]:
        """As `receive_runs`, every frame with a head of its own."""
        return cast("tuple[bytes, list[Head]]", self.receive_runs(data, _NO_RUNS))

    def receive_runs(self, data: bytes, runs: frozenset[int]) -> tuple[bytes, list[Head | Run]]:
        """Take what arrived; return the chunk the heads point into and every frame completed by it.

        Neighbouring frames whose ids are in `runs` come as one `Run`: looking at each costs several times its passing on.
        Raises WireError on a wrong magic or a body over the cap, both before the body has to arrive.
        """
        if self.error is not None:
            raise self.error
        if self._parts:
            self._parts.append(data)
            self._size += len(data)
            if self._size < self._need:
                return b"", []
            data = b"".join(self._parts)
            self._parts.clear()
        heads: list[Head | Run] = []
        position, end, cap = 0, len(data), self._body_cap
        run, count = 0, 0
        while end - position >= HEADER_SIZE:
            magic, proto_id, fmt, serial, length = _walk(data, position)
            if magic != MAGIC:
                return self._broken(_not_a_frame(data, position), data, heads)
            if length > cap:
                text = f"the body of request {proto_id} is {length} bytes long, the limit is {cap}"
                return self._broken(OversizedFrame(proto_id, fmt, serial, text), data, heads)
            stop = position + HEADER_SIZE + length
            if stop > end:
                break
            if proto_id in runs:
                if not count:
                    run = position
                count += 1
            else:
                if count:
                    heads.append(Run(count, run, position))
                    count = 0
                digest = data[position + _DIGEST_AT : position + _DIGEST_AT + 20]
                heads.append(_new(Head, (proto_id, fmt, serial, digest, position, stop)))
            position = stop
        if count:
            heads.append(Run(count, run, position))
        rest = end - position
        self._size = rest
        if rest:
            if rest >= 2 and data[position : position + 2] != MAGIC:
                return self._broken(_not_a_frame(data, position), data, heads)
            self._need = HEADER_SIZE if rest < HEADER_SIZE else HEADER_SIZE + _walk(data, position)[4]
            self._parts.append(data[position:] if position else data)
        return data, heads

    def _broken(self, error: WireError, data: bytes, heads: list[Head | Run]) -> tuple[bytes, list[Head | Run]]:
        self.error = error
        if not heads:
            raise error
        return data, heads


def _not_a_frame(data: bytes, position: int) -> WireError:
    return WireError(f"a frame must begin with `FT`, these bytes begin with `{data[position : position + 2].hex()}`")


def digest_matches(chunk: bytes, head: Head) -> bool:
    """Whether a clear body is the one its header promises."""
    return sha1(memoryview(chunk)[head.start + HEADER_SIZE : head.stop], usedforsecurity=False).digest() == head.digest


def digest(plaintext: bytes) -> bytes:
    """The SHA-1 that a header carries for its body."""
    return sha1(plaintext, usedforsecurity=False).digest()


def build(
    proto_id: int, serial: int, plaintext: bytes, *, fmt: int = PROTOBUF, ciphertext: bytes | None = None
) -> bytes:
    """One frame; the digest is of `plaintext`, the body on the wire is `ciphertext` where there is one."""
    body = plaintext if ciphertext is None else ciphertext
    digest = sha1(plaintext, usedforsecurity=False).digest()
    return HEADER.pack(MAGIC, proto_id, fmt, 0, serial, len(body), digest, _RESERVED) + body


def with_serial(frame: bytes, serial: int) -> bytes:
    """The same frame under another serial."""
    return frame[:8] + _SERIAL.pack(serial) + frame[12:]
