"""Whose a raw TCP connection is, by all that its client may show."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from sidecar.grants import Caller
from sidecar.listeners.tcp.login import by_introduction

ALICE = "fc_" + "aa" * 32
WRONG = "fc_" + "00" * 32
CERTIFICATE, UNKNOWN = b"c" * 32, b"u" * 32


class Grants:
    """Alice has a secret, Bob lists a certificate."""

    def identify(self, iface: str, plaintext: str, address: str, certificate: bytes | None = None) -> Caller:
        key_id = "alice" if plaintext == ALICE else None
        return Caller(iface, key_id, address, plaintext.encode(), certificate=certificate)

    def identify_certificate(self, iface: str, certificate: bytes, address: str) -> Caller:
        key_id = "bob" if certificate == CERTIFICATE else None
        return Caller(iface, key_id, address, certificate=certificate, by_certificate=True)


def who(
    client_id: str = "Python", *, rsa: str | None = None, certificate: bytes | None = None, bound: str | None = None
) -> Caller:
    intro = SimpleNamespace(client_id=client_id, rsa_key_id=rsa)
    nobody = Caller("tcp", None, "192.0.2.1", certificate=certificate)
    return by_introduction(Grants(), intro, nobody, bound)  # type: ignore[arg-type]


def test_the_key_in_the_client_id_is_who_it_is() -> None:
    assert who(ALICE).key_id == "alice"
    assert who(ALICE, bound="house").key_id == "alice", "also where the door gives another one"


@pytest.mark.parametrize("shown", [WRONG, WRONG.upper(), f" {WRONG}", f"Bearer {ALICE}"])
def test_a_secret_that_is_wrong_never_falls_back_to_another_key(shown: str) -> None:
    caller = who(shown, certificate=CERTIFICATE, bound="house")
    assert caller.key_id is None
    assert caller.digest is not None, "it is held against what was shown"


def test_a_key_under_the_rsa_key_of_another_is_nobodys() -> None:
    assert who(ALICE, rsa="alice").key_id == "alice"
    caller = who(ALICE, rsa="bob")
    assert (caller.key_id, caller.digest) == (None, b"")


def test_the_rsa_key_tells_who_it_is_where_no_key_is_shown() -> None:
    assert who(rsa="bob").key_id == "bob"
    assert who(rsa="bob", certificate=UNKNOWN).key_id == "bob"


def test_a_certificate_goes_before_the_key_of_the_door() -> None:
    assert who(certificate=CERTIFICATE, bound="house").key_id == "bob"
    assert who(certificate=UNKNOWN, bound="house").key_id == "house"
    unknown = who(certificate=UNKNOWN)
    assert unknown.key_id is None
    assert unknown.by_certificate


def test_who_shows_nothing_has_the_key_of_the_door_or_none() -> None:
    assert who(bound="house").key_id == "house"
    assert who().key_id is None
