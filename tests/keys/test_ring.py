"""Keys in force: found by secret, judged for standing, replaced only by better ones."""

from __future__ import annotations

import hashlib
import json
import timeit
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.errors import ConfigError
from sidecar.keys.file import load
from sidecar.keys.machine import fingerprint
from sidecar.keys.ring import KeyStore, ReloadResult, Ring, address_in, standing
from sidecar.keys.secret import digest_of, hash_of, new_plaintext, ws_digest_of, ws_hash_of
from sidecar.policy.decision import Code
from sidecar.policy.key import Key, Scope

NOW = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
SCOPES = frozenset({Scope.QOT_READ})


def write(path: Path, *records: dict[str, Any]) -> None:
    path.write_text(json.dumps({"version": 1, "keys": list(records)}))
    path.chmod(0o600)


def record(key_id: str, plaintext: str, **fields: Any) -> dict[str, Any]:
    return {"id": key_id, "hash": hash_of(plaintext), "scopes": ["qot:read"], **fields}


def ring_of(tmp_path: Path, *records: dict[str, Any]) -> Ring:
    write(tmp_path / "keys.json", *records)
    loaded = load(tmp_path / "keys.json", None)
    return Ring(loaded.records, loaded.revision)


def md5(plaintext: str) -> str:
    return hashlib.md5(plaintext.encode()).hexdigest()


def code(key: Key | None, **given: Any) -> Code | None:
    refusal = standing(key, **{"now": NOW, "address": "127.0.0.1", "machine_id": "machine", **given})
    return None if refusal is None else refusal.code


# -- finding -----------------------------------------------------------------------------------------------------


def test_a_key_is_found_by_its_plaintext_and_by_nothing_else(tmp_path: Path) -> None:
    ring = ring_of(tmp_path, record("one", "fc_one"), record("two", "fc_two"))
    assert ring.find("fc_two") is ring.get("two")
    assert ring.find_digest(digest_of("fc_two")) is ring.get("two")
    for wrong in ("", "fc_", "fc_two ", "FC_TWO", hash_of("fc_two"), "two", "fc_\udcff", "\0"):
        assert ring.find(wrong) is None
    assert ring.get("three") is None
    assert [key.id for key in tuple(ring.keys())] == ["one", "two"]
    assert len(ring) == 2


def test_the_javascript_sdk_finds_its_key_by_md5_where_the_record_has_a_ws_hash(tmp_path: Path) -> None:
    with_hash = record("new", "fc_new", ws_hash=f"sha256:{ws_hash_of('fc_new')}")
    ring = ring_of(tmp_path, with_hash, record("old", "fc_old"))
    assert ring.find_ws(md5("fc_new")) is ring.get("new")
    digest = ws_digest_of(md5("fc_new"))
    assert digest is not None
    assert ring.find_ws_digest(digest) is ring.get("new")
    assert ring.find_ws(md5("fc_old")) is None
    assert ring.find_ws("") is None
    assert ring.find_ws("fc_new") is None


def test_an_md5_is_no_key_on_the_other_listeners_nor_a_key_an_md5(tmp_path: Path) -> None:
    ring = ring_of(tmp_path, record("new", "fc_new", ws_hash=ws_hash_of("fc_new")))
    assert ring.find(md5("fc_new")) is None
    assert ring.find_ws(hash_of("fc_new")) is None


# -- standing ----------------------------------------------------------------------------------------------------


def test_a_plain_key_is_in_good_standing() -> None:
    assert code(Key("bot", SCOPES)) is None


@pytest.mark.parametrize("absent", [Code.KEY_MISSING, Code.KEY_UNKNOWN, Code.KEY_REVOKED])
def test_no_key_is_refused_with_the_code_the_caller_knows(absent: Code) -> None:
    assert code(None, absent=absent) is absent
    assert code(None) is Code.KEY_UNKNOWN


def test_a_key_expires_at_its_very_moment() -> None:
    key = Key("bot", SCOPES, expires_at=NOW)
    assert code(key, now=NOW - timedelta(microseconds=1)) is None
    assert code(key, now=NOW) is Code.KEY_EXPIRED
    assert code(key, now=NOW.astimezone(ZoneInfo("Asia/Hong_Kong"))) is Code.KEY_EXPIRED


def test_a_frozen_key_is_frozen_on_every_machine() -> None:
    assert code(Key("bot", SCOPES, allowed_machines=frozenset())) is Code.KEY_FROZEN
    assert code(Key("bot", SCOPES, allowed_machines=frozenset()), machine_id=None) is Code.KEY_FROZEN


def test_a_bound_key_works_on_its_machines_only() -> None:
    key = Key("bot", SCOPES, allowed_machines=frozenset({fingerprint("bot", "here"), fingerprint("bot", "there")}))
    assert code(key, machine_id="here") is None
    assert code(key, machine_id="there") is None
    assert code(key, machine_id="elsewhere") is Code.MACHINE_NOT_ALLOWED
    assert code(key, machine_id=None) is Code.MACHINE_NOT_ALLOWED


def test_the_fingerprint_of_another_key_does_not_count() -> None:
    key = Key("bot", SCOPES, allowed_machines=frozenset({fingerprint("other", "here")}))
    assert code(key, machine_id="here") is Code.MACHINE_NOT_ALLOWED


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("10.0.0.7", True),
        ("10.0.1.7", False),
        ("::ffff:10.0.0.7", True),
        ("fd00::1", True),
        ("fe80::1%eth0", True),
        ("::1", False),
        ("", False),
        ("localhost", False),
        ("10.0.0.7:80", False),
        ("010.0.0.7", False),
    ],
)
def test_a_key_with_addresses_works_from_them_only(address: str, allowed: bool) -> None:
    key = Key("bot", SCOPES, allowed_ips=("10.0.0.0/24", "fd00::/8", "fe80::/10"))
    assert code(key, address=address) is (None if allowed else Code.IP_NOT_ALLOWED)


def test_the_first_failing_check_answers() -> None:
    key = Key("bot", SCOPES, expires_at=NOW, allowed_machines=frozenset(), allowed_ips=("10.0.0.0/8",))
    assert code(key) is Code.KEY_EXPIRED
    assert code(key, now=NOW - timedelta(days=1)) is Code.KEY_FROZEN


def test_refusals_without_a_valid_key_say_nothing_of_the_record() -> None:
    key = Key("secret-name", SCOPES, expires_at=NOW, note="secret-note", allowed_ips=("10.9.8.7/32",))
    for now in (NOW, NOW - timedelta(days=1)):
        refusal = standing(key, now=now, address="1.2.3.4", machine_id=None)
        assert refusal is not None
        assert not any(part in refusal.message for part in ("secret", "2026", "10.9", "1.2.3"))


@given(st.ip_addresses(), st.ip_addresses())
def test_an_address_is_always_inside_its_own_network_and_no_other_single_one(one: Any, other: Any) -> None:
    # An IPv4 address in IPv6 clothes is IPv4, and keys.json refuses networks written so.
    own = getattr(one, "ipv4_mapped", None) or one
    assert address_in((str(own),), str(one))
    assert address_in((str(own),), str(other)) is (own == (getattr(other, "ipv4_mapped", None) or other))


def test_standing_is_cheap_enough_for_every_request() -> None:
    key = Key("bot", SCOPES, expires_at=NOW + timedelta(days=1), allowed_ips=("127.0.0.0/8",))
    rounds = 20_000
    check = timeit.repeat(lambda: standing(key, now=NOW, address="127.0.0.1", machine_id="m"), number=rounds, repeat=5)
    assert min(check) / rounds < 20e-6  # it takes under 1 µs; the bound only catches parsing at every request


# -- the store ---------------------------------------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "keys.json"
    write(made, record("one", "fc_one"), record("two", "fc_two"))
    return made


def store_of(path: Path, clock: Callable[[], float] | None = None) -> KeyStore:
    return KeyStore(path, None, 600.0, clock or Clock())


def test_without_a_good_file_there_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        store_of(tmp_path / "none.json")


def test_a_reload_says_what_changed_and_tells_the_listeners(path: Path) -> None:
    store = store_of(path)
    heard: list[ReloadResult] = []
    rings: list[Ring] = []
    store.on_change(heard.append)
    store.on_change(lambda result: rings.append(store.ring))
    before = store.ring
    write(path, record("two", "fc_two", note="changed"), record("three", "fc_three"))
    result = store.reload()
    assert result.ok
    assert (result.added, result.removed, result.changed) == (("three",), ("one",), ("two",))
    assert result.revision == store.ring.revision != before.revision
    assert heard == [result]
    assert rings == [store.ring]
    assert store.ring.find("fc_one") is None
    assert before.find("fc_one") is not None  # a ring never changes


def test_a_new_secret_under_an_old_id_is_a_change(path: Path) -> None:
    store = store_of(path)
    write(path, record("one", "fc_one"), record("two", "fc_stronger"))
    assert store.reload().changed == ("two",)
    assert store.ring.find_digest(digest_of("fc_two")) is None


def test_an_unchanged_file_tells_nobody(path: Path) -> None:
    store = store_of(path)
    store.on_change(lambda result: pytest.fail("nothing changed"))
    ring = store.ring
    assert store.reload().ok
    assert store.ring is ring


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.unlink(),
        lambda path: path.write_text("{"),
        lambda path: path.chmod(0o666),
        lambda path: write(path, record("one", "fc_one", max_order_value=-1)),
    ],
    ids=["missing", "broken", "open to others", "wrong"],
)
def test_a_file_gone_bad_keeps_the_last_good_keys_and_says_so(path: Path, spoil: Callable[[Path], None]) -> None:
    clock = Clock()
    store = store_of(path, clock)
    store.on_change(lambda result: pytest.fail("nothing was put in force"))
    ring = store.ring
    spoil(path)
    result = store.reload()
    assert not result.ok
    assert f"the keys of revision {ring.revision[:12]} stay in force" in result.message
    assert str(path) in result.message
    assert store.ring is ring
    assert store.broken_since == 1000.0


def test_keys_are_stale_once_the_file_was_broken_for_longer_than_allowed(path: Path) -> None:
    clock = Clock()
    store = store_of(path, clock)
    assert not store.stale(1e9)
    good = path.read_text()
    path.write_text("{")
    store.reload()
    clock.now += 300
    store.reload()  # still broken: the time is counted from the first failure
    assert not store.stale(1600.0)
    assert store.stale(1600.001)
    path.write_text(good)
    assert store.reload().ok
    assert store.broken_since is None
    assert not store.stale(1e9)


def test_a_listener_that_fails_keeps_neither_the_keys_nor_the_other_listeners_back(path: Path) -> None:
    store = store_of(path)
    heard: list[ReloadResult] = []

    def fails(result: ReloadResult) -> None:
        raise RuntimeError("listener")

    store.on_change(fails)
    store.on_change(heard.append)
    write(path, record("three", "fc_three"))
    with pytest.raises(ExceptionGroup, match="listeners to a change of keys"):
        store.reload()
    assert len(heard) == 1
    assert store.ring.find("fc_three") is not None


def test_every_new_key_is_different_and_says_what_it_is() -> None:
    made = {new_plaintext() for _ in range(100)}
    assert len(made) == 100
    assert all(len(one) == 3 + 64 and one.startswith("fc_") for one in made)
