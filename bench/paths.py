"""Starts and stops what a run is made of: the upstream, haproxy, the sidecar, the load. Measures nothing itself."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bench.load import Link, LoadError

START_PATIENCE = 20.0
"""Seconds a process may take until it answers."""
KEY_ID = "bench"
NO_KEY = "bench"
"""The clientID of runs that have no sidecar to read it."""
OPEN_FILES = 8192


class BenchError(Exception):
    """A part of the run did not start or did not do what it should; the message says which and why."""


@dataclass(frozen=True, slots=True)
class Way:
    """One way to the upstream: where the load connects, as whom, and whose cost is measured."""

    name: str
    port: int
    client_id: str
    pids: dict[str, int]


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        number: int = sock.getsockname()[1]
        return number


def raise_open_files() -> None:
    """1000 idle pairs need about 2000 descriptors in the proxies; children inherit the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@contextlib.contextmanager
def process(
    name: str,
    command: Sequence[str],
    log: Path,
    environment: Mapping[str, str] | None = None,
    stop_patience: float = 15.0,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process, its output in `log`; end it by SIGTERM, and by SIGKILL when it does not listen."""
    with log.open("ab") as out:
        child = subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=environment
        )
    try:
        yield child
        if child.poll() is not None:
            raise BenchError(f"{name} ended by itself with status {child.returncode}:\n{tail(log)}")
    finally:
        if child.poll() is None:
            child.send_signal(signal.SIGTERM)
            try:
                child.wait(stop_patience)
            except subprocess.TimeoutExpired:
                print(f"{name} did not end within {stop_patience:.0f} s of SIGTERM; killed", file=sys.stderr)
                child.kill()
                child.wait()


def tail(log: Path, lines: int = 15) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


def wait_until_it_answers(name: str, child: subprocess.Popen[bytes], port: int, client_id: str, log: Path) -> None:
    """Until an InitConnect and one read come back whole."""
    deadline, reason = time.monotonic() + START_PATIENCE, "no answer"
    while time.monotonic() < deadline:
        if child.poll() is not None:
            raise BenchError(f"{name} ended at its start with status {child.returncode}:\n{tail(log)}")
        try:
            link = Link(port, client_id)
            try:
                link.checked_quote()
            finally:
                link.sock.close()
            return
        except (OSError, LoadError) as error:
            reason = str(error)
        time.sleep(0.1)
    raise BenchError(f"{name} did not answer within {START_PATIENCE:.0f} s ({reason}):\n{tail(log)}")


@contextlib.contextmanager
def upstream() -> Iterator[tuple[int, int]]:
    """The responder: its port and pid."""
    child = subprocess.Popen([sys.executable, "-m", "bench.upstream"], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    assert child.stdout is not None
    try:
        line = child.stdout.readline()
        if not line:
            raise BenchError("the upstream did not start")
        yield int(line), child.pid
        if child.poll() is not None:
            raise BenchError(f"the upstream ended by itself with status {child.returncode}")
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


@contextlib.contextmanager
def direct(upstream_port: int, upstream_pid: int) -> Iterator[Way]:
    yield Way("direct", upstream_port, NO_KEY, {"upstream": upstream_pid})


HAPROXY_CONFIG = """\
global
    maxconn 4096
    nbthread {threads}
defaults
    mode tcp
    timeout connect 5s
    timeout client 1h
    timeout server 1h
listen bench
    bind 127.0.0.1:{port}
    server upstream 127.0.0.1:{upstream}
"""


@contextlib.contextmanager
def haproxy(upstream_port: int, upstream_pid: int, folder: Path, threads: int) -> Iterator[Way]:
    """haproxy in TCP mode; raises BenchError when it is not installed."""
    program = haproxy_program()
    if program is None:
        raise BenchError("haproxy is not installed")
    port, config, log = free_port(), folder / "haproxy.cfg", folder / "haproxy.log"
    config.write_text(HAPROXY_CONFIG.format(threads=threads, port=port, upstream=upstream_port))
    # -db: in the foreground, one process; it ends at once on SIGINT and SIGTERM
    with process("haproxy", [program, "-db", "-f", str(config)], log) as child:
        wait_until_it_answers("haproxy", child, port, NO_KEY, log)
        yield Way("haproxy", port, NO_KEY, {"upstream": upstream_pid, "proxy": child.pid})


def haproxy_program() -> str | None:
    return shutil.which("haproxy", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


def haproxy_version() -> str | None:
    program = haproxy_program()
    if program is None:
        return None
    return subprocess.run([program, "-v"], capture_output=True, text=True, check=True).stdout.split(" - ")[0].strip()


def other_doors() -> list[str]:
    """The port flags of the doors no load comes through, as `run --help` lists them: those stay shut."""
    command = [sys.executable, "-m", "sidecar.cli.main", "run", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"the sidecar does not start:\n{(done.stdout + done.stderr)[-2000:]}")
    return sorted(set(re.findall(r"--[a-z]+-port\b", done.stdout)) - {"--tcp-port", "--admin-port"})


GEN_KEY = (
    *("gen-key", "--id", KEY_ID, "--scopes", "qot:read,acc:read,trade:simulate"),
    *("--allowed-markets", "HK,US", "--max-order-value", "100000", "--max-daily-value", "1000000000000000"),
)


def make_key(keys_file: Path) -> str:
    """A key with whitelists and both value caps, made by the product's own command; returns the plaintext."""
    command = [sys.executable, "-m", "sidecar.cli.main", *GEN_KEY, "--keys-file", str(keys_file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    for line in done.stdout.splitlines():
        label, _, rest = line.strip().partition(":")
        if label == "plaintext" and rest.strip():
            return rest.split()[0]
    raise BenchError(f"gen-key gave no plaintext (status {done.returncode}):\n{done.stdout}{done.stderr}")


@contextlib.contextmanager
def sidecar(
    upstream_port: int,
    upstream_pid: int,
    folder: Path,
    settings: dict[str, Any],
    environment: Mapping[str, str],
    launcher: Sequence[str] = ("sidecar.cli.main",),
) -> Iterator[Way]:
    """The sidecar with policy, audit and ledger on, its state under `folder`; `launcher` is what `python -m` runs."""
    keys_file, config, log = folder / "keys" / "keys.json", folder / "sidecar.yaml", folder / "sidecar.log"
    state = folder / "state"
    for private in (keys_file.parent, state):  # apart, as by default: the keys' directory is watched for changes
        private.mkdir(mode=0o700)
    client_id = make_key(keys_file)
    config.write_text(yaml.safe_dump(settings))
    port = free_port()
    command = [
        *(sys.executable, "-m", *launcher, "run", "--config", str(config)),
        *("--upstream", f"127.0.0.1:{upstream_port}", "--keys-file", str(keys_file), "--state-dir", str(state)),
        *("--audit-log", str(state / "audit.jsonl"), "--bind", "127.0.0.1", "--tcp-port", str(port)),
        *("--admin-port", str(free_port())),
        *(part for flag in other_doors() for part in (flag, "off")),
    ]
    with process("the sidecar", command, log, environment, stop_patience=40.0) as child:
        wait_until_it_answers("the sidecar", child, port, client_id, log)
        yield Way("sidecar", port, client_id, {"upstream": upstream_pid, "proxy": child.pid})


def keep_on(core: int, pids: Iterable[int]) -> None:
    """Keep these processes, every thread of them, on one core."""
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(int(task.name), {core})


def run_load(way: Way, spec: dict[str, Any], patience: float) -> dict[str, Any]:
    """One run of the load process along that path. Raises BenchError with what went wrong."""
    full = spec | {"port": way.port, "client_id": way.client_id, "pids": way.pids}
    command = [sys.executable, "-m", "bench.load", json.dumps(full)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=patience, check=False)
    except subprocess.TimeoutExpired:
        raise BenchError(f"the load on {way.name} did not end within {patience:.0f} s") from None
    try:
        result: dict[str, Any] = json.loads(done.stdout)
    except json.JSONDecodeError:
        raise BenchError(f"the load on {way.name} failed:\n{done.stderr[-2000:]}") from None
    if "error" in result:
        raise BenchError(f"the load on {way.name} failed: {result['error']}")
    return result
