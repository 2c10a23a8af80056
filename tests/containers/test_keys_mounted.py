"""keys.json in containers: the folder, the file alone, Kubernetes' links, ids of machines, and addresses of clients."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from engine import OWNER, Container, Engine, owned, plaintext_in, seconds_until, status_of
from live import eventually

from sidecar.keys.file import edit
from sidecar.keys.secret import hash_of, new_plaintext

pytestmark = [pytest.mark.real_part, pytest.mark.timeout(900)]

FOLDER = "/home/sidecar/.config/futu"
SOON = 1.0
"""Seconds within which a changed keys.json holds."""


def write(path: Path, *plaintexts: str, **fields: object) -> Path:
    records = [
        {"id": f"key{n}", "hash": hash_of(one), "scopes": ["qot:read"], **fields} for n, one in enumerate(plaintexts)
    ]
    path.write_text(json.dumps({"version": 1, "keys": records}))
    path.chmod(0o600)
    os.chown(path, OWNER, OWNER)
    return path


@dataclass(frozen=True)
class Sidecar:
    container: Container
    rest: int
    admin: int


@contextmanager
def sidecar(engine: Engine, *options: str) -> Iterator[Sidecar]:
    """One in front of no OpenD at all, which is enough for its keys."""
    run = ("run", "--config", "/etc/opend-sidecar/sidecar.yaml", "--state-dir", "/tmp/state")
    ports = ("--publish", "127.0.0.1::22222", "--publish", "127.0.0.1::11180")
    with engine.container("--user", f"{OWNER}:{OWNER}", *ports, *options, command=run) as container:
        container.wait_log("the sidecar is open")
        rest, admin = (
            int(engine.run("port", container.name, str(port)).stdout.rpartition(":")[2]) for port in (22222, 11180)
        )
        eventually(lambda: status_of(admin, "/healthz") == 200, 5, "the container's ports")
        yield Sidecar(container, rest, admin)


def test_a_file_mounted_alone_warns_is_edited_in_place_and_counts_as_missing_once_it_is_replaced(
    engine: Engine, tmp_path: Path
) -> None:
    first = new_plaintext()
    file = write(owned(tmp_path / "keys") / "keys.json", first)
    with sidecar(engine, "--volume", f"{file}:{FOLDER}/keys.json") as running:
        container = running.container
        assert status_of(running.rest, "/api/key", first) == 200
        container.wait_log("is mounted as a single file")

        made = container.exec("opend-sidecar", "gen-key", "--id", "second", "--scopes", "qot:read")
        second = plaintext_in(made.stdout)
        assert seconds_until(running.rest, second, 200) < SOON
        assert [one["id"] for one in json.loads(file.read_text())["keys"]] == ["key0", "second"], "written in place"
        told = container.exec("opend-sidecar", "revoke-key", "second")
        assert "in force" in told.stdout + told.stderr
        assert seconds_until(running.rest, second, 401) < SOON

        edit(file, lambda document: document["keys"].clear(), None)  # outside, as revoke-key there does it
        started = time.monotonic()
        eventually(lambda: status_of(running.admin, "/readyz") == 503, 5, "the lost file to be noticed")
        container.wait_log("it was replaced outside")
        assert time.monotonic() - started < SOON + 0.5
        refused = container.exec("opend-sidecar", "gen-key", "--id", "third", "--scopes", "qot:read", check=False)
        assert refused.returncode == 1
        assert "was replaced outside" in refused.stderr
        assert container.state()["Running"], "the last good keys are in force, loudly"


def test_kubernetes_links_to_a_new_folder_are_followed(engine: Engine, tmp_path: Path) -> None:
    keys = owned(tmp_path / "keys")
    old, new = new_plaintext(), new_plaintext()
    for name, key in (("..2026_11_20", old), ("..2026_11_21", new)):
        (keys / name).mkdir()
        (keys / name).chmod(0o755)
        write(keys / name / "keys.json", key)
    (keys / "..data").symlink_to("..2026_11_20")
    (keys / "keys.json").symlink_to("..data/keys.json")
    with sidecar(engine, "--volume", f"{keys}:{FOLDER}:ro") as running:
        assert status_of(running.rest, "/api/key", old) == 200
        (keys / "..data_tmp").symlink_to("..2026_11_21")
        (keys / "..data_tmp").replace(keys / "..data")
        assert seconds_until(running.rest, old, 401) < SOON
        assert status_of(running.rest, "/api/key", new) == 200


def test_a_key_bound_to_a_machine_works_only_with_that_machines_id(engine: Engine, tmp_path: Path) -> None:
    keys, key = owned(tmp_path / "keys"), new_plaintext()
    machine = tmp_path / "machine-id"
    machine.write_text("0123456789abcdef0123456789abcdef\n")
    machine.chmod(0o644)
    write(keys / "keys.json", key)
    folder = ("--volume", f"{keys}:{FOLDER}")
    its_id = ("--volume", f"{machine}:/run/machine-id:ro", "--env", "SIDECAR_MACHINE_ID_FILE=/run/machine-id")
    bound = engine.once("--user", f"{OWNER}:{OWNER}", *folder, *its_id, command=("bind-key", "key0", "--this-machine"))
    assert bound.returncode == 0, bound.stderr
    with sidecar(engine, *folder, *its_id) as running:
        assert status_of(running.rest, "/api/key", key) == 200
    with sidecar(engine, *folder) as running:
        assert status_of(running.rest, "/api/key", key) == 401
        running.container.wait_log("this machine has no id")


def test_allowed_ips_are_doubted_where_every_client_has_the_gateways_address(engine: Engine, tmp_path: Path) -> None:
    keys = owned(tmp_path / "keys")
    write(keys / "keys.json", new_plaintext(), allowed_ips=["10.0.0.7"])
    mounted = ("--user", f"{OWNER}:{OWNER}", "--volume", f"{keys}:{FOLDER}")
    assert (
        "key `key0` has allowed_ips, but this is a container" in engine.once(*mounted, command=("check-config",)).stdout
    )
    beside = engine.once(*mounted, "--network", "host", command=("check-config",))
    assert beside.returncode == 0
    assert "has allowed_ips" not in beside.stdout
