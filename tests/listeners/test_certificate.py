"""The certificate of a listener: what is refused at a start, and what a change of its files does while it runs."""

from __future__ import annotations

import os
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from certificates import Authority, Pair, write_private, write_whole
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from structlog.testing import capture_logs

from sidecar.errors import ConfigError
from sidecar.listener_settings import GrpcListener, Listeners, RestListener, Tls
from sidecar.listeners.certificate import Certificate, Certificates, load_certificate


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ca")


@pytest.fixture
def pair(authority: Authority) -> Pair:
    return authority.issue("server")


def tls_of(pair: Pair, **more: object) -> Tls:
    return Tls(**pair.tls(**more))  # type: ignore[arg-type]


def refusal(tls: Tls) -> str:
    with pytest.raises(ConfigError) as refused:
        load_certificate(tls)
    text = str(refused.value)
    assert "\n" not in text
    assert "Traceback" not in text
    return text


# -- at a start --------------------------------------------------------------------------------------------------


def test_a_good_pair_speaks_tls_1_2_and_newer(pair: Pair) -> None:
    loaded = load_certificate(tls_of(pair))
    assert loaded.context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert loaded.context.verify_mode is ssl.CERT_NONE
    assert loaded.fingerprint == pair.fingerprint
    assert loaded.warnings == ()


def test_a_listener_with_a_client_ca_takes_no_client_without_a_certificate_and_resumes_no_session(
    authority: Authority, pair: Pair
) -> None:
    context = load_certificate(tls_of(pair, client_ca=authority.cert, min_version="1.3")).context
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.minimum_version is ssl.TLSVersion.TLSv1_3
    assert context.num_tickets == 0
    assert context.options & ssl.OP_NO_TICKET


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        (0o644, "others may use the private key"),
        (0o604, "others may use the private key"),
        (0o620, "others may use the private key"),
        (0o602, "run `chmod 600"),
    ],
)
def test_a_private_key_that_others_may_use_is_refused(pair: Pair, mode: int, said: str) -> None:
    pair.key.chmod(mode)
    assert said in refusal(tls_of(pair))


def test_a_private_key_that_its_group_may_read_is_taken_with_a_warning(pair: Pair) -> None:
    pair.key.chmod(0o640)
    (warning,) = load_certificate(tls_of(pair)).warnings
    assert f"`{pair.key}` may be read by its group (mode 0640)" in warning


def test_a_key_of_another_certificate_is_refused(authority: Authority, pair: Pair) -> None:
    other = authority.issue("other")
    assert refusal(Tls(cert=str(pair.cert), key=str(other.key))) == (  # type: ignore[arg-type]
        f"the private key `{other.key}` is not that of the certificate `{pair.cert}`"
    )


def test_a_key_with_a_passphrase_is_refused_instead_of_asked_for(pair: Pair) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    sealed = serialization.BestAvailableEncryption(b"secret")
    write_private(pair.key, key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, sealed))
    assert "has a passphrase" in refusal(tls_of(pair))


@pytest.mark.parametrize("which", ["cert", "key", "client_ca"])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read: no such file or directory"),
        (b"", "in PEM form"),
        (b"\x30\x82\x01\x0a binary", "in PEM form"),
        (b"x" * (1024 * 1024 + 1), "is over 1024 KiB"),
    ],
)
def test_a_file_that_is_none_is_named(tmp_path: Path, pair: Pair, which: str, content: bytes | None, said: str) -> None:
    path = tmp_path / "wrong.pem"
    if content is not None:
        write_private(path, content)
    text = refusal(Tls(**{**pair.tls(), which: str(path)}))  # type: ignore[arg-type]
    assert f"`{path}`" in text
    assert said in text


def test_a_pipe_or_a_folder_in_a_files_place_is_refused_and_not_waited_for(tmp_path: Path, pair: Pair) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "is not a regular file" in refusal(Tls(cert=str(tmp_path / "pipe"), key=str(pair.key)))  # type: ignore[arg-type]
    assert "`" in refusal(Tls(cert=str(tmp_path), key=str(pair.key)))  # type: ignore[arg-type]


def test_the_setting_is_named_at_a_start(pair: Pair) -> None:
    pair.key.unlink()
    with pytest.raises(ConfigError, match=r"setting `listeners.rest.tls`: the private key `.*` cannot be read"):
        Certificate("listeners.rest", tls_of(pair))


def test_an_expired_certificate_starts_and_is_a_problem(authority: Authority) -> None:
    old = authority.issue("old", days=-1, since=10)
    problem = Certificate("listeners.rest", tls_of(old)).problem
    assert problem is not None
    assert problem.startswith("listeners.rest: the certificate expired at 20")


# -- while it runs -----------------------------------------------------------------------------------------------


def test_a_new_certificate_is_in_force_after_a_reload(authority: Authority, pair: Pair) -> None:
    held = Certificate("listeners.rest", tls_of(pair))
    before = held.context
    assert held.reload()
    authority.issue("server", into=pair, days=60)
    with capture_logs() as logs:
        assert held.reload()
    assert held.context is not before
    assert held.expires_at > datetime.now(UTC) + timedelta(days=50)
    assert [line["event"] for line in logs] == ["a new certificate is in force"]
    assert logs[0]["sha256"] == pair.fingerprint


@pytest.mark.parametrize("broken", ["gone", "half", "other key", "open to others", "expired", "still to come"])
def test_a_broken_new_certificate_keeps_the_old_one_and_says_so(authority: Authority, pair: Pair, broken: str) -> None:
    held = Certificate("listeners.rest", tls_of(pair))
    before = held.context
    match broken:
        case "gone":
            pair.cert.unlink()
        case "half":
            write_whole(pair.cert, pair.cert.read_bytes()[:200])
        case "other key":
            write_private(pair.key, authority.issue("other").key.read_bytes())
        case "open to others":
            pair.key.chmod(0o644)
        case "expired":
            authority.issue("server", into=pair, days=-1, since=3)
        case "still to come":
            authority.issue("server", into=pair, since=-1)
    with capture_logs() as logs:
        assert not held.reload()
    assert held.context is before
    assert [line["log_level"] for line in logs] == ["error"]
    assert held.problem is not None
    assert "a new certificate cannot be used, the one before stays in force" in held.problem
    authority.issue("server", into=pair)
    assert held.reload()
    assert held.problem is None


def test_an_expired_one_takes_the_place_of_another_expired_one(authority: Authority) -> None:
    pair = authority.issue("server", days=-2, since=10)
    held = Certificate("listeners.rest", tls_of(pair))
    authority.issue("server", into=pair, days=-1, since=10)
    assert held.reload()


def test_it_becomes_a_problem_by_the_clock(pair: Pair) -> None:
    now = datetime.now(UTC)
    held = Certificate("listeners.rest", tls_of(pair), now=lambda: now)
    assert held.problem is None
    now += timedelta(days=31)
    assert held.problem is not None


def test_a_change_is_read_once_it_has_settled(authority: Authority, pair: Pair) -> None:
    held = Certificate("listeners.rest", tls_of(pair))
    assert not held.settled_change()
    authority.issue("server", into=pair)
    assert not held.settled_change(), "the other file may still be to come"
    assert held.settled_change()
    assert held.reload()
    assert not held.settled_change()


def test_a_link_that_leads_elsewhere_is_a_change(authority: Authority, tmp_path: Path) -> None:
    """As certbot and Kubernetes replace files."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        authority.issue("server", into=Pair(tmp_path / name / "c.pem", tmp_path / name / "k.pem"))
    (tmp_path / "now").symlink_to("one")
    linked = Pair(tmp_path / "now" / "c.pem", tmp_path / "now" / "k.pem")
    held = Certificate("listeners.rest", tls_of(linked))
    (tmp_path / "next").symlink_to("two")
    (tmp_path / "next").rename(tmp_path / "now")
    held.settled_change()
    assert held.settled_change()


async def test_all_listeners_are_reloaded_side_by_side_and_each_says_what_became_of_it(
    authority: Authority, pair: Pair
) -> None:
    other = authority.issue("other")
    told: list[bool] = []
    held = Certificates(
        Listeners(rest=RestListener(tls=tls_of(pair)), grpc=GrpcListener(tls=tls_of(other))), reloaded=told.append
    )
    assert held.of("listeners.mcp") is None
    assert [each.name for each in held] == ["listeners.rest", "listeners.grpc"]
    other.cert.unlink()
    (problem,) = await held.reload()
    assert problem.startswith("listeners.grpc: ")
    assert told == [True, False]


def test_cas_may_stand_between_words_as_in_the_bundles_of_systems(
    authority: Authority, pair: Pair, tmp_path: Path
) -> None:
    other = Authority(tmp_path / "other", "another CA")
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(
        "# Unsere CA, größer\n".encode() + authority.cert.read_bytes() + b"\n# another one\n" + other.cert.read_bytes()
    )
    context = load_certificate(tls_of(pair, client_ca=bundle)).context
    assert context.cert_store_stats()["x509_ca"] == 2
