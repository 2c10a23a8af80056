"""The image as it is built: what is in it, what is not, and as whom it runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from engine import IMAGE, OWNER, Engine, owned

pytestmark = [pytest.mark.real_part, pytest.mark.timeout(900)]

LARGEST = 150 * 10**6
"""Bytes that may be added to the base image."""


def in_image(engine: Engine, program: str) -> object:
    done = engine.once("--network", "none", "--entrypoint", "python3", command=("-c", program))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_no_build_tools_and_none_of_what_only_the_sdk_needs_are_in_it(engine: Engine) -> None:
    packages = "pip", "setuptools", "wheel", "pandas", "numpy", "simplejson", "pytest"
    programs = "gcc", "cc", "make", "git", "pip", "pip3"
    found = in_image(
        engine,
        "import importlib.util as u, json, shutil; "
        f"print(json.dumps([[one for one in {packages} if u.find_spec(one)], [one for one in {programs} if shutil.which(one)]]))",
    )
    assert found == [[], []]


def test_it_runs_as_nobody_in_particular_and_has_neither_a_machine_id_nor_a_zone(engine: Engine) -> None:
    found = in_image(
        engine,
        "import json, os; paths = '/etc/machine-id', '/var/lib/dbus/machine-id', '/etc/localtime', '/etc/timezone'; "
        "print(json.dumps([os.getuid(), os.getgid(), [one for one in paths if os.path.lexists(one)]]))",
    )
    assert found == [1000, 1000, []]


def test_its_health_check_asks_healthz(engine: Engine) -> None:
    config = engine.inspect(IMAGE)
    check = config.get("HealthCheck") or config["Healthcheck"]
    assert "/healthz" in " ".join(check["Test"])
    assert config["Config"]["Entrypoint"] == ["opend-sidecar"]
    assert config["Config"]["User"] == "1000:1000"


def test_what_it_adds_to_its_base_is_small(engine: Engine) -> None:
    layers = json.loads(engine.run("history", "--format", "json", IMAGE).stdout)
    added = sum(layer["size"] for layer in layers[:-1] if "import" not in str(layer.get("comment", "")))
    print(f"the image adds {added / 1e6:.0f} MB to its base, {engine.inspect(IMAGE)['Size'] / 1e6:.0f} MB in all")
    assert 10**6 < added < LARGEST


def test_every_module_is_compiled_beforehand_since_none_can_be_later(engine: Engine) -> None:
    missing = in_image(
        engine,
        "import json, pathlib, importlib.util as u; "
        "root = pathlib.Path(u.find_spec('sidecar').origin).parent; "
        "print(json.dumps([str(one) for one in root.rglob('*.py') if not pathlib.Path(u.cache_from_source(str(one))).exists()]))",
    )
    assert missing == []


def test_without_keys_it_does_not_start_and_says_how_to_make_one(engine: Engine, tmp_path: Path) -> None:
    keys = owned(tmp_path / "keys")
    mounted = (
        "--user",
        f"{OWNER}:{OWNER}",
        "--volume",
        f"{keys}:/home/sidecar/.config/futu",
        "--read-only",
        "--tmpfs",
        "/tmp",
    )
    done = engine.once(*mounted, command=("run",))
    assert done.returncode == 1
    assert "does not exist; make a first key with `opend-sidecar gen-key" in done.stderr
    assert "Traceback" not in done.stderr


def test_hours_without_a_zone_do_not_load_in_it_rather_than_mean_utc(engine: Engine, tmp_path: Path) -> None:
    keys = owned(tmp_path / "keys")
    record = {"id": "bot", "hash": "0" * 64, "scopes": ["trade:simulate"], "hours_window": "09:30-16:00"}
    file = keys / "keys.json"
    file.write_text(json.dumps({"version": 1, "keys": [record]}))
    file.chmod(0o600)
    mounted = ("--user", "0", "--volume", f"{keys}:/home/sidecar/.config/futu:ro")
    done = engine.once(*mounted, command=("check-config",))
    assert done.returncode == 1
    assert "hours in which zone?" in done.stdout + done.stderr
    assert engine.once(*mounted, "--env", "TZ=Asia/Hong_Kong", command=("check-config",)).returncode == 0
