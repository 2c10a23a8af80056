"""A real container engine (podman), the image it builds from this folder, and containers that end with their test."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from live import eventually
from real_parts import need, need_program

PROJECT = Path(__file__).resolve().parents[2]
BASE = "python:3.13-slim-trixie"
STAND_IN = "localhost/opend-sidecar-base:trixie"
IMAGE = "localhost/opend-sidecar:test"
OWNER = 1234
"""Whose keys.json is in the tests: neither root nor the image's own user."""

CONF = """[engine]
runtime = "runc"
[containers]
default_ulimits = []
[network]
network_backend = "netavark"
"""
"""An engine that may not raise limits (inside another container, say) starts nothing with its own default of them."""


@dataclass
class Engine:
    """Podman, with settings of its own."""

    folder: Path
    environ: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        need("podman", shutil.which("podman") is not None)
        need("root", os.geteuid() == 0)
        need_program("runc")
        conf = self.folder / "containers.conf"
        conf.write_text(CONF)
        self.environ = {**os.environ, "CONTAINERS_CONF": str(conf), "BUILDAH_FORMAT": "docker"}

    def run(
        self, *arguments: str, check: bool = True, timeout: float = 300, program: str = "podman", **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """`variables` are put into the environment."""
        done = subprocess.run(
            [program, *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
            env={**self.environ, **variables},
            cwd=PROJECT,
        )
        assert not check or done.returncode == 0, (
            f"{program} {' '.join(arguments)}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        )
        return done

    def has(self, image: str) -> bool:
        return self.run("image", "exists", image, check=False).returncode == 0

    def inspect(self, what: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.run("inspect", what).stdout)[0]
        return found

    # -- images ---------------------------------------------------------------------------------------------------

    def base(self) -> str:
        """The official Python image; where it cannot be pulled, a Debian with its Python made by debootstrap."""
        if self.has(BASE) or self.run("pull", "--quiet", BASE, check=False, timeout=120).returncode == 0:
            return BASE
        warnings.warn(f"{BASE} cannot be pulled: the image is built on a stand-in made with debootstrap", stacklevel=2)
        if not self.has(STAND_IN):
            self._make_stand_in()
        return STAND_IN

    def _make_stand_in(self) -> None:
        need_program("debootstrap")
        memory = Path("/dev/shm")  # dpkg syncs every file it unpacks, which a disk takes minutes for
        room = shutil.disk_usage(memory).free > 2**30 if memory.exists() else False
        root = (memory if room else self.folder) / f"opend-sidecar-base-{uuid4().hex[:8]}"
        wanted = "python3,python3-venv,ca-certificates"
        try:
            self.run(
                f"--include={wanted}", "--variant=minbase", "trixie", str(root), program="debootstrap", timeout=900
            )
            for waste in ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale"):
                shutil.rmtree(root / waste, ignore_errors=True)
            tar = subprocess.Popen(["tar", "-C", str(root), "-c", "."], stdout=subprocess.PIPE)
            path = "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
            subprocess.run(
                ["podman", "import", "--change", path, "-", STAND_IN],
                stdin=tar.stdout, check=True, capture_output=True, env=self.environ,
            )  # fmt: skip
            assert tar.wait() == 0
        finally:
            shutil.rmtree(root, ignore_errors=True)

    def build(self) -> str:
        """The image, as docker-compose.yml has it built, with this machine's pip settings and certificates."""
        lent = [path for path in ("/etc/pip.conf", "/etc/ssl/certs") if Path(path).exists()]
        options = ["--network host", *(f"--volume {path}:{path}:ro" for path in lent)]
        compose = ("-f", "docker-compose.yml", f"--podman-build-args={' '.join(options)}", "build", "sidecar")
        variables = {"SIDECAR_IMAGE": IMAGE, "PYTHON_IMAGE": self.base()}
        self.run(*compose, program=need_program("podman-compose"), timeout=900, **variables)
        return IMAGE

    def prune(self) -> None:
        """Images of earlier runs, which lost their name to this one's."""
        self.run(
            "image", "prune", "--force", "--filter", "label=org.opencontainers.image.title=opend-sidecar", check=False
        )

    # -- containers -----------------------------------------------------------------------------------------------

    @contextmanager
    def container(self, *options: str, command: tuple[str, ...] = ()) -> Iterator[Container]:
        """One that runs for the block, as locked up as the compose files have theirs."""
        name = f"sidecar-test-{uuid4().hex[:8]}"
        locked_up = ("--read-only", "--tmpfs", "/tmp", "--cap-drop", "all", "--security-opt", "no-new-privileges")
        try:
            self.run("run", "--detach", "--name", name, *locked_up, *options, IMAGE, *command)
            yield Container(self, name)
        finally:
            self._remove(name)

    def _remove(self, name: str) -> None:
        """Podman says of a container that ends just then that it cannot; so it is told again."""
        remove = ("rm", "--force", "--ignore", "--volumes", "--time", "1", name)
        eventually(lambda: self.run(*remove, check=False).returncode == 0, 20, f"container {name} to be gone")

    def once(self, *options: str, command: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
        """A container that does one thing and is gone."""
        return self.run("run", "--rm", *options, IMAGE, *command, check=False)


@dataclass
class Container:
    """A running container."""

    engine: Engine
    name: str

    def exec(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.engine.run("exec", self.name, *command, check=check)

    def logs(self) -> str:
        done = self.engine.run("logs", self.name, check=False)
        return done.stdout + done.stderr

    def wait_log(self, text: str, count: int = 1, timeout: float = 15) -> None:
        eventually(lambda: self.logs().count(text) >= count, timeout, f"`{text}` in the log:\n{self.logs()}")

    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = self.engine.inspect(self.name)["State"]
        return found

    def signal(self, name: str) -> None:
        self.engine.run("kill", "--signal", name, self.name)

    def healthy(self) -> bool:
        """What the image's HEALTHCHECK says."""
        return self.engine.run("healthcheck", "run", self.name, check=False).returncode == 0


def owned(folder: Path, owner: int = OWNER) -> Path:
    """A folder for keys.json as its owner has it: nobody else looks into it."""
    folder.mkdir(mode=0o700)
    os.chown(folder, owner, owner)
    for above in folder.parents:  # pytest's own folders are root's alone
        if above == Path("/tmp"):
            break
        above.chmod(above.stat().st_mode | 0o011)
    return folder


def status_of(port: int, path: str, key: str | None = None) -> int:
    """Of a page; 0 while nobody answers."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", headers={"Authorization": f"Bearer {key}"} if key else {}
    )
    try:
        with urllib.request.urlopen(request, timeout=5) as reply:
            found: int = reply.status
            return found
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def seconds_until(port: int, key: str, status: int) -> float:
    """How long it takes until a key is answered with `status`, 5 s at most."""
    started = time.monotonic()
    eventually(lambda: status_of(port, "/api/key", key) == status, 5, f"{status} for the key")
    return time.monotonic() - started


def plaintext_in(output: str) -> str:
    """The key in what `gen-key` printed."""
    return next(line.partition(":")[2].strip() for line in output.splitlines() if line.startswith("plaintext:"))


def main() -> None:
    """Build the image beforehand, so that tests need not wait for it."""
    folder = Path(os.environ.get("TMPDIR", "/tmp")) / f"opend-sidecar-image-{os.getpid()}"
    folder.mkdir()
    try:
        Engine(folder).build()
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
