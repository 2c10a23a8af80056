"""Whose a request over HTTP is: `Authorization: Bearer fc_...`, once, or the client's certificate. Says not whether the key is good."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sidecar.grants import Caller, Grants
from sidecar.policy.decision import Code, Refusal

_HOW = "send it as `Authorization: Bearer fc_...`"
_MISSING = Refusal(Code.KEY_MISSING, f"no key was given; {_HOW}")
_TWICE = Refusal(Code.MALFORMED_REQUEST, "there are two Authorization headers; send one")
_OTHER_SCHEME = Refusal(Code.KEY_MISSING, f"the Authorization header is not a Bearer one; {_HOW}")


def identified(grants: Grants, nobody: Caller, headers: Sequence[str]) -> tuple[Caller, Refusal | None]:
    """Who asks, by the Authorization headers or else by the certificate of `nobody` (a Caller without a key); the Refusal
    where no key was shown.

    SECURITY: a header that shows no key is not passed over for the certificate: a secret that was meant never falls back.
    """
    if not headers and nobody.certificate is not None:
        caller = grants.identify_certificate(nobody.iface, nobody.certificate, nobody.address)
        return replace(caller, endpoint=nobody.endpoint), None
    secret = bearer(headers)
    if isinstance(secret, Refusal):
        return nobody, secret
    caller = grants.identify(nobody.iface, secret, nobody.address, nobody.certificate)
    return replace(caller, endpoint=nobody.endpoint), None


def bearer(headers: Sequence[str]) -> str | Refusal:
    """The secret in a request's Authorization headers; the scheme's name in any case.

    SECURITY: two headers might be two keys, of which another program in the way may have checked the other one.
    """
    if not headers:
        return _MISSING
    if len(headers) > 1:
        return _TWICE
    scheme, _, secret = headers[0].strip().partition(" ")
    secret = secret.strip()
    if scheme.lower() != "bearer":
        return _OTHER_SCHEME
    return secret or _MISSING
