"""Certificates for tests: a CA, and what it signs, as PEM files of short validity."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_FORM = serialization.Encoding.PEM


_SIGNS_CERTIFICATES = x509.KeyUsage(
    digital_signature=False, content_commitment=False, key_encipherment=False, data_encipherment=False,
    key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
)  # fmt: skip
"""Clients in Python 3.13 and newer take no CA that does not say so."""


@dataclass(frozen=True)
class Pair:
    """A certificate and its private key, as files."""

    cert: Path
    key: Path

    @property
    def fingerprint(self) -> str:
        return x509.load_pem_x509_certificate(self.cert.read_bytes()).fingerprint(hashes.SHA256()).hex()

    @property
    def serial(self) -> int:
        return x509.load_pem_x509_certificate(self.cert.read_bytes()).serial_number

    def tls(self, **more: object) -> dict[str, object]:
        """The `tls` of a listener."""
        return {"cert": str(self.cert), "key": str(self.key), **{name: str(value) for name, value in more.items()}}


class Authority:
    """A CA in a folder. `cert` is what clients trust."""

    def __init__(self, folder: Path, name: str = "test CA") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.now(UTC)
        made = (
            x509.CertificateBuilder()
            .subject_name(self._name).issuer_name(self._name).public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=400)).not_valid_after(now + timedelta(days=400))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_SIGNS_CERTIFICATES, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )  # fmt: skip
        self.cert = folder / "ca.pem"
        self.cert.write_bytes(made.public_bytes(_FORM))

    def issue(
        self, name: str, *, client: bool = False, days: float = 30, since: float = 1, into: Pair | None = None
    ) -> Pair:
        """Valid from `since` days ago, for `days` from now. A server's is for localhost and 127.0.0.1. `into`: files to replace."""
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(UTC)
        usage = ExtendedKeyUsageOID.CLIENT_AUTH if client else ExtendedKeyUsageOID.SERVER_AUTH
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(self._name).public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=since)).not_valid_after(now + timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )  # fmt: skip
        if not client:
            names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        pair = into or Pair(self.folder / f"{name}.pem", self.folder / f"{name}.key")
        write_private(
            pair.key, key.private_bytes(_FORM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )
        write_whole(pair.cert, builder.sign(self._key, hashes.SHA256()).public_bytes(_FORM))
        return pair


def write_whole(path: Path, data: bytes) -> None:
    """Replace the file in one step."""
    beside = path.with_suffix(path.suffix + ".new")
    beside.write_bytes(data)
    beside.replace(path)


def write_private(path: Path, data: bytes) -> None:
    beside = path.with_suffix(path.suffix + ".new")
    beside.touch(mode=0o600)
    beside.chmod(0o600)
    beside.write_bytes(data)
    beside.replace(path)
