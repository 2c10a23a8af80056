"""The session ciphers and the RSA key, and that they are the official SDK's: what one encrypts the other decrypts."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st

from sidecar.errors import ConfigError, WireError
from sidecar.wire.encryption import (
    RSA_MAX_BLOCKS,
    Algorithm,
    Cipher,
    RsaKey,
    new_session_secret,
    session_cipher,
)

KEY = b"3F17CF3EEF912C92"
IV = b"A0B1C2D3E4F50617"
SIZES = range(71)
CIPHERS = [Algorithm.FTAES_ECB, Algorithm.AES_ECB, Algorithm.AES_CBC]


def cipher(algorithm: Algorithm) -> Cipher:
    made = session_cipher(algorithm, KEY, IV)
    assert made is not None
    return made


# --- the session ciphers


@pytest.mark.parametrize("algorithm", CIPHERS)
@given(plaintext=st.binary(max_size=300))
def test_what_is_encrypted_is_decrypted(algorithm: Algorithm, plaintext: bytes) -> None:
    assert cipher(algorithm).decrypt(cipher(algorithm).encrypt(plaintext)) == plaintext


@pytest.mark.parametrize("algorithm", CIPHERS)
def test_every_packet_starts_afresh(algorithm: Algorithm) -> None:
    one = cipher(algorithm)
    first = one.encrypt(b"the same body")
    assert one.encrypt(b"the same body") == first
    assert one.decrypt(first) == one.decrypt(first) == b"the same body"


@pytest.mark.parametrize("algorithm", CIPHERS)
@given(body=st.binary(max_size=100))
def test_garbage_is_either_refused_or_bytes_but_never_another_error(algorithm: Algorithm, body: bytes) -> None:
    with contextlib.suppress(WireError):
        assert isinstance(cipher(algorithm).decrypt(body), bytes)


@pytest.mark.parametrize("algorithm", CIPHERS)
@pytest.mark.parametrize("length", [0, 1, 15, 17, 33])
def test_a_body_that_is_not_whole_blocks_is_refused_with_its_length(algorithm: Algorithm, length: int) -> None:
    with pytest.raises(WireError, match=f"this one has {length}"):
        cipher(algorithm).decrypt(bytes(length))


@pytest.mark.parametrize("algorithm", [Algorithm.AES_ECB, Algorithm.AES_CBC])
def test_a_body_of_another_key_is_refused_for_its_padding(algorithm: Algorithm) -> None:
    other = session_cipher(algorithm, b"x" * 16, IV)
    assert other is not None
    with pytest.raises(WireError, match="padding"):
        other.decrypt(cipher(algorithm).encrypt(b"a body"))


@pytest.mark.parametrize("body", [bytes(15) + b"\x01", bytes(31) + b"\x10", bytes(31) + b"\xff"])
def test_a_trailer_that_names_more_than_there_is_is_refused(body: bytes) -> None:
    with pytest.raises(WireError, match="trailer"):
        cipher(Algorithm.FTAES_ECB).decrypt(body)


@pytest.mark.parametrize(("length", "last"), [(0, 0), (16, 0), (5, 5), (31, 15)])
def test_the_ftaes_trailer_is_in_clear_and_names_the_length_of_the_last_block(length: int, last: int) -> None:
    assert cipher(Algorithm.FTAES_ECB).encrypt(b"z" * length)[-16:] == bytes(15) + bytes((last,))


def test_no_encryption_is_no_cipher() -> None:
    assert session_cipher(Algorithm.NONE, b"", None) is None


def test_an_unknown_algorithm_is_refused_by_its_number() -> None:
    with pytest.raises(WireError, match="`7`"):
        session_cipher(7, KEY, IV)


@pytest.mark.parametrize("algorithm", CIPHERS)
def test_a_key_of_another_length_is_refused(algorithm: Algorithm) -> None:
    with pytest.raises(WireError, match="16 bytes, this one has 15"):
        session_cipher(algorithm, KEY[1:], IV)


@pytest.mark.parametrize("iv", [None, b"", IV + b"0"])
def test_cbc_needs_an_iv_of_sixteen_bytes(iv: bytes | None) -> None:
    with pytest.raises(WireError, match="IV of 16 bytes"):
        session_cipher(Algorithm.AES_CBC, KEY, iv)


def test_a_session_secret_is_sixteen_ascii_characters_and_never_the_same() -> None:
    made = [new_session_secret() for _ in range(200)]
    assert all(len(one) == 16 and one.isascii() and one.isalnum() for one in made)
    assert len(set(made)) == 200


# --- the RSA key


@pytest.fixture(scope="module")
def pem() -> bytes:
    return RsaKey.generate_pem()


@pytest.mark.parametrize(("length", "blocks"), [(1, 1), (100, 1), (101, 2), (200, 2), (250, 3)])
def test_a_block_of_128_bytes_for_every_100_of_plaintext(pem: bytes, length: int, blocks: int) -> None:
    key = RsaKey.from_pem(pem)
    sealed = key.encrypt(b"q" * length)
    assert len(sealed) == 128 * blocks
    assert key.decrypt(sealed) == b"q" * length


@given(body=st.one_of(st.binary(max_size=400), st.binary(min_size=256, max_size=256)))
def test_garbage_under_rsa_is_refused_or_meaningless_but_never_another_error(body: bytes) -> None:
    with contextlib.suppress(WireError):
        assert isinstance(GARBAGE_KEY.decrypt(body), bytes)


GARBAGE_KEY = RsaKey.from_pem(RsaKey.generate_pem())


def test_a_body_of_another_rsa_key_never_gives_the_plaintext(pem: bytes) -> None:
    key, other = RsaKey.from_pem(pem), RsaKey.from_pem(RsaKey.generate_pem())
    for _ in range(20):
        try:
            assert other.decrypt(key.encrypt(b"hello")) != b"hello"
        except WireError as error:
            assert str(error) == "the body is not encrypted with this RSA key"


def test_every_block_is_tried_whichever_fails() -> None:
    tried: list[bytes] = []

    class Private:
        def decrypt(self, block: bytes, _scheme: object) -> bytes:
            tried.append(block[:1])
            if block[:1] != b"g":
                raise ValueError
            return b"plain"

    key = RsaKey(Private(), None)  # type: ignore[arg-type]  # a stand-in that counts
    for order in (b"bgg", b"gbg", b"ggb", b"bbb"):
        tried.clear()
        with pytest.raises(WireError, match="not encrypted with this RSA key"):
            key.decrypt(b"".join(bytes((first,)) * 128 for first in order))
        assert b"".join(tried) == order
    assert key.decrypt(b"g" * 256) == b"plainplain"


@pytest.mark.parametrize("length", [0, 1, 127, 129, (RSA_MAX_BLOCKS + 1) * 128])
def test_an_rsa_body_of_impossible_length_is_refused_before_any_arithmetic(pem: bytes, length: int) -> None:
    with pytest.raises(WireError, match=f"this one has {length} bytes"):
        RsaKey.from_pem(pem).decrypt(bytes(length))


def test_a_key_file_is_pkcs1_and_loads_again(tmp_path: Path, pem: bytes) -> None:
    assert pem.startswith(b"-----BEGIN RSA PRIVATE KEY-----\n")
    path = tmp_path / "key.txt"
    path.write_bytes(pem)
    assert RsaKey.load(path).decrypt(RsaKey.from_pem(pem).encrypt(b"x")) == b"x"


def test_the_same_key_as_pkcs8_is_the_same_key(pem: bytes) -> None:
    private = serialization.load_pem_private_key(pem, None)
    pkcs8 = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    assert RsaKey.from_pem(pkcs8).decrypt(RsaKey.from_pem(pem).encrypt(b"x")) == b"x"


def test_the_key_does_not_show_itself(pem: bytes) -> None:
    assert repr(RsaKey.from_pem(pem)) == "RsaKey()"


def test_a_missing_key_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read the RSA key `.*absent\.pem`: no such file"):
        RsaKey.load(tmp_path / "absent.pem")


def test_a_folder_instead_of_a_key_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a directory"):
        RsaKey.load(tmp_path)


def _pem_of(private: Any, passphrase: bytes | None = None) -> bytes:
    encryption = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    done: bytes = private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    return done


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not a private key in PEM form"),
        (b"\x00\xff garbage", "not a private key in PEM form"),
        (b"-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n", "not a private key in PEM form"),
        (_pem_of(rsa.generate_private_key(65537, 2048)), "has 2048 bits, the protocol needs 1024"),
        (_pem_of(ec.generate_private_key(ec.SECP256R1())), "not an RSA key"),
        (_pem_of(rsa.generate_private_key(65537, 1024), b"secret"), "protected by a passphrase"),
    ],
    ids=["empty", "garbage", "broken", "2048 bits", "elliptic", "passphrase"],
)
def test_a_file_that_is_no_usable_key_says_why_and_which_file(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        RsaKey.load(path)
    assert said in str(caught.value)
    assert f"`{path}`" in str(caught.value)


# --- against the official SDK's own functions

SDK = """
import json, sys
from futu.common.conn_mng import FutuConnMng
from futu.common.sys_config import RsaCrypt, SysConfig

job = json.load(sys.stdin)
done = {}
for name, iv in (("2", job["iv"]), ("0", None)):
    FutuConnMng.add_conn({"conn_id": 1, "conn_key": job["key"], "conn_iv": iv, "is_encrypt": True})
    done[name] = {
        "sealed": [FutuConnMng.encrypt_conn_data(1, bytes.fromhex(p))[2].hex() for p in job["plain"]],
        "opened": [FutuConnMng.decrypt_conn_data(1, bytes.fromhex(c))[2].hex() for c in job["sealed"][name]],
    }
    FutuConnMng.remove_conn(1)
SysConfig.set_init_rsa_file(job["rsa_file"])
done["rsa"] = {
    "sealed": [RsaCrypt.encrypt(bytes.fromhex(p)).hex() for p in job["rsa_plain"]],
    "opened": [RsaCrypt.decrypt(bytes.fromhex(c)).hex() for c in job["rsa_sealed"]],
}
print("DONE" + json.dumps(done))
"""

PLAIN = [bytes((size + i) % 256 for i in range(size)) for size in SIZES]
RSA_PLAIN = [bytes(range(size)) for size in (1, 50, 99, 100, 101, 200, 230)]


@pytest.fixture(scope="module")
def sdk(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, list[bytes]]]:
    """One run of the official SDK in a process of its own (it writes logs into its home), asked for all at once."""
    home = tmp_path_factory.mktemp("sdk")
    (home / "key.pem").write_bytes(SDK_PEM)
    job = {
        "key": KEY.decode(),
        "iv": IV.decode(),
        "plain": [one.hex() for one in PLAIN],
        "sealed": {str(int(a)): [cipher(a).encrypt(one).hex() for one in PLAIN] for a in SDK_MODES},
        "rsa_file": str(home / "key.pem"),
        "rsa_plain": [one.hex() for one in RSA_PLAIN],
        "rsa_sealed": [RsaKey.from_pem(SDK_PEM).encrypt(one).hex() for one in RSA_PLAIN],
    }
    done = subprocess.run(
        [sys.executable, "-c", SDK],
        input=json.dumps(job),
        capture_output=True,
        text=True,
        env={**os.environ, "HOME": str(home)},
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout[done.stdout.index("DONE") + 4 :])
    return {name: {k: [bytes.fromhex(x) for x in v] for k, v in part.items()} for name, part in answer.items()}


SDK_PEM = RsaKey.generate_pem()
SDK_MODES = [Algorithm.FTAES_ECB, Algorithm.AES_CBC]


@pytest.mark.parametrize("algorithm", SDK_MODES)
def test_the_official_sdk_decrypts_what_we_encrypt(
    algorithm: Algorithm, sdk: dict[str, dict[str, list[bytes]]]
) -> None:
    assert sdk[str(int(algorithm))]["opened"] == PLAIN


@pytest.mark.parametrize("algorithm", SDK_MODES)
def test_we_decrypt_what_the_official_sdk_encrypts(
    algorithm: Algorithm, sdk: dict[str, dict[str, list[bytes]]]
) -> None:
    sealed = sdk[str(int(algorithm))]["sealed"]
    assert [cipher(algorithm).decrypt(one) for one in sealed] == PLAIN
    assert sealed == [cipher(algorithm).encrypt(one) for one in PLAIN]


def test_rsa_agrees_with_the_official_sdk_in_both_directions(sdk: dict[str, dict[str, list[bytes]]]) -> None:
    assert sdk["rsa"]["opened"] == RSA_PLAIN
    assert [RsaKey.from_pem(SDK_PEM).decrypt(one) for one in sdk["rsa"]["sealed"]] == RSA_PLAIN
