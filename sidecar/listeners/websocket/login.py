"""Whose connection a WebSocket is: the key shown at its upgrade, and what its first message shows. Sends nothing.

SECURITY: a secret that was shown and is wrong never falls back to another one.
"""

from __future__ import annotations

from collections.abc import Sequence

from sidecar.errors import BodyError
from sidecar.grants import Caller, Grants
from sidecar.keys.secret import PREFIX
from sidecar.listeners.bearer import bearer
from sidecar.policy.decision import Code, Refusal
from sidecar.wire import ws_frame

IFACE = "ws"

_SHOW_IT = Refusal(
    Code.KEY_MISSING,
    "no key was given; connect with `Authorization: Bearer fc_...` or with `?token=fc_...`, in the JavaScript SDK call "
    "`start(ip, port, ssl, KEY)`",
)
_TWICE = Refusal(Code.MALFORMED_REQUEST, "the key is shown twice; show it in a header or in the address")
_NOT_BY_MD5 = Refusal(
    Code.KEY_UNKNOWN,
    "no key has the MD5 that the JavaScript SDK sent; a key whose record has no `ws_hash` cannot be found by it, make a new one",
)
_NOT_THE_SAME = Refusal(Code.KEY_UNKNOWN, "the key is not the one shown when the connection was made")


def shown_at_upgrade(
    grants: Grants, headers: Sequence[str], tokens: Sequence[str], nobody: Caller
) -> Caller | Refusal | None:
    """By the Authorization headers, the `token`s in the address, or a certificate that a key lists: who it is, good or not;
    None where no key was shown."""
    address, certificate = nobody.address, nobody.certificate
    tokens = [token for token in tokens if token]
    if (headers and tokens) or len(tokens) > 1:
        return _TWICE
    if not headers and not tokens:
        caller = None if certificate is None else grants.identify_certificate(IFACE, certificate, address)
        return None if caller is None or caller.key_id is None else caller  # it may still log in with its key
    secret = bearer(headers) if headers else tokens[0]
    return secret if isinstance(secret, Refusal) else grants.identify(IFACE, secret, address, certificate)


def by_javascript_login(
    grants: Grants, upgraded: Caller | None, login: bytes, nobody: Caller
) -> tuple[Caller, Refusal | None]:
    """Who logs in with the JavaScript SDK, and why they may not. `upgraded` showed a key when connecting."""
    try:
        md5 = ws_frame.read_login(login)
    except BodyError as error:
        return upgraded or nobody, Refusal(Code(error.code), str(error))
    if not md5:
        return by_upgrade(grants, upgraded, nobody)
    shown = grants.identify_md5(IFACE, md5, nobody.address, nobody.certificate)
    standing = grants.of(shown)
    if isinstance(standing, Refusal):
        return shown, _NOT_BY_MD5 if standing.code is Code.KEY_UNKNOWN else standing
    if upgraded is None:
        return shown, None
    return (upgraded, _NOT_THE_SAME) if shown.key_id != upgraded.key_id else by_upgrade(grants, upgraded, nobody)


def by_introduction(
    grants: Grants, upgraded: Caller | None, client_id: str, nobody: Caller
) -> tuple[Caller, Refusal | None]:
    """Who introduces themselves with OpenD's InitConnect. What looks like a key in it must be the key shown before."""
    if upgraded is not None and PREFIX in client_id.casefold():  # also `FC_...`, ` fc_...`: meant as a key
        shown = grants.identify(IFACE, client_id, nobody.address, nobody.certificate)
        if shown.digest != upgraded.digest and not (upgraded.by_certificate and shown.key_id == upgraded.key_id):
            return shown, _NOT_THE_SAME
    return by_upgrade(grants, upgraded, nobody)


def by_upgrade(grants: Grants, upgraded: Caller | None, nobody: Caller) -> tuple[Caller, Refusal | None]:
    """Who it is where nothing but the upgrade shows it."""
    if upgraded is None:
        return nobody, _SHOW_IT
    standing = grants.of(upgraded)
    return upgraded, standing if isinstance(standing, Refusal) else None
