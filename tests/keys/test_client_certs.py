"""client_certs: which certificates may stand in a record, and whose key a certificate is from then on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sidecar.errors import ConfigError
from sidecar.grants import Caller, Grant, Grants
from sidecar.keys.file import load
from sidecar.keys.ring import KeyStore
from sidecar.keys.secret import hash_of, ws_hash_of
from sidecar.policy.decision import Code, Refusal

ONE, TWO = "0a" * 32, "0b" * 32
FIRST, SECOND = bytes.fromhex(ONE), bytes.fromhex(TWO)


def write(path: Path, *records: dict[str, Any]) -> Path:
    path.write_text(json.dumps({"version": 1, "keys": list(records)}))
    path.chmod(0o600)
    return path


def record(key_id: str, **fields: Any) -> dict[str, Any]:
    secret = f"fc_{key_id}"
    return {"id": key_id, "hash": hash_of(secret), "ws_hash": ws_hash_of(secret), "scopes": ["qot:read"], **fields}


class World:
    """Keys in force, and who is let in."""

    def __init__(self, path: Path, *records: dict[str, Any]) -> None:
        self.path = path
        self.store = KeyStore(write(path, *records), None, 600, lambda: 0.0)
        self.grants = Grants(self.store, machine_id=None)

    def change(self, *records: dict[str, Any]) -> None:
        write(self.path, *records)
        assert self.store.reload().ok

    def admits(self, caller: Caller) -> str:
        """The key's id, or the code of the refusal."""
        found = self.grants.of(caller)
        return found.key.id if isinstance(found, Grant) else found.code.value

    def certified(self, digest: bytes) -> Caller:
        return self.grants.identify_certificate("rest", digest, "127.0.0.1")

    def both(self, secret: str, digest: bytes) -> Caller:
        return self.grants.identify("rest", secret, "127.0.0.1", digest)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


# -- the field ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [ONE, ONE.upper(), f"sha256:{ONE}", ":".join(["0A"] * 32)])
def test_a_fingerprint_is_written_as_people_find_it(path: Path, text: str) -> None:
    (stored,) = load(write(path, record("bot", client_certs=[text])), None).records
    assert stored.client_certs == {FIRST}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([], "the list is empty: it would name no client"),
        (ONE, "is not a list"),
        (["0a" * 20], "is not the SHA-256 of a certificate (64 hex digits); `openssl x509"),
        ([5], "is not text"),
    ],
)
def test_what_is_no_fingerprint_is_refused_with_what_to_do(path: Path, value: object, said: str) -> None:
    with pytest.raises(ConfigError, match="key `bot`, field `client_certs`") as refused:
        load(write(path, record("bot", client_certs=value)), None)
    assert said in str(refused.value)


def test_null_is_absent(path: Path) -> None:
    (stored,) = load(write(path, record("bot", client_certs=None)), None).records
    assert stored.client_certs == frozenset()


def test_one_certificate_cannot_be_two_keys(path: Path) -> None:
    with pytest.raises(ConfigError, match="is also listed for key `one`"):
        load(
            write(path, record("one", client_certs=[ONE]), record("two", client_certs=[f"sha256:{ONE.upper()}"])), None
        )


def test_it_is_no_limit_and_stands_on_the_record_itself(path: Path) -> None:
    with pytest.raises(ConfigError, match="does not belong into `limits`"):
        load(write(path, record("bot", limits={"client_certs": [ONE]})), None)


# -- who is let in -----------------------------------------------------------------------------------------------


def test_a_listed_certificate_is_its_key(path: Path) -> None:
    world = World(path, record("one", client_certs=[ONE]), record("two", client_certs=[TWO]))
    assert [world.admits(world.certified(each)) for each in (FIRST, SECOND)] == ["one", "two"]


def test_a_certificate_that_no_key_lists_is_told_its_fingerprint(path: Path) -> None:
    world = World(path, record("one"))
    refusal = world.grants.of(world.certified(FIRST))
    assert isinstance(refusal, Refusal)
    assert refusal.code is Code.KEY_UNKNOWN
    assert ONE in refusal.message


def test_the_secret_goes_on_working_beside_the_certificate_and_without_it(path: Path) -> None:
    world = World(path, record("one", client_certs=[ONE]))
    assert world.admits(world.both("fc_one", FIRST)) == "one"
    assert world.admits(world.grants.identify("rest", "fc_one", "127.0.0.1")) == "one"


def test_a_certificate_and_a_secret_must_be_one_key(path: Path) -> None:
    world = World(path, record("one", client_certs=[ONE]), record("two"))
    good, bad = world.grants.of(world.both("fc_two", FIRST)), world.grants.of(world.both("fc_nobody", FIRST))
    assert isinstance(good, Refusal)
    assert good.code is Code.KEY_UNKNOWN
    assert good == bad, "whether the secret is that of a key is not told"


def test_a_certificate_that_no_key_lists_leaves_it_to_the_secret(path: Path) -> None:
    world = World(path, record("one", client_certs=[ONE]))
    assert world.admits(world.both("fc_one", SECOND)) == "one"


def test_an_md5_and_a_certificate_must_be_one_key_too(path: Path) -> None:
    from hashlib import md5

    world = World(path, record("one", client_certs=[ONE]), record("two"))
    for name, wanted in (("one", "one"), ("two", "key_unknown")):
        shown = md5(f"fc_{name}".encode()).hexdigest()
        assert world.admits(world.grants.identify_md5("ws", shown, "127.0.0.1", FIRST)) == wanted


def test_a_key_bound_to_a_listener_and_a_certificate_of_another_key_do_not_go_together(path: Path) -> None:
    world = World(path, record("one", client_certs=[ONE]), record("two"))
    assert world.admits(Caller("tcp", "two", "127.0.0.1", certificate=FIRST)) == "key_unknown"
    assert world.admits(Caller("tcp", "two", "127.0.0.1", certificate=SECOND)) == "two"
    assert world.admits(Caller("tcp", "one", "127.0.0.1", certificate=FIRST)) == "one"


# -- and after a reload ------------------------------------------------------------------------------------------


def test_a_certificate_that_is_taken_off_the_record_ends_its_connections(path: Path) -> None:
    world = World(path, record("one", client_certs=[ONE]))
    standing = world.certified(FIRST)
    world.change(record("one"))
    assert world.admits(standing) == "key_revoked"


def test_a_connection_does_not_move_to_another_key_with_its_certificate(path: Path) -> None:
    world = World(path, record("one", client_certs=[ONE]), record("two"))
    standing = world.certified(FIRST)
    world.change(record("one"), record("two", client_certs=[ONE]))
    assert world.admits(standing) == "key_revoked"
    assert world.admits(world.certified(FIRST)) == "two"


def test_a_connection_by_secret_ends_when_its_certificate_becomes_another_keys(path: Path) -> None:
    world = World(path, record("one"), record("two"))
    standing = world.both("fc_one", FIRST)
    world.change(record("one"), record("two", client_certs=[ONE]))
    assert world.admits(standing) == "key_unknown"


def test_a_certificate_that_is_listed_later_is_good_from_then_on(path: Path) -> None:
    world = World(path, record("one"))
    waiting = world.certified(FIRST)
    assert world.admits(waiting) == "key_unknown"
    world.change(record("one", client_certs=[ONE]))
    assert world.admits(waiting) == "one"


def test_a_new_secret_does_not_end_what_the_certificate_opened(path: Path) -> None:
    world = World(path, record("one", client_certs=[ONE]))
    standing = world.certified(FIRST)
    world.change({**record("one", client_certs=[ONE]), "hash": hash_of("fc_other"), "ws_hash": None})
    assert world.admits(standing) == "one"


def test_a_changed_list_of_certificates_is_a_changed_key(path: Path) -> None:
    world = World(path, record("one", client_certs=[ONE]))
    write(path, record("one", client_certs=[ONE, TWO]))
    assert world.store.reload().changed == ("one",)
