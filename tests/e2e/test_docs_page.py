"""The documentation page in a real browser: that it shows every operation, that it can be tried, and that it talks to nobody else."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from browser import Browser
from live import LiveSidecar, Stage
from rest_client import RestClient

from sidecar.errors import ConfigError
from sidecar.listeners.openapi import page as docs_page

OPERATIONS = "document.querySelectorAll('.opblock').length"
TAGS = "document.querySelectorAll('.opblock-tag').length"


class Scene:
    def __init__(self, stage: Stage) -> None:
        self.key = stage.keys.add("research", "qot:read")
        sandbox = stage.sandbox(tick_interval=0)
        self.sidecar: LiveSidecar = stage.sidecar(sandbox.port, listeners={"rest": {"port": 0}})
        self.port = self.sidecar.doors["rest"]
        self.client = RestClient(self.port)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/docs"


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with Stage(tmp_path_factory.mktemp("docs")) as stage:
        yield Scene(stage)


def is_own(url: str, scene: Scene) -> bool:
    return url.startswith(("data:", "about:")) or urlsplit(url).netloc == f"127.0.0.1:{scene.port}"


async def test_every_operation_is_shown_within_seconds_and_nothing_is_asked_of_anybody_else(scene: Scene) -> None:
    document: dict[str, Any] = scene.client.get("/openapi.json").json
    expected = sum(len(methods) for methods in document["paths"].values())
    async with Browser() as browser:
        started = time.monotonic()
        await browser.open(scene.url)
        await browser.until(f"{TAGS} === {len(document['tags'])}")
        assert await browser.run("document.title") == "opend-sidecar: REST"  # it answers: nothing holds it up any more
        assert time.monotonic() - started < 20, "about 4 s where nothing else runs"
        assert await browser.run(OPERATIONS) == 0, "tags are closed at first"
        await browser.run("document.querySelectorAll('.opblock-tag').forEach(tag => tag.click())")
        await browser.until(f"{OPERATIONS} === {expected}")
        assert [url for url in browser.requested if not is_own(url, scene)] == []
        assert len(browser.requested) >= 6
        assert browser.complaints == []


async def test_an_operation_shows_its_fields_and_can_be_tried_with_a_key(scene: Scene) -> None:
    async with Browser() as browser:
        await browser.open(f"{scene.url}#/quotes/staticInfo")
        block = "#operations-quotes-staticInfo"
        await browser.until(f"!!document.querySelector('{block} .try-out__btn')")
        assert "Qot_GetStaticInfo" in await browser.run(f"document.querySelector('{block}').innerText")

        # as a person does: Authorize, paste the key, close, try it out, execute
        await browser.run("document.querySelector('.btn.authorize').click()")
        await browser.until("!!document.querySelector('.auth-container input')")
        await browser.run(
            "{const box = document.querySelector('.auth-container input');"
            f"Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value').set.call(box, '{scene.key}');"
            "box.dispatchEvent(new Event('input', {bubbles: true}))}"
        )
        await browser.run("document.querySelector('.auth-btn-wrapper .authorize').click()")
        await browser.run("document.querySelector('.auth-btn-wrapper .btn-done').click()")
        await browser.run(f"document.querySelector('{block} .try-out__btn').click()")
        await browser.until(f"!!document.querySelector('{block} .execute')")
        await browser.run(f"document.querySelector('{block} .execute').click()")
        await browser.until(f"!!document.querySelector('{block} .live-responses-table .response-col_status')")

        shown = await browser.run(f"document.querySelector('{block} .live-responses-table').innerText")
        assert "200" in shown
        assert '"ret_type": 0' in shown
        assert f"http://127.0.0.1:{scene.port}/api/static-info" in browser.requested
        assert [url for url in browser.requested if not is_own(url, scene)] == []
        assert browser.complaints == []
        kept = await browser.run("JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])")
        assert scene.key not in kept


async def test_a_page_that_did_ask_somebody_else_would_be_stopped(scene: Scene) -> None:
    async with Browser() as browser:
        await browser.command("Network.setBlockedURLs", urls=["*/openapi.json"])  # the page alone is quicker
        await browser.open(scene.url)
        await browser.until("!!window.SwaggerUIBundle")
        went = await browser.run("fetch('http://127.0.0.2:9/').then(() => 'went', () => 'stopped')")
        assert went == "stopped"
        await browser.run(
            "{const one = document.createElement('script'); one.text = 'window.ran = 1'; document.body.append(one)}"
        )
        assert await browser.run("window.ran") is None
        assert any("Content Security Policy" in text for text in browser.complaints)


def test_the_page_is_kept_by_nobody_and_shown_in_no_frame(scene: Scene) -> None:
    for path in ("/docs", "/openapi.json"):
        headers = scene.client.get(path).headers
        assert headers["cache-control"] == "no-store"
        assert headers["x-content-type-options"] == "nosniff"
    policy = scene.client.get("/docs").headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "script-src 'self';" in policy


def test_assets_have_their_types_and_there_are_no_others(scene: Scene) -> None:
    for name, kind in (("swagger-ui-bundle.js", "javascript"), ("swagger-ui.css", "css"), ("page.js", "javascript")):
        asset = scene.client.get(f"/docs/assets/{name}")
        assert asset.status == 200
        assert kind in asset.headers["content-type"]
    for name in ("redoc.standalone.js", "..%2f..%2fcore.py", "%2e%2e/__init__.py", ""):
        assert scene.client.get(f"/docs/assets/{name}").status in (401, 404), name
    moved = scene.client.get("/docs/")
    assert (moved.status, moved.headers["location"]) == (308, "../docs")


def test_without_docs_there_is_no_page(tmp_path_factory: pytest.TempPathFactory) -> None:
    with Stage(tmp_path_factory.mktemp("nodocs")) as stage:
        key = stage.keys.add("research", "qot:read")
        sidecar = stage.app(stage.sandbox(tick_interval=0).port, listeners={"rest": {"port": 0, "docs": False}})
        client = RestClient(sidecar.doors["rest"], key)
        assert [client.get(path).status for path in ("/docs", "/openapi.json", "/docs/assets/page.js")] == [404] * 3


def test_without_the_package_that_holds_the_page_the_operator_is_told_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(docs_page.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install fastapi-offline"):
        docs_page._swagger_ui.__wrapped__()
