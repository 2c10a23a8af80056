"""docs/tls.md: its commands make what the sidecar takes, and its programs carry what the SDKs cannot."""

from __future__ import annotations

import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from certificates import Pair
from live import PROJECT, LiveSidecar, Stage, eventually
from real_parts import need_program

from sidecar.config import load_settings

PAGE = (PROJECT / "docs" / "tls.md").read_text()
TRADER = ("qot:read", "acc:read", "trade:simulate")


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port


@contextmanager
def running(*command: str, folder: Path, port: int) -> Iterator[None]:
    """A program that listens on a port."""
    with (
        (folder / "program.log").open("ab") as log,
        subprocess.Popen(command, cwd=folder, stdout=log, stderr=log) as made,
    ):
        try:

            def listens() -> bool:
                assert made.poll() is None, (folder / "program.log").read_text()
                with socket.socket() as asking:
                    return asking.connect_ex(("127.0.0.1", port)) == 0

            eventually(listens, 10, f"{command[0]} to listen")
            yield
        finally:
            made.terminate()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the page's openssl commands make."""
    need_program("openssl")
    made = tmp_path_factory.mktemp("pki")
    for block in blocks("sh"):
        if "openssl" in block:
            ran = subprocess.run(["sh", "-e"], input=block, text=True, cwd=made, capture_output=True, timeout=60)
            assert ran.returncode == 0, ran.stderr
            (made / "said").write_text(ran.stdout)
    return made


class Here:
    """A sidecar with the page's certificate; TCP asks clients for theirs."""

    def __init__(self, stage: Stage, folder: Path) -> None:
        self.stage, self.folder = stage, folder
        self.key = stage.keys.add("bot", *TRADER)
        tls = Pair(folder / "server.pem", folder / "server.key").tls()
        asking = {**tls, "client_ca": str(folder / "ca.pem")}
        self.sandbox = stage.sandbox(tick_interval=0)
        listeners = {"tcp": [{"port": 0, "tls": tls}, {"port": 0, "tls": asking}], "rest": {"port": 0, "tls": tls}}
        self.sidecar: LiveSidecar = stage.sidecar(self.sandbox.port, listeners=listeners)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> Iterator[Here]:
    with Stage(tmp_path_factory.mktemp("docs")) as stage:
        yield Here(stage, folder)


def test_its_settings_load(tmp_path: Path) -> None:
    found = blocks("yaml")
    assert len(found) == 2
    for number, block in enumerate(found):
        path = tmp_path / f"{number}.yaml"
        path.write_text(block)
        listeners = load_settings(path, {}).listeners
        assert listeners.tcp[0].tls.on or listeners.tcp[0].bind.startswith("unix:")
    assert yaml.safe_load(found[0])["listeners"]["rest"]["tls"]["cert"] == "/etc/opend-sidecar/server.pem"


def test_its_curl_line_is_answered(here: Here) -> None:
    need_program("curl")
    (line,) = re.findall(r"`(curl --cacert [^`]*)`", PAGE)
    line = line.replace("opend.lan:22222", f"localhost:{here.sidecar.doors['rest']}")
    ran = subprocess.run(
        ["sh", "-c", line],
        cwd=here.folder,
        env={"KEY": here.key, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        timeout=10,
    )
    assert b'"key_id":"bot"' in ran.stdout, ran


def stunnel(here: Here, place: int, port: int, more: str = "") -> str:
    (text,) = blocks("ini")
    text = text.replace("127.0.0.1:11110", f"127.0.0.1:{port}").replace(
        "opend.lan:11110", f"localhost:{here.sidecar.ports[place]}"
    )
    path = here.folder / f"stunnel{place}.conf"
    path.write_text(text.replace("checkHost = opend.lan", "checkHost = localhost") + more)
    return str(path)


def test_the_official_python_sdk_trades_through_its_stunnel(here: Here) -> None:
    port = free_port()
    with running(need_program("stunnel"), stunnel(here, 0, port), folder=here.folder, port=port):
        bot = here.stage.sdk(port, here.key)
        bot.open("trade", "trade")
        placed = bot.place("HK.00700", 300, 100)
        assert placed.ok, placed.data
        bot.close("trade")


def test_with_a_client_certificate_it_needs_no_key(here: Here) -> None:
    fingerprint = (here.folder / "said").read_text().strip().rpartition("=")[2]
    assert re.fullmatch(r"([0-9A-F]{2}:){31}[0-9A-F]{2}", fingerprint)
    here.stage.keys.change("bot", client_certs=[fingerprint])
    here.sidecar.wait_keys()
    port = free_port()
    config = stunnel(here, 1, port, "cert = bot.pem\nkey = bot.key\n")
    with running(need_program("stunnel"), config, folder=here.folder, port=port):
        bot = here.stage.sdk(port, None)
        bot.open("trade", "trade")
        placed = bot.place("HK.00700", 300, 100)
        assert placed.ok, placed.data
        bot.close("trade")
    assert here.sidecar.wait_audit(key_id="bot", outcome="allow", iface="tcp")


def test_its_socat_line_gives_the_sdk_a_port(stage: Stage) -> None:
    key = stage.keys.add("bot", *TRADER)
    sandbox = stage.sandbox(tick_interval=0)
    path = stage.folder / "tcp.sock"
    stage.sidecar(sandbox.port, listeners={"tcp": [{"bind": f"unix:{path}"}]})
    (line,) = re.findall(r"^(socat \S+ \S+)", PAGE, re.MULTILINE)
    port = free_port()
    line = line.replace("LISTEN:11110", f"LISTEN:{port}").replace("/run/opend-sidecar/tcp.sock", str(path))
    need_program("socat")
    with running(*line.split(), folder=stage.folder, port=port):
        bot = stage.sdk(port, key)
        bot.open("trade", "trade")
        placed = bot.place("HK.00700", 300, 100)
        assert placed.ok, placed.data
        bot.close("trade")
