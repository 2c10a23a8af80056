"""The words people read about settings and key fields, from where they are written: the comments of config/sidecar.yaml and the
tables of docs/keys.md. Judges nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

PROJECT = Path(__file__).resolve().parent.parent
SETTINGS = PROJECT / "config" / "sidecar.yaml"
KEYS_PAGE = PROJECT / "docs" / "keys.md"

_FURTHER = 20
"""Columns by which a comment that is alone on its line goes on with the one above."""
_ROW = re.compile(r"^\| `(\w+)` \|.*?\| (.+) \|$", re.MULTILINE)
_LINK = re.compile(r"\[([^\]]+)\]\([^)]+\)")


@dataclass(frozen=True, slots=True)
class Setting:
    """One line of the documented file. `name` is dotted, with `[]` after the name of a list (`listeners.tcp[].port`)."""

    name: str
    default: str | None
    """As the file writes it; None for a section."""
    words: str


def settings() -> tuple[Setting, ...]:
    """Every setting and section of the documented file, in its order."""
    text = SETTINGS.read_text(encoding="utf-8")
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    assert isinstance(root, yaml.MappingNode)
    return tuple(_below(root, "", text.splitlines(), text))


def key_fields() -> dict[str, str]:
    """Field of a key record → what it means, without the links."""
    found = _ROW.findall(KEYS_PAGE.read_text(encoding="utf-8"))
    return {name: _LINK.sub(r"\1", meaning) for name, meaning in found}


def _below(section: yaml.MappingNode, prefix: str, lines: list[str], text: str) -> Iterator[Setting]:
    for name, value in section.value:
        full = f"{prefix}{name.value}"
        inside = value
        if isinstance(value, yaml.SequenceNode) and value.value and isinstance(value.value[0], yaml.MappingNode):
            full, inside = f"{full}[]", value.value[0]
        if isinstance(inside, yaml.MappingNode) and not inside.flow_style:
            yield Setting(full, None, _comment(lines, name.end_mark.line, name.end_mark.column))
            yield from _below(inside, f"{full}.", lines, text)
        else:
            default = text[value.start_mark.index : value.end_mark.index]
            yield Setting(full, default, _comment(lines, value.end_mark.line, value.end_mark.column))


def _comment(lines: list[str], line: int, column: int) -> str:
    """What stands after `#` behind a column, and in the lines below that go on with it."""
    found = [lines[line][column:].partition("#")[2].strip()]
    for further in lines[line + 1 :]:
        words = further.lstrip()
        if not words.startswith("#") or len(further) - len(words) < _FURTHER:
            break
        found.append(words.removeprefix("#").strip())
    return " ".join(found)
