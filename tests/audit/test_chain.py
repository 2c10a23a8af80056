"""A line covers every byte of itself and names the one before it."""

from __future__ import annotations

import json
import re
from hashlib import sha256

from audit_making import chain, record
from hypothesis import given
from hypothesis import strategies as st

from sidecar.audit.chain import GENESIS, link, read_link


def test_lines_are_numbered_and_each_names_the_one_before() -> None:
    lines, head = chain(3)
    read = [json.loads(line) for line in lines]
    assert [line["seq"] for line in read] == [1, 2, 3]
    assert read[0]["prev"] == GENESIS.hash
    assert [line["prev"] for line in read[1:]] == [line["hash"] for line in read[:-1]]
    assert head == (3, read[-1]["hash"])


def test_a_hash_can_be_checked_without_this_program() -> None:
    """SHA-256 over the line without its hash member, as the module says."""
    (line,), _ = chain(1)
    without = re.sub(rb',"hash":"[0-9a-f]{64}"}\n$', b"}", line)
    assert sha256(without).hexdigest() == json.loads(line)["hash"]


def test_a_line_says_where_it_belongs() -> None:
    lines, head = chain(2)
    first, second = (read_link(line[:-1]) for line in lines)
    assert first is not None
    assert second is not None
    assert second.follows(first.head)
    assert not first.follows(second.head)
    assert second.head == head


@given(data=st.data(), text=st.text(max_size=30))
def test_any_changed_byte_is_found(data: st.DataObject, text: str) -> None:
    line = link(record(message=text).fields(), GENESIS)[0][:-1]
    position = data.draw(st.integers(0, len(line) - 1))
    value = data.draw(st.integers(0, 255).filter(lambda value: value != line[position]))
    assert read_link(line[:position] + bytes([value]) + line[position + 1 :]) is None


@given(st.binary(max_size=300))
def test_anything_else_is_no_line(data: bytes) -> None:
    assert read_link(data) is None


@given(text=st.text(max_size=50))
def test_text_that_looks_like_the_end_of_a_line_does_not_confuse(text: str) -> None:
    fake = f'","seq":5,"prev":"{"0" * 64}","hash":"{"0" * 64}"}}'
    line, head = link(record(message=text + fake).fields(), GENESIS)
    found = read_link(line[:-1])
    assert found is not None
    assert found.head == head
