"""The contents of keys.json as a whole: JSON, its outer form, and what records must not share. Touches no file system."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import tzinfo
from decimal import Decimal
from pathlib import Path
from typing import Any, NoReturn

from sidecar.border import closest, shown
from sidecar.errors import ConfigError
from sidecar.keys.record import JsonObject, Problem, StoredKey, read_record

_TOP_FIELDS = ("version", "keys")


@dataclass(frozen=True, slots=True)
class KeysFile:
    """What a good file holds. `revision` is the SHA-256 of its bytes in hex; `warnings` are prose for the operator."""

    records: tuple[StoredKey, ...]
    revision: str
    warnings: tuple[str, ...]


def parsed(data: bytes, path: Path, default_zone: tzinfo | None, warnings: Iterable[str]) -> KeysFile:
    document = _document(data, path)
    problems = _top_problems(document)
    records: list[StoredKey] = []
    notes = list(warnings)
    entries = document.get("keys")
    for place, raw in enumerate(entries if isinstance(entries, list) else (), start=1):
        stored, its_problems, its_warnings = read_record(raw, place, default_zone)
        problems += its_problems
        notes += its_warnings
        if stored is not None:
            records.append(stored)
    problems += _clashes(entries if isinstance(entries, list) else [])
    if problems:
        lines = "\n".join(f"  {problem}" for problem in problems)
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise ConfigError(f"keys file `{path}` has {count}:\n{lines}")
    return KeysFile(tuple(records), hashlib.sha256(data).hexdigest(), tuple(notes))


def _document(data: bytes, path: Path) -> JsonObject:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"keys file `{path}` is not UTF-8 (byte {error.start}); save it as UTF-8") from None
    if text.startswith("\N{BOM}"):
        raise ConfigError(f"keys file `{path}` begins with a byte order mark; save it as UTF-8 without one")
    if not text.strip():
        raise ConfigError(
            f'keys file `{path}` is empty; write {{"version": 1, "keys": []}} or make a key with `gen-key`'
        )
    try:
        document = json.loads(text, parse_float=Decimal, parse_constant=_refuse_constant, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        raise ConfigError(
            f"keys file `{path}` is not JSON: line {error.lineno}, column {error.colno}: {error.msg.lower()}"
        ) from None
    except RecursionError:
        raise ConfigError(f"keys file `{path}` is nested too deeply to be a keys file") from None
    except (ValueError, ArithmeticError) as error:
        raise ConfigError(f"keys file `{path}` holds a number that cannot be used: {error}") from None
    if not isinstance(document, JsonObject):
        raise ConfigError(f'keys file `{path}` is not an object; write {{"version": 1, "keys": [...]}}')
    return document


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"`{name}` is no limit; remove the field for no limit")


def _object(pairs: list[tuple[str, Any]]) -> JsonObject:
    made = JsonObject(pairs)
    if len(made) != len(pairs):
        names = [name for name, _ in pairs]
        made.repeated = tuple(dict.fromkeys(name for name in names if names.count(name) > 1))
    return made


def _top_problems(document: JsonObject) -> list[Problem]:
    found = [Problem("", name, "is written more than once; keep one of them") for name in document.repeated]
    found += [
        Problem("", name, f"unknown field{closest(name, _TOP_FIELDS) or '; remove it'}")
        for name in document
        if name not in _TOP_FIELDS
    ]
    version = document.get("version")
    if type(version) is not int or version != 1:
        told = shown(version) if "version" in document else "is missing"
        found.append(Problem("", "version", f'{told}; this program reads version 1: write "version": 1'))
    if not isinstance(document.get("keys"), list):
        found.append(Problem("", "keys", 'must be the list of key records; write "keys": [...]'))
    return found


def _clashes(entries: list[Any]) -> list[Problem]:
    """Records that share an id or a secret. Looked for in the raw records, so that other problems hide none."""
    problems: list[Problem] = []
    ids: set[str] = set()
    owners: dict[str, str] = {}
    for raw in entries:
        if not isinstance(raw, dict) or not isinstance(raw.get("id"), str):
            continue
        name = raw["id"]
        if name in ids:
            problems.append(Problem(shown(name), "id", "two records have this id; rename or delete one"))
        ids.add(name)
        for field in ("hash", "ws_hash"):
            value = raw.get(field)
            if not isinstance(value, str):
                continue
            digest = value.removeprefix("sha256:").lower()
            if digest in owners:
                other = shown(owners[digest])
                text = f"is also that of key {other}; one secret cannot be two keys: make a new one with `gen-key`"
                problems.append(Problem(shown(name), field, text))
            owners.setdefault(digest, name)
        for certificate in _certificates(raw.get("client_certs")):
            if owners.setdefault(certificate, name) != name:
                other = shown(owners[certificate])
                text = f"a certificate is also listed for key {other}; one certificate cannot be two keys"
                problems.append(Problem(shown(name), "client_certs", text))
    return problems


def _certificates(raw: object) -> set[str]:
    """Those listed, in one form; what is none is for the record's own reading to say."""
    if not isinstance(raw, list):
        return set()
    return {f"certificate {_one_form(each)}" for each in raw if isinstance(each, str)}


def _one_form(text: str) -> str:
    return text.removeprefix("sha256:").replace(":", "").lower()
