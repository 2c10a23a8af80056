"""The TCP frame: cutting the stream however it is split, refusing what is not the protocol, building frames."""

from __future__ import annotations

import time
from hashlib import sha1
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.errors import WireError
from sidecar.wire import frame
from sidecar.wire.frame import HEADER_SIZE, FrameReader, OversizedFrame
from sidecar.wire.messages import message_class

CAP = 1000

# The first frame of the official Python SDK: InitConnect, serial 8311, with a client id of 52 characters.
CLIENT_ID = b"key_live_" + b"A" * 43
SDK_BODY = (
    bytes.fromhex("0a52 08ac02 1234") + CLIENT_ID + bytes.fromhex("1801 20ffffffffffffffffff01 2800 3206") + b"Python"
    b"\x38\x00"
)
SDK_HEAD = bytes.fromhex("4654 e9030000 00 00 77200000 54000000") + sha1(SDK_BODY).digest() + bytes(8)
SDK_FRAME = SDK_HEAD + SDK_BODY


def frames() -> st.SearchStrategy[list[tuple[int, int, int, bytes]]]:
    one = st.tuples(
        st.integers(0, 0xFFFF_FFFF), st.integers(0, 255), st.integers(0, 0xFFFF_FFFF), st.binary(max_size=200)
    )
    return st.lists(one, max_size=6)


def pieces(stream: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    return [stream[a:b] for a, b in pairwise(edges)]


def read(reader: FrameReader, parts: list[bytes]) -> list[tuple[int, int, int, bytes, bytes]]:
    out = []
    for part in parts:
        chunk, heads = reader.receive(part)
        for head in heads:
            body = chunk[head.start + HEADER_SIZE : head.stop]
            out.append((head.proto_id, head.fmt, head.serial, head.digest, body))
    return out


@given(frames(), st.lists(st.integers(0, 5000), max_size=12))
def test_any_split_of_the_stream_gives_the_same_frames(
    sent: list[tuple[int, int, int, bytes]], cuts: list[int]
) -> None:
    stream = b"".join(frame.build(proto, serial, body, fmt=fmt) for proto, fmt, serial, body in sent)
    reader = FrameReader(CAP)
    got = read(reader, pieces(stream, cuts))
    assert got == [(proto, fmt, serial, sha1(body).digest(), body) for proto, fmt, serial, body in sent]
    assert reader.buffered == 0


@given(frames(), st.integers(0, 5000))
def test_what_is_held_back_is_exactly_the_unfinished_frame(sent: list[tuple[int, int, int, bytes]], cut: int) -> None:
    built = [frame.build(proto, serial, body, fmt=fmt) for proto, fmt, serial, body in sent]
    stream = b"".join(built)
    cut %= len(stream) + 1
    whole, count = 0, 0
    for one in built:
        if whole + len(one) > cut:
            break
        whole, count = whole + len(one), count + 1
    reader = FrameReader(CAP)
    _, heads = reader.receive(stream[:cut])
    assert len(heads) == count
    assert reader.buffered == cut - whole


def test_heads_cover_the_chunk_without_gap_so_that_it_may_be_forwarded_as_a_whole() -> None:
    stream = frame.build(1, 1, b"a") + frame.build(2, 2, b"") + frame.build(3, 3, b"bcd")
    chunk, heads = FrameReader(CAP).receive(stream + SDK_FRAME[:20])
    assert heads[0].start == 0
    assert [head.start for head in heads[1:]] == [head.stop for head in heads[:-1]]
    assert chunk[: heads[-1].stop] == stream


@given(frames(), st.binary(min_size=2, max_size=60).filter(lambda junk: junk[:2] != b"FT"))
def test_wrong_magic_after_any_number_of_frames_is_refused_with_its_first_bytes(
    sent: list[tuple[int, int, int, bytes]], junk: bytes
) -> None:
    stream = b"".join(frame.build(proto, serial, body, fmt=fmt) for proto, fmt, serial, body in sent)
    reader = FrameReader(CAP)
    if sent:
        _, heads = reader.receive(stream + junk)
        assert len(heads) == len(sent)  # what came whole before the junk is not lost with it
    with pytest.raises(WireError, match=f"`{junk[:2].hex()}`"):
        reader.receive(b"" if sent else junk)


@given(st.binary(min_size=44, max_size=80).filter(lambda junk: junk[:2] != b"FT"), st.lists(st.integers(0, 99)))
def test_wrong_magic_in_pieces_is_refused_at_the_latest_when_a_header_is_there(junk: bytes, cuts: list[int]) -> None:
    with pytest.raises(WireError, match="must begin with `FT`"):
        read(FrameReader(CAP), pieces(junk[:44], cuts))


def test_another_protocol_is_refused_with_its_first_line() -> None:
    with pytest.raises(WireError, match="`4745`"):
        FrameReader(CAP).receive(b"GET / HTTP/1.1\r\n")


@pytest.mark.parametrize("arrived", [HEADER_SIZE, HEADER_SIZE + 1])
def test_a_body_over_the_cap_is_refused_before_it_arrives_and_says_how_long_it_would_be(arrived: int) -> None:
    reader = FrameReader(CAP)
    reader.receive(SDK_FRAME)
    over = frame.build(2202, 5, bytes(CAP + 1), fmt=frame.JSON)
    with pytest.raises(OversizedFrame, match="request 2202 is 1001 bytes long, the limit is 1000") as caught:
        reader.receive(over[:arrived])
    assert (caught.value.proto_id, caught.value.fmt, caught.value.serial) == (2202, frame.JSON, 5)  # to answer it


def test_a_length_of_four_gigabytes_costs_nothing() -> None:
    head = frame.HEADER.pack(b"FT", 2202, 0, 0, 1, 0xFFFF_FFFF, bytes(20), bytes(8))
    reader = FrameReader(frame.DEFAULT_REPLY_CAP)
    with pytest.raises(WireError, match="4294967295"):
        reader.receive(head)
    assert reader.buffered == 0


def test_a_body_of_exactly_the_cap_passes() -> None:
    _, heads = FrameReader(CAP).receive(frame.build(1, 1, bytes(CAP)))
    assert len(heads) == 1


def test_a_drip_of_single_bytes_is_not_quadratic() -> None:
    body = bytes(512 * 1024)
    stream = frame.build(3203, 1, body)
    reader = FrameReader(len(body))
    parts = [stream[i : i + 1] for i in range(len(stream))]
    began = time.process_time()
    got = [heads for part in parts if (heads := reader.receive(part)[1])]
    # linear: a tenth of a second; copying what is there on every byte: 137 GB
    assert time.process_time() - began < 4
    assert [head.stop for heads in got for head in heads] == [len(stream)]


def test_the_official_sdks_first_frame_is_read_as_it_is() -> None:
    chunk, heads = FrameReader(CAP).receive(SDK_FRAME)
    (head,) = heads
    assert (head.proto_id, head.fmt, head.serial) == (1001, frame.PROTOBUF, 8311)
    assert (head.start, head.stop) == (0, 44 + 84)
    assert frame.digest_matches(chunk, head)
    request: Any = message_class("InitConnect.Request").FromString(chunk[44:])
    assert request.c2s.clientID == CLIENT_ID.decode()
    assert (request.c2s.clientVer, request.c2s.packetEncAlgo, request.c2s.recvNotify) == (300, -1, True)


def test_a_frame_built_is_the_one_the_official_sdk_builds() -> None:
    assert frame.build(1001, 8311, SDK_BODY) == SDK_FRAME


def test_a_changed_body_does_not_match_its_digest() -> None:
    changed = SDK_FRAME[:-1] + b"\x01"
    chunk, (head,) = FrameReader(CAP).receive(changed)
    assert not frame.digest_matches(chunk, head)


def test_an_encrypted_frame_carries_the_ciphertexts_length_and_the_plaintexts_digest() -> None:
    built = frame.build(2202, 7, b"plain", ciphertext=b"0123456789abcdef")
    chunk, (head,) = FrameReader(CAP).receive(built)
    assert chunk[44:] == b"0123456789abcdef"
    assert head.digest == sha1(b"plain").digest() == frame.digest(b"plain")
    assert not frame.digest_matches(chunk, head)


@given(st.integers(0, 0xFFFF_FFFF), st.integers(0, 0xFFFF_FFFF))
def test_another_serial_changes_nothing_else(first: int, second: int) -> None:
    assert frame.with_serial(frame.build(1002, first, b"body", fmt=1), second) == frame.build(
        1002, second, b"body", fmt=1
    )


@given(frames(), st.sets(st.integers(0, 5000)), st.lists(st.integers(0, 400)))
def test_frames_passed_in_runs_are_the_same_frames(
    sent: list[tuple[int, int, int, bytes]], chosen: set[int], cuts: list[int]
) -> None:
    runs = frozenset(proto for proto, *_ in sent if proto % 2) | chosen
    stream = b"".join(frame.build(proto, serial, body, fmt=fmt) for proto, fmt, serial, body in sent)
    reader, passed, seen = FrameReader(CAP), b"", []
    for piece in pieces(stream, cuts):
        chunk, items = reader.receive_runs(piece, runs)
        for item in items:
            passed += chunk[item.start : item.stop]
            seen += [True] * item.frames if isinstance(item, frame.Run) else [False]
    assert passed == stream
    assert seen == [proto in runs for proto, *_ in sent]
