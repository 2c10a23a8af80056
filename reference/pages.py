"""docs/configuration.md: every setting with its default, what it takes, and whether it can change while the sidecar runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from reference import words
from reference.schemas import NULL, OFF, settings_schema
from sidecar.setting_changes import changeable

_HEAD = """\
# Settings

`opend-sidecar run --config sidecar.yaml` reads them from a YAML file; [config/sidecar.yaml](../config/sidecar.yaml) has every one with
its default: delete what you do not change. A few have flags (`run --help`), which win over the file. Times are seconds; sizes are
bytes or `512 KiB`, `64 MiB`, `2 GiB`. `null`, or a line that is not there, is the default. An unknown name refuses to start, and
names the closest one there is. No secret belongs in the file: keys are hashes in [keys.json](keys.md), private keys and the trade
password are files of their own (or, the password, an environment variable).

`check-config` says what is wrong or doubtful. Editors that know YAML language servers complete and check the file as you write, by
the JSON Schema that its first line names: [config/schema/sidecar.schema.json](../config/schema/sidecar.schema.json);
[keys.schema.json](../config/schema/keys.schema.json) is that of keys.json.

Settings marked ↻ hold [as soon as the file changes](reloading.md); the others need a restart.

This page is made from the program and from that file by `make schema`.
"""
_TYPES = {
    "string": "text", "boolean": "`true`, `false`", "integer": "a whole number", "number": "a number", "array": "a list",
    "object": "a mapping",
}  # fmt: skip


def configuration() -> str:
    """The page as Markdown."""
    return "\n".join([_HEAD, *_tables()]) + "\n"


def _tables() -> Iterator[str]:
    forms = settings_schema()
    alone = [one for one in words.settings() if one.default is not None and "." not in one.name]
    yield "## On their own\n"
    yield from _table(alone, "", forms)
    for section in words.settings():
        if section.default is not None:
            continue
        yield f"\n## {section.name.replace('[]', '')}\n"
        if section.words:
            yield f"{_first_upper(_cell(section.words))}.\n"
        prefix = f"{section.name}."
        inside = [one for one in words.settings() if one.name.startswith(prefix) and one.default is not None]
        direct = [one for one in inside if "." not in one.name.removeprefix(prefix)]
        if direct:
            yield from _table(direct, prefix, forms)


def _table(settings: list[words.Setting], prefix: str, forms: dict[str, Any]) -> Iterator[str]:
    yield "| setting | default | takes | |"
    yield "|---|---|---|---|"
    for one in settings:
        mark = " ↻" if changeable(one.name) else ""
        takes = "those of [listeners.tcp.tls](#listenerstcptls)" if _is_group(one) else _takes(_form(one.name, forms))
        default = "" if _is_group(one) else f"`{one.default}`"
        yield f"| `{one.name.removeprefix(prefix)}`{mark} | {default} | {takes} | {_cell(one.words)} |"


def _is_group(setting: words.Setting) -> bool:
    return setting.name.endswith(".tls")


def _form(name: str, forms: dict[str, Any]) -> dict[str, Any]:
    for part in name.split("."):
        form = next(one for one in forms.get("anyOf", [forms]) if {"properties", "items"} & one.keys())
        if "items" in form:
            form = next(one for one in form["items"]["anyOf"] if "properties" in one)
        forms = form["properties"][part.removesuffix("[]")]
    return forms


def _takes(form: dict[str, Any]) -> str:
    forms = [each for each in form["anyOf"] if each != NULL]
    if any("KiB" in each.get("pattern", "") for each in forms):
        return "a size"
    return ", or ".join(_one(each) for each in forms)


def _one(form: dict[str, Any]) -> str:
    if form == OFF:
        return "`off`"
    if "enum" in form:
        return ", ".join(f"`{one}`" for one in form["enum"])
    what = {"date": "a day"}.get(form.get("format", ""), _TYPES[form["type"]])
    if "items" in form:
        what = f"{what} of {_TYPES[form['items']['type']]}"
    least, over, most = form.get("minimum"), form.get("exclusiveMinimum"), form.get("maximum")
    if least is not None and most is not None:
        return f"{what}, {_number(least)} to {_number(most)}"
    bounds = [f"above {_number(over)}"] if over is not None else []
    bounds += [f"at least {_number(least)}"] if least is not None else []
    bounds += [f"up to {_number(most)}"] if most is not None else []
    return f"{what}, {', '.join(bounds)}" if bounds else what


def _number(value: float) -> str:
    return f"{value:,.10g}".replace(",", " ") if value >= 10_000 else f"{value:g}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _first_upper(text: str) -> str:
    return text if "." in text.split(",")[0] else text[:1].upper() + text[1:]
