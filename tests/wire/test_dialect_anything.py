"""Whatever a client of REST or MCP sends is read as it was meant, or refused as malformed. Nothing else ever happens."""

from __future__ import annotations

import json
import random
from typing import Any

import orjson
import pytest
from dialect_messages import REQUESTS, RESPONSES, random_message, respelled, unwrapped
from google.protobuf import json_format
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sidecar.errors import BodyError
from sidecar.wire import dialect, packet_id
from sidecar.wire.catalog import CATALOG, MODIFY_ORDER, PLACE_COMBO_ORDER, PLACE_ORDER, QOT_SUB, Row
from sidecar.wire.dialect.names import names

SEEDS = st.integers(0, 2**32)
ROWS = st.sampled_from(REQUESTS)
FAVOURITES = st.sampled_from(
    [CATALOG[proto_id] for proto_id in (PLACE_ORDER, MODIFY_ORDER, PLACE_COMBO_ORDER, QOT_SUB)]
)
ANY_ROW = ROWS | FAVOURITES

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from(
        ["1", "-1", "1.5", "1e5", "1e999", "NaN", "BUY", "HK", "HK.00700", "US.", ".", "", "00", "\ud800", "AA=="]
    ),
    st.integers(10**300, 10**301),
)


def known_words() -> list[str]:
    words: set[str] = set()
    for row in REQUESTS:
        descriptor: Any = dialect.body._form(str(row.request)).fields
        words |= {spelling for name in names(descriptor) for spelling in name.spellings}
    return sorted(words)


KEYS = st.sampled_from(["c2s", "header", "security", "security_list", "acc_id", "accID", *known_words()]) | st.text(
    max_size=8
)
TREES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=5), max_leaves=25
)


def outcome(row: Row, tree: object) -> Any:
    """The message, or None where it was refused; any exception but BodyError fails the test."""
    try:
        message = dialect.read(row, tree, packet_id.lend)
    except BodyError as error:
        assert error.code in {"malformed_request", "unknown_field"}
        assert str(error).isprintable()
        assert len(str(error)) < 3000
        return None
    assert message.IsInitialized()
    return message


@settings(max_examples=400, deadline=None)
@given(ANY_ROW, TREES)
def test_any_tree_is_read_or_refused(row: Row, tree: object) -> None:
    outcome(row, tree)


@settings(max_examples=300, deadline=None)
@given(ANY_ROW, SEEDS, st.data())
def test_a_request_with_any_value_changed_is_read_or_refused(row: Row, seed: int, data: st.DataObject) -> None:
    outcome(row, mutated(dialect.write(random_message(str(row.request), seed)), data, TREES))


def mutated(tree: Any, data: st.DataObject, values: st.SearchStrategy[Any]) -> Any:
    """The tree with one of its values, found by walking down at random, replaced."""
    place: Any = None
    key: Any = None
    here = tree
    while isinstance(here, dict | list) and here and data.draw(st.integers(0, 5)):
        place = here
        key = (
            data.draw(st.sampled_from(sorted(here)))
            if isinstance(here, dict)
            else data.draw(st.integers(0, len(here) - 1))
        )
        here = here[key]
    if place is None:
        return data.draw(values)
    place[key] = data.draw(values)
    return tree


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60) | TREES.map(lambda tree: json.dumps(tree).encode()))
def test_any_text_is_a_tree_or_refused(raw: bytes) -> None:
    try:
        tree = dialect.tree_of(raw, 10_000)
    except BodyError as error:
        assert error.code == "malformed_request"
        assert str(error).isprintable()
        return
    assert tree == (json.loads(raw) if raw.strip() else {})
    json.dumps(tree, allow_nan=False)
    json.dumps(tree, ensure_ascii=False).encode()


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(ANY_ROW, SEEDS)
def test_what_is_written_is_read_again_in_every_spelling(row: Row, seed: int) -> None:
    message = random_message(str(row.request), seed)
    expected = type(message)()
    expected.CopyFrom(message)
    packet_id.lend(expected)
    rng = random.Random(seed)
    tree = respelled(dialect.write(message), message.DESCRIPTOR, rng)
    body = unwrapped(tree, message.DESCRIPTOR, rng)

    read = dialect.read(row, dialect.tree_of(json.dumps(body).encode(), 1_000_000), packet_id.lend)

    assert read == expected
    assert read.SerializeToString() == expected.SerializeToString()


@pytest.mark.parametrize("row", REQUESTS, ids=lambda row: row.name)
def test_every_request_of_the_catalog_is_read_in_every_spelling(row: Row) -> None:
    for seed in range(3):
        test_what_is_written_is_read_again_in_every_spelling.hypothesis.inner_test(row, seed)  # type: ignore[attr-defined]


@settings(max_examples=300, deadline=None)
@given(ANY_ROW, SEEDS, st.booleans())
def test_protobufs_own_json_is_read_as_protobuf_reads_it(row: Row, seed: int, as_in_proto: bool) -> None:
    message = random_message(str(row.request), seed)
    tree = json_format.MessageToDict(message, preserving_proto_field_name=as_in_proto)
    expected = json_format.ParseDict(tree, type(message)())
    packet_id.lend(expected)

    assert dialect.read(row, tree, packet_id.lend) == expected


ALIKE = st.one_of(
    st.booleans(),
    st.integers(-(2**66), 2**66),
    st.floats(),
    st.text("ab1 -", max_size=6),
    st.sampled_from(["1", "-1", "1.5", "1e5", "+1", " 1", "1_0", "0x1", "01", "1e999", "AA==", "AA", "-_8", "a"]),
)


@settings(max_examples=400, deadline=None)
@given(ANY_ROW, SEEDS, st.data())
def test_what_both_this_and_protobuf_read_they_read_alike(row: Row, seed: int, data: st.DataObject) -> None:
    message = random_message(str(row.request), seed)
    tree = mutated(json_format.MessageToDict(message, preserving_proto_field_name=True), data, ALIKE)
    try:
        theirs = json_format.ParseDict(tree, type(message)())
    except Exception:
        return
    packet_id.lend(theirs)
    ours = outcome(row, tree)
    assert ours is None or ours == theirs


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(RESPONSES), SEEDS)
def test_any_reply_is_written_as_json_that_holds_what_protobuf_would_write(name: str, seed: int) -> None:
    message = random_message(name, seed)
    written = json.loads(orjson.dumps(dialect.write(message)))

    theirs = json_format.MessageToDict(message, use_integers_for_enums=True, preserving_proto_field_name=True)
    assert same_names(written) == same_names(theirs)
    assert set(json.loads(orjson.dumps(dialect.envelope(message)))) == {"ret_type", "ret_msg", "err_code", "s2c"}


def same_names(tree: Any) -> Any:
    """With every name in snake_case, and without the empty lists that one writes and the other does not."""
    if isinstance(tree, dict):
        return {dialect.snake(name): same_names(value) for name, value in tree.items()}
    return [same_names(part) for part in tree] if isinstance(tree, list) else tree
