"""The key of a request over HTTP: `Authorization: Bearer fc_...`, once. Looks nothing up."""

from __future__ import annotations

from collections.abc import Sequence

from sidecar.policy.decision import Code, Refusal

_HOW = "send it as `Authorization: Bearer fc_...`"
_MISSING = Refusal(Code.KEY_MISSING, f"no key was given; {_HOW}")
_TWICE = Refusal(Code.MALFORMED_REQUEST, "there are two Authorization headers; send one")
_OTHER_SCHEME = Refusal(Code.KEY_MISSING, f"the Authorization header is not a Bearer one; {_HOW}")


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
