"""JSON Schemas of sidecar.yaml and keys.json: forms from the types that read them, words from `words`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml
from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from reference import words
from sidecar.keys.record import LIMIT_FIELDS, record_schema
from sidecar.settings import Settings

Schema = JsonSchemaValue
DRAFT = "http://json-schema.org/draft-07/schema#"
OFF: Schema = {"enum": ["off", False]}
NULL: Schema = {"type": "null"}
LISTENERS = "listeners."


class _Forms(GenerateJsonSchema):
    """Without defaults: those of the settings are values, and the file has them as people write them."""

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])


def settings_schema() -> Schema:
    """Of sidecar.yaml. null stands for the default everywhere, as a line that is not there."""
    whole = TypeAdapter(Settings).json_schema(schema_generator=_Forms)
    told = {one.name: one for one in words.settings()}
    found = _section(_inlined(whole, whole["$defs"]), "", told)
    return {"$schema": DRAFT, "title": "opend-sidecar: settings", **found}


def keys_schema() -> Schema:
    """Of keys.json."""
    told = words.key_fields()
    plain = record_schema()
    fields = {
        name: {"description": told[name], **_without(form, "title", "default")}
        for name, form in plain["properties"].items()
    }
    limits = {name: fields[name] for name in plain["properties"] if name in LIMIT_FIELDS}
    fields["limits"] = {
        "description": "limits, each here or flat on the record",
        "anyOf": [{"type": "object", "properties": limits, "additionalProperties": False}, NULL],
    }
    record = {"type": "object", "properties": fields, "required": plain["required"], "additionalProperties": False}
    top = {"version": {"description": "of the file's form", "const": 1}, "keys": {"type": "array", "items": record}}
    return {
        "$schema": DRAFT,
        "title": "opend-sidecar: keys.json",
        "type": "object",
        "properties": top,
        "required": list(top),
        "additionalProperties": False,
    }


def _section(form: Schema, prefix: str, told: Mapping[str, words.Setting]) -> Schema:
    properties = {name: _setting(one, f"{prefix}{name}", told) for name, one in form["properties"].items()}
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _setting(form: Schema, name: str, told: Mapping[str, words.Setting]) -> Schema:
    door = name.startswith(LISTENERS) and name.count(".") == 1
    each = form.get("items", {})
    if "properties" in each:
        item = _section(each, f"{name}[].", told)
        found: Schema = {"type": "array", "items": {"anyOf": [item, NULL]}}
        return _open(found, told[f"{name}[]"], [OFF])
    inner = next((one for one in (form, *form.get("anyOf", ())) if "properties" in one), None)
    if inner is not None:
        return _open(_section(inner, f"{name}.", told), _told(name, told), [OFF] if door else [])
    found = _without(form, "title", "description")
    others = [OFF] if name.startswith(LISTENERS) and name.endswith(".port") else []
    return _open(found, _told(name, told), others)


def _open(form: Schema, setting: words.Setting, others: list[Schema]) -> Schema:
    """With the words, the default, and what may stand in its place; null may everywhere."""
    forms = [one for one in form.pop("anyOf", [form]) if one != NULL]
    found: Schema = {"description": setting.words}
    if setting.default is not None:
        found["default"] = yaml.safe_load(setting.default)
    return {**found, "anyOf": [*forms, *others, NULL]}


def _told(name: str, told: Mapping[str, words.Setting]) -> words.Setting:
    """Its own words, or those of the first listener where the file writes a group in one line."""
    if name in told:
        return told[name]
    return told[f"{LISTENERS}tcp[].tls.{name.rpartition('.')[2]}"]


def _inlined(form: Any, definitions: Mapping[str, Schema]) -> Any:
    if isinstance(form, dict):
        if "$ref" in form:
            return _inlined(definitions[form["$ref"].rpartition("/")[2]], definitions)
        return {name: _inlined(one, definitions) for name, one in form.items() if name != "$defs"}
    return [_inlined(one, definitions) for one in form] if isinstance(form, list) else form


def _without(form: Schema, *names: str) -> Schema:
    return {name: one for name, one in form.items() if name not in names}
