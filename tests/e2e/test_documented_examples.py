"""The examples of docs/listeners, run as they stand there against a sidecar and a paper OpenD; only ports and keys are put in."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from documents import block
from grpcio_client import PROTO, stubs
from live import LiveSandbox, LiveSidecar, Stage, eventually
from official_js_sdk import node_modules
from real_parts import need, need_program

from sidecar.keys.secret import ws_hash_of

LAST_PRICE = 480.0
PORTS = {"11110": "tcp", "44444": "websocket", "22222": "rest", "33333": "grpc", "38765": "mcp"}
"""As the documents have them."""


class Scene:
    def __init__(self, stage: Stage) -> None:
        self.folder = stage.folder
        scopes = ("qot:read", "acc:read", "trade:simulate")
        self.keys = {}
        for key_id, most in (("bot", 100_000), ("small", 20_000)):
            self.keys[key_id] = stage.keys.add(key_id, *scopes, max_order_value=most)
            stage.keys.change(key_id, ws_hash=ws_hash_of(self.keys[key_id]))
        self.sandbox: LiveSandbox = stage.sandbox(tick_interval=0)
        self.sandbox.set_price("HK.00700", str(LAST_PRICE))
        self.sidecar: LiveSidecar = stage.sidecar(self.sandbox.port)

    def here(self, lines: str, key: str) -> str:
        """Lines with the ports and the key of this run."""
        for port, name in PORTS.items():
            found = self.sidecar.port if name == "tcp" else self.sidecar.doors[name]
            lines = re.sub(rf"\b{port}\b", str(found), lines)
        assert "fc_…" in lines, "no key is shown in it"
        return lines.replace("fc_…", self.keys[key])

    def python(self, page: str, key: str = "bot", holding: str = "") -> str:
        """What the Python example of a page prints."""
        return self._run([sys.executable, "-c", self.here(block(page, "python", holding), key)])

    def node(self, page: str, key: str = "bot") -> str:
        """What the JavaScript example of a page prints."""
        return self._run([need_program("node"), str(self.script(page, key))], self.folder / "node")

    def script(self, page: str, key: str) -> Path:
        """The JavaScript example of a page as a file, beside what it wants to find there."""
        modules = node_modules()
        folder = self.folder / "node"
        folder.mkdir(exist_ok=True)
        if not (folder / "node_modules").exists():
            (folder / "node_modules").symlink_to(modules.resolve())
            shutil.copy(PROTO, folder / PROTO.name)
        script = folder / f"{Path(page).stem}-{key}.cjs"
        script.write_text(self.here(block(page, "js"), key))
        return script

    def _run(self, command: list[str], cwd: Path | None = None) -> str:
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        ran = subprocess.run(
            command, capture_output=True, text=True, timeout=60, cwd=cwd,
            env={**os.environ, "HOME": str(home), "no_proxy": "*"},
        )  # fmt: skip
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with Stage(tmp_path_factory.mktemp("examples")) as stage:
        yield Scene(stage)


def need_module(name: str) -> None:
    need(f"npm {name}", (node_modules() / name).is_dir())


def test_the_official_python_sdk_reads_places_and_cancels(scene: Scene) -> None:
    said = scene.python("docs/listeners/tcp.md")
    assert f"last price: {LAST_PRICE}\n" in said
    assert re.search(r"^placed: \d+$", said, re.MULTILINE), said
    assert "\ncancelled\n" in said


def test_the_official_python_sdk_is_refused_in_the_words_of_the_page(scene: Scene) -> None:
    said = scene.python("docs/listeners/tcp.md", "small")
    assert "refused: [sidecar:order_value] order value 30000 HKD is over the limit of 20000 HKD" in said
    assert "placed" not in said


def test_the_official_javascript_sdk_reads_and_places(scene: Scene) -> None:
    said = scene.node("docs/listeners/websocket.md")
    assert f"last price: {LAST_PRICE:g}\n" in said
    assert re.search(r"^placed: \S+$", said, re.MULTILINE), said


def test_the_official_javascript_sdk_is_refused_in_the_words_of_the_page(scene: Scene) -> None:
    said = scene.node("docs/listeners/websocket.md", "small")
    assert "refused: [sidecar:order_value] order value 30000 HKD is over the limit of 20000 HKD" in said


def test_opends_frames_go_over_a_websocket_from_python(scene: Scene) -> None:
    assert scene.python("docs/listeners/websocket.md").splitlines() == [str(LAST_PRICE)]


def test_rest_from_python(scene: Scene) -> None:
    price, placed = scene.python("docs/listeners/rest.md").splitlines()
    assert price == f"price: {LAST_PRICE}"
    assert re.fullmatch(r"placed: \d+", placed)
    assert (
        scene.python("docs/listeners/rest.md", "small")
        .splitlines()[1]
        .startswith("refused: order_value [sidecar:order_value] order value 30000 HKD")
    )


def test_rest_from_javascript_places_an_order_and_is_pushed_quotes(scene: Scene) -> None:
    script = scene.script("docs/listeners/rest.md", "bot")
    with subprocess.Popen([need_program("node"), str(script)], stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        try:
            assert re.fullmatch(r"placed: \d+\n", running.stdout.readline())
            eventually(lambda: scene.sandbox.received(3001), what="its subscription")
            scene.sandbox.set_price("HK.00700", str(LAST_PRICE))
            assert running.stdout.readline() == "push: quote HK.00700\n"
        finally:
            running.kill()


def test_grpc_from_javascript(scene: Scene) -> None:
    for name in ("@grpc/grpc-js", "@grpc/proto-loader"):
        need_module(name)
    stubs()
    assert scene.node("docs/listeners/grpc.md").splitlines() == [f"{LAST_PRICE:g}"]


def test_mcp_from_python(scene: Scene) -> None:
    need("mcp", importlib.util.find_spec("mcp") is not None)
    tools, price = scene.python("docs/listeners/mcp.md").splitlines()
    assert {"futu_get_quote", "futu_place_order", "my_limits"} <= set(tools.split())
    assert price == f"price: {LAST_PRICE}"


def test_mcp_from_javascript(scene: Scene) -> None:
    need_module("@modelcontextprotocol/sdk")
    tools, price = scene.node("docs/listeners/mcp.md").splitlines()
    assert {"futu_get_quote", "futu_place_order", "my_limits"} <= set(tools.split())
    assert price == f"price: {LAST_PRICE:g}"
