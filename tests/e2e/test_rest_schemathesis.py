"""The REST door against its own document, by schemathesis: bodies that fit the document and bodies that do not, to every operation."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from live import LiveSandbox, LiveSidecar, Stage
from real_parts import need
from rest_client import PAPER_HK, RestClient

from sidecar.listeners.openapi.document import requests
from sidecar.listeners.openapi.examples import ACCOUNT
from sidecar.wire import catalog

CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,"
    "response_schema_conformance,response_headers_conformance"
)
EVERY_SCOPE = (
    "qot:read", "acc:read", "trade:simulate", "trade:real", "trade:cancel", "trade:unlock", "admin",
)  # fmt: skip
NEVER_SENT = {
    catalog.UNLOCK_TRADE,  # answered by the sidecar
    catalog.PLACE_COMBO_ORDER,  # not judged yet, so refused
    catalog.RECONFIRM_ORDER,  # of an order that is nobody's
}


@dataclass
class Scene:
    sandbox: LiveSandbox
    sidecar: LiveSidecar
    key: str
    folder: Path

    @property
    def client(self) -> RestClient:
        return RestClient(self.sidecar.doors["rest"], self.key)

    def document(self) -> dict[str, Any]:
        """As the door gives it, its examples about an account that the sandbox has."""
        text = self.client.get("/openapi.json").raw.decode()
        assert ACCOUNT in text
        tree: dict[str, Any] = json.loads(text.replace(ACCOUNT, str(PAPER_HK)))
        return tree

    def schemathesis(self, document: dict[str, Any], *options: str) -> tuple[subprocess.CompletedProcess[str], Any]:
        """Its run, and its report."""
        path, report = self.folder / "openapi.json", self.folder / "report.json"
        path.write_text(json.dumps(document))
        port = self.sidecar.doors["rest"]
        done = subprocess.run(
            [
                sys.executable, "-m", "schemathesis.cli", "run", str(path),
                "--url", f"http://127.0.0.1:{port}", "--header", f"Authorization: Bearer {self.key}",
                "--checks", CHECKS, "--continue-on-failure", "--generation-deterministic", "--no-shrink",
                "--suppress-health-check", "all", "--no-color", "--request-timeout", "10",
                "--report", "json", "--report-json-path", str(report), *options,
            ],
            cwd=self.folder, capture_output=True, text=True, timeout=110,
        )  # fmt: skip
        assert report.exists(), done.stdout + done.stderr
        return done, json.loads(report.read_text())


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    need("schemathesis", importlib.util.find_spec("schemathesis") is not None)
    folder = tmp_path_factory.mktemp("schemathesis")
    with Stage(folder) as stage:
        key = stage.keys.add("all", *EVERY_SCOPE, allowed_acc_ids=[PAPER_HK])
        sandbox = stage.sandbox(tick_interval=0)
        yield Scene(sandbox, stage.sidecar(sandbox.port), key, folder)


def test_no_request_makes_a_server_error_or_an_answer_that_is_not_documented(scene: Scene) -> None:
    document = scene.document()
    operations = sum(len(methods) for methods in document["paths"].values())

    done, report = scene.schemathesis(document, "--phases", "examples,fuzzing", "--max-examples", "3")

    assert done.returncode == 0, done.stdout[-6000:]
    assert report["failures"] == report["errors"] == []
    assert report["operations"]["tested"] == report["operations"]["total"] == operations > 180
    assert report["test_cases"]["generated"] > 3 * operations
    carried = {row.id for row in requests()}
    arrived = {frame.proto_id for frame in scene.sandbox.everything()}
    assert carried - arrived == NEVER_SENT, "requests of which no body was good enough to reach OpenD"
    assert scene.client.get("/health").status == 200
    assert [line for line in scene.sidecar.log() if line.get("level") == "error"] == []


def test_an_answer_that_is_not_documented_would_be_found(scene: Scene) -> None:
    document = scene.document()
    operation = document["paths"]["/api/order"]["post"]
    document["paths"] = {"/api/order": {"post": operation}}
    del operation["responses"]["400"]

    done, report = scene.schemathesis(document, "--phases", "fuzzing", "--max-examples", "10", "--mode", "negative")

    assert done.returncode == 1
    assert [failure["type"] for failure in report["failures"]] == ["UndefinedStatusCode"]
