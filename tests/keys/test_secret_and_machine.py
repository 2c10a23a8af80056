"""Hashes, fingerprints and zones in the forms other programs know them in."""

from __future__ import annotations

import hashlib
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from sidecar.errors import ConfigError
from sidecar.keys.machine import ID_FILE_VARIABLE, default_zone, fingerprint, machine_id
from sidecar.keys.secret import digest_of, hash_of, ws_digest_of, ws_hash_of

NOWHERE = Path("/nonexistent/localtime")


def test_the_hash_is_the_sha256_of_the_whole_plaintext() -> None:
    assert hash_of("fc_abc") == hashlib.sha256(b"fc_abc").hexdigest()
    assert digest_of("fc_abc").hex() == hash_of("fc_abc")


def test_the_ws_hash_is_the_sha256_of_the_lower_case_hex_md5() -> None:
    sent = hashlib.md5(b"fc_abc").hexdigest()
    assert ws_hash_of("fc_abc") == hashlib.sha256(sent.encode()).hexdigest()
    for spelling in (sent, sent.upper()):
        digest = ws_digest_of(spelling)
        assert digest is not None
        assert digest.hex() == ws_hash_of("fc_abc")


@pytest.mark.parametrize("text", ["", "abc", "g" * 32, "a" * 33, "a" * 32 + "\n", "٠" * 32])
def test_what_is_no_md5_has_no_digest(text: str) -> None:
    assert ws_digest_of(text) is None


def test_the_fingerprint_is_the_one_other_gateways_compute() -> None:
    expected = hashlib.sha256(b"futu-machine-bind:v1:sim-bot:0123456789abcdef").hexdigest()
    assert fingerprint("sim-bot", "0123456789abcdef") == expected


def test_the_machine_id_comes_from_the_named_file(tmp_path: Path) -> None:
    file = tmp_path / "id"
    file.write_text("  0123456789abcdef\n")
    assert machine_id({ID_FILE_VARIABLE: str(file)}) == "0123456789abcdef"


@pytest.mark.parametrize("content", ["", "\n", "uninitialized\n", "a\nb\n", "x" * 300])
def test_a_named_file_without_an_id_is_refused_rather_than_passed_over(tmp_path: Path, content: str) -> None:
    file = tmp_path / "id"
    file.write_text(content)
    with pytest.raises(ConfigError, match=r"SIDECAR_MACHINE_ID_FILE names .* holds no machine id"):
        machine_id({ID_FILE_VARIABLE: str(file)})
    with pytest.raises(ConfigError):
        machine_id({ID_FILE_VARIABLE: str(tmp_path / "none")})


def test_the_zone_of_the_settings_comes_first() -> None:
    assert default_zone("Asia/Tokyo", {"TZ": "Europe/Paris"}, NOWHERE) == ZoneInfo("Asia/Tokyo")
    with pytest.raises(ConfigError, match=r"setting `keys.timezone`: unknown time zone `Asia/Tokio`"):
        default_zone("Asia/Tokio", {}, NOWHERE)


@pytest.mark.parametrize("tz", ["Europe/Paris", ":Europe/Paris"])
def test_then_the_zone_of_the_environment(tz: str) -> None:
    assert default_zone(None, {"TZ": tz}, NOWHERE) == ZoneInfo("Europe/Paris")


def test_an_environment_in_another_spelling_is_not_replaced_by_a_guess(tmp_path: Path) -> None:
    localtime = tmp_path / "localtime"
    localtime.symlink_to("/usr/share/zoneinfo/Etc/UTC")
    assert default_zone(None, {"TZ": "HKT-8"}, localtime) is None


def test_then_the_zone_of_the_machine_by_its_name(tmp_path: Path) -> None:
    zones = tmp_path / "zoneinfo" / "Asia"
    zones.mkdir(parents=True)
    (zones / "Hong_Kong").write_bytes(b"")
    localtime = tmp_path / "localtime"
    localtime.symlink_to(zones / "Hong_Kong")
    assert default_zone(None, {}, localtime) == ZoneInfo("Asia/Hong_Kong")


def test_a_machine_that_has_no_zone_has_none(tmp_path: Path) -> None:
    assert default_zone(None, {}, NOWHERE) is None
    (tmp_path / "localtime").write_bytes(b"not a zone")
    assert default_zone(None, {"TZ": ""}, tmp_path / "localtime") is None
