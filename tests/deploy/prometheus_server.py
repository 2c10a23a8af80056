"""A real Prometheus with the configuration and the rules of deploy/, sped up, and what it answers."""

from __future__ import annotations

import json
import socket
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any, Self

import yaml
from live import eventually
from real_parts import PROJECT, need_program

DEPLOYED = PROJECT / "deploy/prometheus"


class Prometheus:
    """Asks one sidecar every second. To be used as a context."""

    def __init__(self, folder: Path, target: str) -> None:
        self._folder = folder
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        config = yaml.safe_load((DEPLOYED / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        config["rule_files"] = [str(DEPLOYED / pattern) for pattern in config["rule_files"]]
        [job] = config["scrape_configs"]
        job["static_configs"] = [{"targets": [target]}]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))

    def __enter__(self) -> Self:
        command = [
            need_program("prometheus"), f"--config.file={self._folder}/prometheus.yml",
            f"--storage.tsdb.path={self._folder}/data", f"--web.listen-address=127.0.0.1:{self._port}",
        ]  # fmt: skip
        self._log = (self._folder / "prometheus.log").open("wb")
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log)
        eventually(self._ready, 30, "Prometheus to be ready")
        return self

    def __exit__(self, *failure: object) -> None:
        self._process.terminate()
        self._process.wait(30)
        self._log.close()

    def _ready(self) -> bool:
        assert self._process.poll() is None, (self._folder / "prometheus.log").read_text()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/-/ready", timeout=5) as reply:
                return bool(reply.status == 200)
        except OSError:
            return False

    def query(self, expr: str) -> list[tuple[dict[str, str], float]]:
        """The instant vector of an expression: labels and value of each sample."""
        question = urllib.parse.urlencode({"query": expr})
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/api/v1/query?{question}", timeout=10) as reply:
                data = json.load(reply)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{expr}: {error.read().decode()}") from None
        assert data["resultType"] == "vector", (expr, data)
        return [(sample["metric"], float(sample["value"][1])) for sample in data["result"]]

    def rules(self) -> dict[str, Any]:
        """The rules it runs, by the name of their alert."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/api/v1/rules", timeout=10) as reply:
            groups = json.load(reply)["data"]["groups"]
        return {rule["name"]: rule for group in groups for rule in group["rules"]}
