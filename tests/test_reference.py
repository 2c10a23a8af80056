"""What is generated for people and editors is up to date, and the schemas refuse nothing that the program takes."""

from __future__ import annotations

import json
import re
import subprocess
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator
from real_parts import need_program

from reference.__main__ import FILES
from reference.schemas import keys_schema, settings_schema
from reference.words import PROJECT, key_fields, settings
from sidecar.border import CURRENCIES
from sidecar.config import load_settings
from sidecar.errors import ConfigError
from sidecar.keys.record import KNOWN_FIELDS, read_record
from sidecar.setting_changes import CHANGEABLE, changeable
from sidecar.settings import surface

CONFIG = PROJECT / "config"
SETTINGS, KEYS = Draft7Validator(settings_schema()), Draft7Validator(keys_schema())
EXAMPLE: dict[str, Any] = json.loads((CONFIG / "keys.example.json").read_text())
RECORD: dict[str, Any] = {"id": "bot", "hash": "0" * 64, "scopes": ["qot:read"], "timezone": "Asia/Hong_Kong"}


class _Plain(yaml.SafeLoader):
    """As editors read it: a day is text."""


_Plain.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if not tag.endswith(":timestamp")]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read(text: str) -> Any:
    return yaml.load(text, Loader=_Plain)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_what_is_generated_is_as_it_would_be_generated_now(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == FILES[path](), "run `make schema`"


def test_every_setting_has_words_and_a_default() -> None:
    known = settings()
    assert all(one.words for one in known if one.name != "listeners.tcp[].tls.min_version")
    names = {one.name.replace("[]", "") for one in known}

    def leaves(tree: dict[str, Any], prefix: str) -> list[str]:
        found = []
        for name, below in tree.items():
            full = f"{prefix}{name}"
            found += [full] if full in names or below is None else []
            found += leaves(below, f"{full}.") if below is not None and not full.endswith(".tls") else []
        return found

    assert set(leaves(surface(), "")) <= names


def test_every_field_of_a_key_has_words() -> None:
    assert set(key_fields()) >= KNOWN_FIELDS - {"limits"}


def test_the_page_marks_what_can_change_and_nothing_else() -> None:
    page = (PROJECT / "docs" / "configuration.md").read_text()
    marked = len(re.findall(r"^\| `\w+` ↻ \|", page, re.MULTILINE))
    assert marked == sum(changeable(one.name) for one in settings() if one.default is not None)
    assert marked >= sum(len(names) for names in CHANGEABLE.values())


def test_the_examples_are_valid() -> None:
    assert not list(SETTINGS.iter_errors(read((CONFIG / "sidecar.yaml").read_text())))
    assert not list(KEYS.iter_errors(EXAMPLE))
    Draft7Validator.check_schema(settings_schema())
    Draft7Validator.check_schema(keys_schema())


@pytest.mark.parametrize(
    "text",
    [
        "upstrem: {}",
        "upstream: {prot: 1}",
        "upstream: {port: '1'}",
        "upstream: {port: 70000}",
        "audit: {min_free: 5 TB}",
        "audit: {reads: 1}",
        "listeners: {tcp: {port: 1}}",
        "listeners: {tcp: [{tls: {certificate: /c.pem}}]}",
        "listeners: {rest: 22222}",
        "listeners: {rest: {tls: {min_version: '1.1'}}}",
        "policy: {fx: {rates: {EUR: 8}}}",
        "policy: {fx: {base: RMB}}",
        "policy: {day_rolls_at: '24:00'}",
        "policy: {price_buffer_pct: 101}",
        "unlock: {mode: nobody}",
        "breakers: {identical_orders: 1}",
        "log: {level: loud}",
    ],
)
def test_settings_that_the_program_refuses_are_marked_by_editors(text: str, tmp_path: Path) -> None:
    path = tmp_path / "sidecar.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError):
        load_settings(path, {})
    assert list(SETTINGS.iter_errors(read(text)))


ALL_OR_NONE = ("policy.fx.", "listeners.", "breakers.daily_loss", "unlock.password_")
"""Settings that are taken only with others of their section."""

POOL: list[Any] = [
    "off",
    False,
    True,
    0,
    1,
    5,
    60,
    600,
    2.5,
    100,
    1024,
    "x",
    "1 KiB",
    "64 MiB",
    [],
    {},
    "127.0.0.1",
    "::1",
    "2026-11-20",
    "HKD",
    "00:00",
    "0660",
    "1.2",
    "unix:/s",
    ["127.0.0.1"],
    ["https://a.example"],
    ["a:1"],
    {"bot": "/k.pem"},
    {"USD": 7.78},
    {"USD": "7.78"},
    "UTC",
    "owner",
    "info",
    "A_B",
    "~/k",
]


def _names(tree: dict[str, Any], prefix: str = "") -> list[str]:
    found = []
    for name, below in tree.items():
        found.append(f"{prefix}{name}")
        found += _names(below, f"{prefix}{name}.") if below is not None else []
    return found


@pytest.mark.parametrize("name", _names(surface()))
def test_no_value_that_the_program_takes_is_marked_by_editors(name: str, tmp_path: Path) -> None:
    path = tmp_path / "sidecar.yaml"
    taken = 0
    for value in [None, *POOL]:
        tree: Any = value
        for part in reversed(name.split(".")):
            tree = {part: [tree] if part == "tcp" and isinstance(tree, dict) else tree}
        path.write_text(json.dumps(tree))
        try:
            load_settings(path, {})
        except ConfigError:
            continue
        taken += value is not None
        assert not [error.message for error in SETTINGS.iter_errors(tree)], value
    assert taken or name.startswith(ALL_OR_NONE), "the pool has no value for it"


KEY_POOL: list[Any] = [
    None,
    True,
    False,
    1,
    5,
    30,
    2.5,
    100,
    "x",
    "bot@home",
    "0" * 64,
    "sha256:" + "a" * 64,
    [],
    ["qot:read"],
    ["HK"],
    ["HK.00700", "US.AAPL@options"],
    ["BUY"],
    [281756455983234027],
    ["NORMAL"],
    "HKD",
    "09:30-16:00",
    ["22:00-04:00", "16:00-24:00"],
    "Asia/Hong_Kong",
    "2027-01-31T00:00:00Z",
    "2027-01-31 00:00:00.5+08:00",
    ["10.0.0.0/24"],
    ["00:" * 31 + "00"],
    ["f" * 64],
    {"max_order_value": 5},
    {},
]


@pytest.mark.parametrize("field", sorted(KNOWN_FIELDS))
def test_no_field_of_a_key_that_the_program_takes_is_marked_by_editors(field: str) -> None:
    taken = 0
    for value in KEY_POOL:
        record = {**RECORD, field: value}
        raw = json.loads(json.dumps(record), parse_float=Decimal)
        stored, problems, _ = read_record(raw, 1, None)
        if stored is None or problems:
            continue
        taken += 1
        marked = [error.message for error in KEYS.iter_errors({"version": 1, "keys": [record]})]
        assert not marked, value
    assert taken


@pytest.mark.parametrize(
    "wrong",
    [
        {"hash": "fc_" + "a" * 32},
        {"scopes": []},
        {"scopes": ["qot:write"]},
        {"max_order_valeu": 1},
        {"max_order_value": "1"},
        {"allowed_markets": []},
        {"limits": {"scopes": ["qot:read"]}},
        {"limits": {"max_order_value": 0}},
        {"cancel_on_disconnect": 5},
        {"hours_window": "9:30-16:00"},
        {"expires_at": "2027-01-31"},
    ],
)
def test_a_record_that_the_program_refuses_is_marked_by_editors(wrong: dict[str, Any]) -> None:
    record = {**RECORD, **wrong}
    stored, problems, _ = read_record(record, 1, None)
    assert stored is None
    assert problems
    assert list(KEYS.iter_errors({"version": 1, "keys": [record]}))


def test_the_currencies_of_settings_are_those_of_keys() -> None:
    rates = settings_schema()["properties"]["policy"]["anyOf"][0]["properties"]["fx"]["anyOf"][0]["properties"]["rates"]
    assert rates["anyOf"][0]["propertyNames"]["enum"] == list(CURRENCIES)


def check(schema: str, *files: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [need_program("check-jsonschema"), "--schemafile", str(CONFIG / "schema" / schema), *map(str, files)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.real_part
def test_a_validator_of_others_takes_the_examples_and_refuses_bad_ones(tmp_path: Path) -> None:
    good = check("sidecar.schema.json", CONFIG / "sidecar.yaml")
    assert good.returncode == 0, good.stdout + good.stderr
    assert check("keys.schema.json", CONFIG / "keys.example.json").returncode == 0
    bad = tmp_path / "bad.yaml"
    bad.write_text("policy: {fx: {as_of: 2026-11-20, base: HKD, rate: {USD: 7.78}}}")
    refused = check("sidecar.schema.json", bad)
    assert refused.returncode == 1
    assert "rate" in refused.stdout
    wrong = tmp_path / "keys.json"
    wrong.write_text(json.dumps({**EXAMPLE, "keys": [{**EXAMPLE["keys"][0], "scopes": "qot:read"}]}))
    assert check("keys.schema.json", wrong).returncode == 1
