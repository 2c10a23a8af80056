"""The documents people read, as tests run them: what stands in their blocks of code. Knows nothing of what it does."""

from __future__ import annotations

import re
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def documents() -> list[Path]:
    """Every document of the project, but for the pages of `docs/decisions`."""
    return [
        *sorted(PROJECT.glob("*.md")),
        *(page for page in sorted((PROJECT / "docs").rglob("*.md")) if page.parent.name != "decisions"),
    ]


def blocks(page: Path) -> list[tuple[str, str]]:
    """Its blocks of code: language (empty where none is given) and lines."""
    return _FENCE.findall(page.read_text())


def block(document: str, language: str, holding: str = "") -> str:
    """The first block of code in that language, of those with the text `holding` in them."""
    return next(lines for told, lines in blocks(PROJECT / document) if told == language and holding in lines)
