"""The routes of the operator's page: who may see it and throw its switch, and what a click does. Halting and resuming is the
switch's business, and whether a key is good and may, is the gate's.

SECURITY: it stands on a port that any process of the machine may connect to, and in a browser that shows other sites too.
Everything but the login form needs a session; a session needs a key with the scope `admin`, which is looked up again at every
request, or a unix socket at whose other end is whoever runs the sidecar. A click needs the cookie (which no other site's
requests carry), the session's token (which no other site can read) and the page's own Origin.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import jinja2
from aiohttp import web

from sidecar.asked import Refused
from sidecar.audit.record import NO_KEY
from sidecar.grants import Grants
from sidecar.ledger.states_file import LONGEST_REASON
from sidecar.listeners.door import Handler
from sidecar.listeners.entrance import certificate_of
from sidecar.listeners.operator import view
from sidecar.listeners.operator.sessions import LASTS, Session, Sessions
from sidecar.listeners.unix_socket import credentials, peer_of
from sidecar.policy.decision import Refusal
from sidecar.policy.trading import TradingState
from sidecar.switch import Done, Switch, Wanted, Who, wanted_of

LARGEST_BODY = 16 * 1024
BODY_PATIENCE = 10.0
"""Seconds for the body of a click."""
EVERY = 5.0
"""Seconds after which a page that nobody types into looks again."""

_IFACE = "admin"
_FORM = "application/x-www-form-urlencoded"


class OperatorPage:
    """Of one admin listener."""

    def __init__(self, switch: Switch, grants: Grants, sessions: Sessions | None = None) -> None:
        self._switch = switch
        self._grants = grants
        self.sessions = Sessions() if sessions is None else sessions
        self._template = jinja2.Environment(
            loader=jinja2.FileSystemLoader(Path(__file__).parent),
            autoescape=True,  # SECURITY: reasons, notes and symbols are other people's text
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
        ).get_template("page.html")

    def gets(self) -> dict[str, Handler]:
        return {"/": self._page}

    def posts(self) -> dict[str, Handler]:
        return {"/login": self._login, "/logout": self._logout, "/switch": self._throw}

    # -- the page -------------------------------------------------------------------------------------------------

    async def _page(self, request: web.Request) -> web.StreamResponse:
        session = self._session(request)
        if session is None:
            return await self._begun_for_the_owner(request) or await self._shown(request, None, None)
        who = self._admit(session, request)
        if isinstance(who, Refused):
            self.sessions.end(self._cookie(request))
            return await self._shown(request, None, None, problem=who.text, status=403)
        return await self._shown(request, session, who)

    async def _begun_for_the_owner(self, request: web.Request) -> web.StreamResponse | None:
        """Whoever runs the sidecar needs no key where the system itself says who it is."""
        if not _is_the_owner(request):
            return None
        cookie, session = self.sessions.begin(None)
        return self._with_cookie(request, await self._shown(request, session, _owner(request)), cookie)

    async def _shown(
        self, request: web.Request, session: Session | None, who: Who | None, *, problem: str = "", status: int = 200
    ) -> web.Response:
        nonce, now = secrets.token_urlsafe(16), self.sessions.now()
        told: dict[str, Any] = {"status": None, "title": "log in"}
        if session is not None and who is not None:
            tree = self._switch.status()
            told = {
                "status": tree, "title": tree["trading"]["state"], "token": session.token, "by": who.by,
                "known": {one["key"] for one in tree["headroom"]}, "told": session.told(now),
                "ends": None if session.caller is None else int((session.ends - now) / 60) + 1,
                "now": view.when(datetime.now(UTC).isoformat()), "longest_reason": LONGEST_REASON, "every": int(EVERY * 1000),
                "bars": view.bars, "when": view.when, "run_of": view.run_of, "order_of": view.order_of,
            }  # fmt: skip
        # in a thread: it may be long, while an order waits; what it is made of is plain values
        text = await asyncio.to_thread(
            self._template.render, **told, nonce=nonce, problem=problem, minutes=int(LASTS / 60)
        )
        return web.Response(text=text, content_type="text/html", status=status, headers=_headers(nonce))

    # -- who ------------------------------------------------------------------------------------------------------

    async def _login(self, request: web.Request) -> web.StreamResponse:
        fields = await _fields(request)
        secret = fields.get("key", "").strip()
        transport = request.transport
        address = "local" if transport is None else peer_of(transport)
        caller = self._grants.identify(_IFACE, secret, address, certificate_of(transport))
        who = self._switch.admit(replace(caller, endpoint="/login"))
        if isinstance(who, Refused):
            return await self._shown(request, None, None, problem=who.text, status=403)
        self.sessions.end(self._cookie(request))
        cookie, _ = self.sessions.begin(replace(caller, endpoint="/"))
        return self._with_cookie(request, _back(), cookie)

    async def _logout(self, request: web.Request) -> web.StreamResponse:
        session = self._session(request)
        if session is not None:
            await _click(request, session)
            self.sessions.end(self._cookie(request))
        gone = _back()
        gone.del_cookie(_cookie_name(request), path="/")
        return gone

    def _session(self, request: web.Request) -> Session | None:
        address = "local" if request.transport is None else peer_of(request.transport)
        session = self.sessions.of(self._cookie(request), address)
        if session is not None and session.caller is None and not _is_the_owner(request):
            return None
        return session

    def _admit(self, session: Session, request: web.Request) -> Who | Refused:
        """INVARIANT: asked at every request: a key that was revoked, or lost its scope, is out at once."""
        if session.caller is None:
            return _owner(request)
        return self._switch.admit(session.caller)

    def _cookie(self, request: web.Request) -> str | None:
        return request.cookies.get(_cookie_name(request))

    def _with_cookie(self, request: web.Request, response: web.Response, cookie: str) -> web.Response:
        response.set_cookie(
            _cookie_name(request), cookie, max_age=int(LASTS), path="/", secure=request.secure, httponly=True, samesite="Strict",
        )  # fmt: skip
        return response

    # -- the switch -----------------------------------------------------------------------------------------------

    async def _throw(self, request: web.Request) -> web.StreamResponse:
        session = self._session(request)
        if session is None:
            return _back()
        fields = await _click(request, session)
        who = self._admit(session, request)
        if isinstance(who, Refused):
            self.sessions.end(self._cookie(request))
            return await self._shown(request, None, None, problem=who.text, status=403)
        text, good = await self._thrown(who, fields)
        session.tell(self.sessions.now(), text, good=good)
        return _back()

    async def _thrown(self, who: Who, fields: dict[str, str]) -> tuple[str, bool]:
        """What to say of it, and whether it is as it was wanted."""
        act = fields.get("act")
        tree: dict[str, Any] = {"key": fields.get("key") or None, "reason": fields.get("reason", "")}
        if fields.get("cancel_orders") == "yes":
            tree["cancel_orders"] = True
        if act == "reduce":
            tree["state"] = TradingState.REDUCING.name
        try:
            wanted = wanted_of(tree)
        except ValueError as error:
            return f"Nothing is changed: {error}.", False
        if act == "resume" or (act == "reduce" and self._stricter(wanted)):
            done = await self._switch.resume(who, wanted)
        elif act in ("halt", "reduce"):
            done = await self._switch.halt(who, wanted)
        else:
            return "Nothing is changed: the click was for nothing there is.", False
        return ("Nothing is changed: " + done.message + ".", False) if isinstance(done, Refusal) else _said(done)

    def _stricter(self, wanted: Wanted) -> bool:
        """Whether it is halted now, so that shrinking positions is more than it may."""
        tree = self._switch.status()
        standings = [tree["trading"], *tree["keys"]]
        return any(one["key"] == wanted.key_id and one["state"] == TradingState.HALTED.name for one in standings)


def _said(done: Done) -> tuple[str, bool]:
    text = f"{view.whose(done.standing.key_id)} is {done.standing.state.name}."
    if done.cancelling is not None:
        text += " Its working orders are being cancelled; see below."
    for one in done.still:
        text += f" Still {one.state.name}: {view.whose(one.key_id)}."
    if not done.saved:
        text += f" It holds in memory, but NOT on disk: {done.problem}."
    return text[0].upper() + text[1:], done.saved


# -- requests and responses ------------------------------------------------------------------------------------------


async def _click(request: web.Request, session: Session) -> dict[str, str]:
    """The fields of a form of the page. SECURITY: that it is one of this session's is asked before anything is done."""
    fields = await _fields(request)
    if not session.owns(fields.get("token", "")):
        raise web.HTTPForbidden(reason="The form is not of this session, load the page again")
    return fields


async def _fields(request: web.Request) -> dict[str, str]:
    # SECURITY: every browser says where a form stands; the listener's guard compares it with the Host
    if len(request.headers.getall("Origin", [])) != 1:
        raise web.HTTPForbidden(reason="A form of this page comes with its Origin")
    if request.content_type != _FORM:
        raise web.HTTPUnsupportedMediaType(reason="This is for the forms of the page")
    try:
        async with asyncio.timeout(BODY_PATIENCE):
            raw = await request.read()
    except TimeoutError:
        raise web.HTTPRequestTimeout from None
    try:
        pairs = parse_qsl(raw.decode(), keep_blank_values=True, max_num_fields=16, errors="strict")
    except ValueError:
        raise web.HTTPBadRequest from None
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise web.HTTPBadRequest(reason="A field is there twice")
    return fields


def _is_the_owner(request: web.Request) -> bool:
    known = None if request.transport is None else credentials(request.transport)
    return known is not None and known.uid in (0, os.geteuid())


def _owner(request: web.Request) -> Who:
    assert request.transport is not None
    return Who(_IFACE, NO_KEY, peer_of(request.transport), "the owner at the operator's page")


def _cookie_name(request: web.Request) -> str:
    """Of its own for each port by which this machine is asked: browsers keep cookies by the name of the host alone."""
    port = urlsplit(f"//{request.host}").port
    return f"sidecar-{port or ('tls' if request.secure else 'http')}"


def _back() -> web.Response:
    return web.Response(status=303, headers={"Location": "/", "Cache-Control": "no-store"})


def _headers(nonce: str) -> dict[str, str]:
    # SECURITY: nothing from elsewhere is loaded, no script runs but the page's own, and no other page shows it in a frame.
    # `same-origin`: without a referrer browsers would send the Origin of a form as `null`
    policy = (
        f"default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; img-src data:; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'"
    )
    return {
        "Cache-Control": "no-store",
        "Content-Security-Policy": policy,
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Referrer-Policy": "same-origin",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
    }
