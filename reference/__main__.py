"""`make schema`: writes what is generated, where it belongs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from reference.pages import configuration
from reference.schemas import keys_schema, settings_schema
from reference.words import PROJECT


def _as_json(made: object) -> str:
    return json.dumps(made, indent=2, ensure_ascii=False) + "\n"


FILES: dict[Path, Callable[[], str]] = {
    PROJECT / "config" / "schema" / "sidecar.schema.json": lambda: _as_json(settings_schema()),
    PROJECT / "config" / "schema" / "keys.schema.json": lambda: _as_json(keys_schema()),
    PROJECT / "docs" / "configuration.md": configuration,
}


def main() -> None:
    for path, made in FILES.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(made(), encoding="utf-8")


if __name__ == "__main__":
    main()
