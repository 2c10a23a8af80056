"""Whose connection a raw TCP one is: by the key in its InitConnect, the RSA key that opened it, its certificate, or the door.
Sends nothing."""

from __future__ import annotations

from sidecar.grants import Caller, Grants
from sidecar.keys.secret import PREFIX
from sidecar.listeners.introduction import Introduction
from sidecar.policy.decision import Code, Refusal

IFACE = "tcp"
HOW_TO_SHOW_A_KEY = Refusal(
    Code.KEY_MISSING,
    'no key was given; call `SysConfig.set_client_info("fc_...", 300)` before the first context is made',
)
_NO_KEY_HAS_THIS = b""


def by_introduction(grants: Grants, intro: Introduction, nobody: Caller, bound: str | None) -> Caller:
    """Who introduces themselves, good or not. `nobody`: them as far as the connection tells; `bound`: the key of whoever
    shows none.

    SECURITY: a secret that was shown and is wrong never falls back to another key.
    """
    client_id, rsa_key_id, address, certificate = intro.client_id, intro.rsa_key_id, nobody.address, nobody.certificate
    if PREFIX in client_id.casefold():  # also `FC_...`, ` fc_...`, `Bearer fc_...`: meant as a key
        caller = grants.identify(IFACE, client_id, address, certificate)
        if rsa_key_id is not None and caller.key_id != rsa_key_id:
            return Caller(IFACE, None, address, _NO_KEY_HAS_THIS)
        return caller
    if certificate is not None and rsa_key_id is None:
        caller = grants.identify_certificate(IFACE, certificate, address)
        if caller.key_id is not None or bound is None:
            return caller
    return Caller(IFACE, rsa_key_id or bound, address, certificate=certificate)
