"""README.zh.md says what README.md says: the same sections, code, table rows, links and names."""

from __future__ import annotations

import re
from collections import Counter

from documents import PROJECT

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMENT = re.compile(r"\s+# .*$", re.MULTILINE)


def read(name: str) -> tuple[str, list[tuple[str, str]]]:
    """A page without its code, and its blocks of code without comments."""
    text = (PROJECT / name).read_text()
    return FENCE.sub("", text), [(language, COMMENT.sub("", lines)) for language, lines in FENCE.findall(text)]


ENGLISH, CODE = read("README.md")
CHINESE, CHINESE_CODE = read("README.zh.md")


def test_code_is_the_same_but_for_its_comments() -> None:
    assert CHINESE_CODE == CODE


def test_sections_and_tables_are_the_same_in_number_and_order() -> None:
    def shape(text: str) -> list[str]:
        marks = re.findall(r"^(#+ |\||\*\*\d\.|- \*\*|!\[)", text, re.MULTILINE)
        return [mark.strip() for mark in marks]

    assert shape(CHINESE) == shape(ENGLISH)


def test_links_are_the_same() -> None:
    def links(text: str) -> Counter[str]:
        found = re.findall(r"\]\(([^)\s]+)\)", text)
        return Counter(link for link in found if not link.startswith("README") and not link.endswith(".svg"))

    assert links(CHINESE) == links(ENGLISH)


def test_names_in_code_type_are_the_same() -> None:
    def names(text: str) -> Counter[str]:
        return Counter(re.findall(r"`([^`\n]+)`", text))

    assert names(CHINESE) == names(ENGLISH)
