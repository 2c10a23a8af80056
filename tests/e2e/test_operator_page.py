"""The operator's page: who sees it and who does not, what its buttons do, what other sites cannot, and how it looks in a browser."""

from __future__ import annotations

import html
import http.client
import re
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
from browser import Browser
from certificates import Authority
from live import LiveApp, LiveSandbox, Stage, eventually
from rest_client import Answer, RestClient, order

TRADER = ("qot:read", "acc:read", "trade:simulate")
NASTY = "<script>document.title='owned'</script><img src=x onerror=alert(1)>\"'&"


class Visitor:
    """A browser without a window: it keeps cookies, sends the Origin of the page, and may be told to do otherwise."""

    def __init__(self, port: int = 0, *, path: Path | None = None) -> None:
        self.host = f"127.0.0.1:{port}" if path is None else "localhost"
        self.port = port
        self.path = path
        self.cookies: dict[str, str] = {}
        self.set_cookie = ""

    def ask(self, method: str, path: str, body: str | None = None, **headers: str) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        if self.path is not None:
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.connect(str(self.path))
        wanted = {"Host": self.host, "Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}
        if body is not None:
            wanted |= {"Origin": f"http://{self.host}", "Content-Type": "application/x-www-form-urlencoded"}
        wanted |= {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, {name: value for name, value in wanted.items() if value})
        reply = connection.getresponse()
        answer = Answer(reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read())
        connection.close()
        self.set_cookie = answer.headers.get("set-cookie", "")
        if self.set_cookie:
            name, _, value = self.set_cookie.split(";")[0].partition("=")
            self.cookies[name] = value
        return answer

    def page(self) -> str:
        answer = self.ask("GET", "/")
        assert answer.status == 200, answer
        return answer.raw.decode()

    def login(self, key: str) -> Answer:
        return self.ask("POST", "/login", urlencode({"key": key}))

    def token(self) -> str:
        return re.findall(r'name="token" value="([^"]+)"', self.page())[0]

    def click(self, act: str, *, reason: str = "drill", key: str = "", token: str | None = None, **more: str) -> Answer:
        fields = {"act": act, "reason": reason, "key": key, "token": self.token() if token is None else token, **more}
        return self.ask("POST", "/switch", urlencode(fields))


class Scene:
    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.sandbox: LiveSandbox = stage.sandbox(tick_interval=0)
        self.ops = stage.keys.add("ops", "admin")
        self.bot = stage.keys.add("bot", *TRADER, max_orders_per_minute=100, max_order_value=50000, note=NASTY)
        self.sidecar: LiveApp = stage.app(self.sandbox.port)

    def visitor(self, *, logged_in: bool = True) -> Visitor:
        made = Visitor(self.sidecar.admin_port)
        if logged_in:
            assert made.login(self.ops).status == 303
        return made

    def place(self, **fields: float) -> str | None:
        return RestClient(self.sidecar.doors["rest"], self.bot).post("/api/order", order(**fields)).code


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with Stage(tmp_path_factory.mktemp("page")) as stage:
        yield Scene(stage)


@pytest.fixture(autouse=True)
def active_again(scene: Scene) -> Iterator[None]:
    yield
    visitor = scene.visitor()
    for key in ("", "bot"):
        visitor.click("resume", key=key)


# -- who --------------------------------------------------------------------------------------------------------------


def test_whoever_shows_no_key_sees_a_login_form_and_nothing_else(scene: Scene) -> None:
    page = scene.visitor(logged_in=False).page()
    assert 'action="/login"' in page
    body = page.partition("<body>")[2]
    for told in ("bot", "OpenD", "ACTIVE", "HALT", "all trading", str(scene.sandbox.port)):
        assert told not in body, told


def test_an_admin_key_logs_in_and_is_in_no_url_cookie_or_page(scene: Scene) -> None:
    visitor = scene.visitor(logged_in=False)
    answer = visitor.login(scene.ops)
    assert (answer.status, answer.headers["location"]) == (303, "/")
    cookie = visitor.set_cookie.lower()
    assert "httponly" in cookie and "samesite=strict" in cookie and "path=/" in cookie and "max-age=1800" in cookie
    page = visitor.page()
    assert "all trading" in page and "key `ops`" in page
    for place in (page, str(visitor.cookies), str(answer.headers)):
        assert scene.ops not in place


@pytest.mark.parametrize(("who", "code"), [("bot", "scope"), ("nobody", "key_unknown"), ("", "key_unknown")])
def test_no_other_key_logs_in_and_the_attempt_is_on_record(scene: Scene, who: str, code: str) -> None:
    visitor = scene.visitor(logged_in=False)
    answer = visitor.login({"bot": scene.bot, "nobody": "fc_" + "0" * 64}.get(who, ""))
    assert (answer.status, visitor.cookies) == (403, {})
    assert f"[sidecar:{code}]" in answer.raw.decode()
    assert scene.sidecar.wait_audit(endpoint="/login", reason=code, iface="admin")["outcome"] == "reject"


def test_a_key_that_is_revoked_is_out_at_once(scene: Scene) -> None:
    second = scene.stage.keys.add("ops2", "admin")
    scene.sidecar.wait_keys()
    visitor = scene.visitor(logged_in=False)
    visitor.login(second)
    token = visitor.token()
    scene.stage.keys.remove("ops2")
    scene.sidecar.wait_keys()
    assert visitor.click("halt", token=token).status == 403
    assert 'action="/login"' in visitor.page()
    assert scene.place() is None, "and it halted nothing"


def test_a_logout_ends_the_session_wherever_its_cookie_is(scene: Scene) -> None:
    visitor = scene.visitor()
    kept = dict(visitor.cookies)
    assert visitor.ask("POST", "/logout", urlencode({"token": visitor.token()})).status == 303
    visitor.cookies = kept
    assert 'action="/login"' in visitor.page()


def test_on_a_unix_socket_whoever_runs_the_sidecar_needs_no_key(scene: Scene) -> None:
    path = scene.stage.folder / "admin.sock"
    sidecar = scene.stage.sidecar(scene.sandbox.port, start=False, listeners={"admin": {"bind": f"unix:{path}"}})
    sidecar.start(ready=False)
    visitor = Visitor(path=path)
    eventually(lambda: "is connected" in visitor.page(), 10, "OpenD")
    assert visitor.click("halt", reason="by hand").status == 303
    assert "by hand" in visitor.page()
    line = sidecar.wait_audit(endpoint="halt")
    assert (line["iface"], line["key_id"]) == ("admin", "<none>")
    assert line["message"] == "all trading, by the owner at the operator's page: by hand"
    assert visitor.click("halt", token="x").status == 403


# -- what it does -----------------------------------------------------------------------------------------------------


def test_a_halt_holds_for_everybody_until_it_is_resumed_and_both_are_on_record(scene: Scene) -> None:
    visitor = scene.visitor()
    answer = visitor.click("halt", reason="fat finger")
    assert (answer.status, answer.headers["location"]) == (303, "/")
    assert scene.place() == "trading_halted"
    page = visitor.page()
    assert "All trading is HALTED." in page and "fat finger" in page and "by key `ops`" in page
    visitor.click("resume", reason="well again")
    assert scene.place() is None
    for endpoint in ("halt", "resume"):
        line = scene.sidecar.audit(endpoint=endpoint, iface="admin")[-1]
        assert (line["key_id"], line["outcome"]) == ("ops", "success")


def test_one_key_is_halted_and_may_then_only_shrink_positions(scene: Scene) -> None:
    visitor = scene.visitor()
    visitor.click("halt", key="bot", reason="runaway")
    assert scene.place() == "trading_halted"
    visitor.click("reduce", key="bot", reason="let it out")
    assert scene.place() == "reduce_only"
    assert "Key bot is REDUCING." in visitor.page()


def test_a_halt_may_cancel_what_works_and_tells_how_far_it_is(scene: Scene) -> None:
    assert scene.place(price=200) is None
    assert scene.sandbox.working()
    visitor = scene.visitor()
    visitor.click("halt", reason="get me out", cancel_orders="yes")
    eventually(lambda: not scene.sandbox.working(), 15, "the cancels")
    eventually(lambda: "ended; " in visitor.page(), 5, "the run's end")


@pytest.mark.parametrize(
    "fields",
    [{"reason": "  "}, {"act": "nothing"}, {"key": "nobody"}, {"act": "resume", "cancel_orders": "yes"}],
    ids=str,
)
def test_what_cannot_be_done_is_said_and_changes_nothing(scene: Scene, fields: dict[str, str]) -> None:
    visitor = scene.visitor()
    assert visitor.click(**{"act": "halt", **fields}).status == 303
    assert "Nothing is changed: " in visitor.page()
    assert scene.place() is None


def test_refusals_notes_and_reasons_are_text_whatever_is_in_them(scene: Scene) -> None:
    assert scene.place(price=900) == "order_value"
    visitor = scene.visitor()
    visitor.click("halt", key="bot", reason=NASTY)
    page = visitor.page()
    assert "order value 90000 HKD is over the limit of 50000 HKD" in page and "BUY 100 HK.00700 at 900" in page
    assert "<img" not in page and page.count("<script") == 1
    assert html.unescape(page).count(NASTY) >= 2, "the note and the reason"


# -- what others cannot do --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": ""}, 403),
        ({"Origin": "http://localhost:1"}, 403),
        ({"Host": "evil.example"}, 403),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Sec_Fetch_Site": "same-site"}, 403),
        ({"Content_Type": "text/plain"}, 415),
        ({"Content_Type": "multipart/form-data; boundary=x"}, 415),
    ],
    ids=str,
)
@pytest.mark.parametrize("path", ["/switch", "/login", "/logout"])
def test_a_form_of_another_site_does_nothing(scene: Scene, headers: dict[str, str], status: int, path: str) -> None:
    visitor = scene.visitor()
    fields = {"act": "halt", "reason": "x", "token": visitor.token(), "key": scene.ops if path == "/login" else ""}
    assert visitor.ask("POST", path, urlencode(fields), **headers).status == status
    assert scene.place() is None
    assert "all trading" in visitor.page(), "and it is still logged in"


def test_without_the_token_of_the_session_a_click_does_nothing(scene: Scene) -> None:
    visitor, other = scene.visitor(), scene.visitor()
    for token in ("", "x", other.token()):
        assert visitor.click("halt", token=token).status == 403
    assert scene.place() is None


def test_a_token_without_the_cookie_does_nothing(scene: Scene) -> None:
    visitor = scene.visitor()
    token = visitor.token()
    visitor.cookies = {}
    assert visitor.click("halt", token=token).status == 303
    assert scene.place() is None


@pytest.mark.parametrize("body", ["act=halt&act=resume", "&".join(["a=1"] * 99), "%ff%fe", "a=" + "x" * 20_000])
def test_what_is_no_form_of_the_page_is_refused(scene: Scene, body: str) -> None:
    visitor = scene.visitor()
    assert visitor.ask("POST", "/switch", body).status in (400, 403, 413)
    assert scene.place() is None


def test_only_the_methods_there_are_pass(scene: Scene) -> None:
    visitor = scene.visitor()
    for path in ("/login", "/logout", "/switch"):
        answer = visitor.ask("GET", path)
        assert (answer.status, answer.headers["allow"]) == (405, "POST")
    assert visitor.ask("POST", "/", "").status == 405


def test_nobody_keeps_the_page_frames_it_or_lets_it_load_anything(scene: Scene) -> None:
    for visitor in (scene.visitor(), scene.visitor(logged_in=False)):
        headers = visitor.ask("GET", "/").headers
        assert headers["cache-control"] == "no-store"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "same-origin"
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
    nonces = {scene.visitor(logged_in=False).ask("GET", "/").headers["content-security-policy"] for _ in range(3)}
    assert len(nonces) == 3


# -- in a browser -----------------------------------------------------------------------------------------------------


async def test_in_a_browser_one_logs_in_halts_and_resumes_and_it_asks_nobody_else(scene: Scene) -> None:
    scene.place(price=900)
    async with Browser() as browser:
        await browser.open(f"http://127.0.0.1:{scene.sidecar.admin_port}/")
        await browser.until("!!document.querySelector('input[name=key]')")
        await browser.run(f"document.querySelector('input[name=key]').value = '{scene.ops}'")
        await browser.run("document.querySelector('form button').click()")
        await browser.until("!!document.querySelector('.state.ACTIVE')")
        assert await browser.run("document.cookie") == "", "no script reads the session"

        await browser.run("document.querySelector('input[name=reason]').value = " + repr(NASTY.replace("'", "")))
        await browser.run("document.querySelector('button.stop').click()")
        await browser.until("!!document.querySelector('.state.HALTED')")
        assert scene.place() == "trading_halted"
        shown = await browser.run("document.body.innerText")
        assert "order value 90000 HKD is over the limit of 50000 HKD" in shown
        assert "<img src=x onerror=alert(1)>" in shown, "as text"
        assert await browser.run("document.title") == "HALTED · opend-sidecar"

        await browser.run("document.querySelector('input[name=reason]').value = 'well again'")
        await browser.run("document.querySelector('button[value=resume]').click()")
        await browser.until("!!document.querySelector('.state.ACTIVE')")
        assert scene.place() is None

        await browser.run("document.querySelector('form[action=\"/logout\"] button').click()")
        await browser.until("!!document.querySelector('input[name=key]')")
        assert {url.split("/")[2] for url in browser.requested if url.startswith("http")} == {
            f"127.0.0.1:{scene.sidecar.admin_port}"
        }
        assert not any(scene.ops in url for url in browser.requested)
        assert browser.complaints == []


async def test_it_fits_a_phone_and_looks_again_by_itself_unless_somebody_types(scene: Scene) -> None:
    async with Browser() as browser:
        await browser.command(
            "Emulation.setDeviceMetricsOverride", width=360, height=740, deviceScaleFactor=1, mobile=True
        )
        await browser.open(f"http://127.0.0.1:{scene.sidecar.admin_port}/")
        await browser.until("!!document.querySelector('input[name=key]')")
        await browser.run(f"document.querySelector('input[name=key]').value = '{scene.ops}'")
        await browser.run("document.querySelector('form button').click()")
        await browser.until("!!document.querySelector('.state.ACTIVE')")
        assert await browser.run("document.documentElement.scrollWidth") <= 360
        visitor = scene.visitor()
        await browser.run("document.querySelector('input[name=reason]').value = 'half a rea'")
        visitor.click("halt", reason="elsewhere")
        await browser.run("new Promise(done => setTimeout(done, 6000))")
        assert await browser.run("document.querySelector('input[name=reason]').value") == "half a rea"
        await browser.run("document.querySelector('input[name=reason]').value = ''")
        await browser.until("!!document.querySelector('.state.HALTED')", 12)


# -- behind TLS -------------------------------------------------------------------------------------------------------


def test_behind_tls_the_cookie_is_for_tls_alone_and_the_origin_is_https(scene: Scene) -> None:
    authority = Authority(scene.stage.folder / "page-ca")
    tls = authority.issue("server").tls()
    sidecar = scene.stage.app(scene.sandbox.port, listeners={"admin": {"port": 0, "tls": tls}})
    address = f"127.0.0.1:{sidecar.admin_port}"
    context = ssl.create_default_context(cafile=str(authority.cert))

    def login(origin: str) -> http.client.HTTPResponse:
        connection = http.client.HTTPSConnection("localhost", sidecar.admin_port, timeout=10, context=context)
        headers = {"Host": address, "Origin": origin, "Content-Type": "application/x-www-form-urlencoded"}
        connection.request("POST", "/login", urlencode({"key": scene.ops}), headers)
        return connection.getresponse()

    done = login(f"https://{address}")
    assert done.status == 303
    assert "; secure" in (done.getheader("Set-Cookie") or "").lower()
    assert login(f"http://{address}").status == 403
