"""What people copy out of the documents is taken: settings load, records of keys load, the README's commands make keys."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from documents import PROJECT, block, blocks, documents

from sidecar.cli.main import main
from sidecar.config import load_settings
from sidecar.errors import ConfigError
from sidecar.keys.record import read_record

SECTIONS = set(yaml.safe_load((PROJECT / "config/sidecar.yaml").read_text()))


def settings_blocks() -> list[tuple[str, str]]:
    found = []
    for page in documents():
        for language, lines in blocks(page):
            tree = yaml.safe_load(lines) if language == "yaml" else None
            if isinstance(tree, dict) and set(tree) <= SECTIONS:
                found.append((str(page.relative_to(PROJECT)), lines))
    return found


@pytest.mark.parametrize(("page", "lines"), settings_blocks(), ids=[page for page, _ in settings_blocks()])
def test_settings_that_are_shown_load(page: str, lines: str, tmp_path: Path) -> None:
    file = tmp_path / "sidecar.yaml"
    file.write_text(lines)
    load_settings(file, {})


def test_there_are_settings_to_load_and_a_wrong_one_does_not(tmp_path: Path) -> None:
    assert len(settings_blocks()) >= 4
    file = tmp_path / "sidecar.yaml"
    file.write_text("breakers: {refusals_in_a_row: often}\n")
    with pytest.raises(ConfigError):
        load_settings(file, {})


def test_the_keys_that_are_shown_load() -> None:
    for place, record in enumerate(json.loads(block("docs/keys.md", "json"))["keys"], 1):
        stored, problems, warnings = read_record(record, place, None)
        assert stored is not None, problems
        assert (problems, warnings) == ([], [])


def test_the_commands_of_the_readme_make_keys_that_check_config_takes(tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    lines = block("README.md", "sh", "gen-key --id research").replace("\\\n", " ").splitlines()
    commands = [line.split() for line in lines if line]
    assert [words[:2] for words in commands] == [["opend-sidecar", "gen-key"]] * 2
    for words in commands:
        made = CliRunner().invoke(main, [*words[1:], "--keys-file", str(keys)])
        assert made.exit_code == 0, made.output
        assert "plaintext: fc_" in made.output
    assert [record["id"] for record in json.loads(keys.read_text())["keys"]] == ["research", "sim-bot"]
    checked = CliRunner().invoke(main, ["check-config", "--keys-file", str(keys)])
    assert checked.exit_code == 0, checked.output
