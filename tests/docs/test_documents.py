"""What the documents say exists: pages, headings, codes, fields of keys, settings, commands and their flags, metrics."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from documents import PROJECT, block, documents

from sidecar.cli.main import main
from sidecar.keys.record import KNOWN_FIELDS, LIMIT_FIELDS
from sidecar.listeners.refusals import NATIVE
from sidecar.policy.decision import Code, Refusal
from sidecar.policy.key import Scope

ALL = [*documents(), *sorted((PROJECT / "docs/decisions").glob("*.md"))]
NAMES = [str(page.relative_to(PROJECT)) for page in ALL]
HEADING = re.compile(r"^#{1,6} (.*)$", re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")
FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`\n]+)`")
SETTINGS: dict[str, Any] = yaml.safe_load((PROJECT / "config/sidecar.yaml").read_text())
SETTING = re.compile(rf"({'|'.join(SETTINGS)})\.[a-z_]+(\.[a-z_]+)*")
FILES = (".yaml", ".json", ".md", ".sock", ".jsonl", ".pem", ".py", ".stdio")


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return FENCE.sub("", page.read_text())


def anchors(page: Path) -> set[str]:
    """What its headings are called in links, as GitHub calls them."""
    found: set[str] = set()
    for heading in HEADING.findall(prose(page)):
        plain = re.sub(r"\[([^]]*)\]\([^)]*\)|[`*\\]", r"\1", heading).strip().lower()
        name = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        found.add(name if name not in found else f"{name}-1")
    return found


@pytest.mark.parametrize("name", NAMES)
def test_every_link_leads_somewhere(name: str) -> None:
    page = PROJECT / name
    dead = []
    for link in LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        inside = target.is_relative_to(PROJECT) and target.exists()
        if not inside or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            dead.append(link)
    assert dead == []


def test_every_page_is_found_from_the_readme() -> None:
    linked = {(PROJECT / link.partition("#")[0]).resolve() for link in LINK.findall(prose(PROJECT / "README.md"))}
    missing = [
        name for page, name in zip(ALL, NAMES, strict=True) if page.parent.name != "decisions" and page not in linked
    ]
    assert [name for name in missing if name != "README.md"] == []


def rows(page: str) -> Iterator[list[str]]:
    """The rows of all tables of a page, as lists of cells."""
    for line in (PROJECT / page).read_text().splitlines():
        if line.startswith("|"):
            yield [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("|"))]


def test_the_table_of_codes_has_every_code_in_the_order_of_the_checks_with_its_status_at_each_door() -> None:
    told: dict[str, tuple[str, str]] = {}
    for first, _, *native in (row for row in rows("docs/refusals.md") if len(row) == 4):
        told.update(dict.fromkeys(INLINE.findall(first), (native[0], native[1])))
    assert list(told) == [code.value for code in Code]
    for code, (http, grpc) in told.items():
        if code == Code.CLIENT_GONE:  # nobody is there to read it
            continue
        assert http.startswith(str(NATIVE[Code(code)].http)), code
        assert grpc == NATIVE[Code(code)].grpc.name, code


@pytest.mark.parametrize("name", NAMES)
def test_every_code_in_a_refusal_that_is_shown_exists(name: str) -> None:
    shown = set(re.findall(r"\[sidecar:(\w+)\]", (PROJECT / name).read_text())) - {"CODE"}
    assert shown <= {code.value for code in Code}


def test_the_page_on_keys_has_every_field_and_every_scope_and_no_other() -> None:
    text = (PROJECT / "docs/keys.md").read_text()
    said = set(INLINE.findall(text))
    missing = {field for field in KNOWN_FIELDS if field not in said} | {
        one.value for one in Scope if one.value not in said
    }
    assert missing == set()
    first = {name for row in rows("docs/keys.md") for name in INLINE.findall(row[0])}
    strange = {name for name in first if re.fullmatch(r"[a-z_]+", name)} - KNOWN_FIELDS - {one.value for one in Scope}
    assert strange == set()


def test_bot_authors_are_told_of_every_code_whether_to_try_again() -> None:
    told = [code for first, *_ in rows("docs/for-bot-authors.md") for code in INLINE.findall(first)]
    assert sorted(told) == sorted(code.value for code in Code)


def test_the_lines_for_bot_authors_find_the_code_of_a_refusal() -> None:
    scope: dict[str, Any] = {}
    exec(block("docs/for-bot-authors.md", "python", "code_of"), scope)
    said = Refusal(Code.ORDER_VALUE, "order value 120000 HKD is over the limit of 100000 HKD").text("01M7")
    assert scope["code_of"](said) == "order_value"
    assert scope["code_of"]("Nonexisting acc_id") is None


def test_the_runbook_leads_to_a_section_from_every_code_for_which_the_operator_is_needed() -> None:
    said = INLINE.findall((PROJECT / "docs/runbook.md").read_text())
    for code in (
        Code.TRADING_HALTED, Code.REDUCE_ONLY, Code.BREAKER, Code.KEYS_STALE, Code.AUDIT_UNAVAILABLE,
        Code.LEDGER_UNAVAILABLE, Code.CLOCK, Code.UPSTREAM_UNAVAILABLE, Code.UPSTREAM_FULL,
    ):  # fmt: skip
        assert code.value in said


def test_every_module_on_the_page_for_developers_exists() -> None:
    named = [name for row in rows("docs/development.md") for name in INLINE.findall(row[0]) if name != "sidecar/"]
    assert named
    assert [name for name in named if not (PROJECT / "sidecar" / name).exists()] == []


def known_setting(path: str) -> bool:
    """Whether `path` is in the commented settings; in a list of listeners the first stands for all."""
    here: Any = SETTINGS
    for part in path.split("."):
        if isinstance(here, list):
            here = here[0]
        if not isinstance(here, dict) or part not in here:
            return False
        here = here[part]
    return True


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_that_is_named_exists(name: str) -> None:
    page = PROJECT / name
    named = {text.split(":")[0] for text in INLINE.findall(prose(page))}
    settings = {text for text in named if SETTING.fullmatch(text) and not text.endswith(FILES)}
    for language, lines in FENCE.findall(page.read_text()):
        tree = yaml.safe_load(lines) if language == "yaml" else None
        if isinstance(tree, dict) and set(tree) <= set(SETTINGS):
            settings |= {
                f"{section}.{field}" for section, fields in tree.items() if isinstance(fields, dict) for field in fields
            }
    assert {path for path in settings if not known_setting(path)} == set()


def command_lines(page: Path) -> Iterator[list[str]]:
    """The words after `opend-sidecar` in blocks of shell lines and in inline code."""
    blocks = [lines for language, lines in FENCE.findall(page.read_text()) if language in ("sh", "shell", "")]
    for lines in [*"\n".join(blocks).replace("\\\n", " ").splitlines(), *INLINE.findall(prose(page))]:
        for piece in re.split(r"[|;&$()]", lines.split(" #")[0]):
            found = re.search(r"(?:^|[\s/])opend-sidecar ((?:[a-z]|--).*)$", piece.strip())
            if found and "…" not in found[1]:
                yield shlex.split(found[1].replace("`", ""))


def unknown_in(words: list[str]) -> str | None:
    """The first word that is no command or no flag of it."""
    command: click.Command = main
    context = click.Context(main)
    for word in words:
        if word.startswith("--") or (word.startswith("-") and len(word) == 2):
            flags = {flag for option in command.get_params(context) for flag in (*option.opts, *option.secondary_opts)}
            if word.split("=")[0] not in flags:
                return word
        elif isinstance(command, click.Group):
            found = command.get_command(context, word)
            if found is None:
                return word
            command = found
    return None


@pytest.mark.parametrize("name", [name for name in NAMES if "decisions" not in name])
def test_every_command_and_flag_that_is_shown_exists(name: str) -> None:
    wrong = [(words, word) for words in command_lines(PROJECT / name) if (word := unknown_in(words)) is not None]
    assert wrong == []


def test_the_flags_of_gen_key_are_on_the_page_on_keys() -> None:
    gen_key = main.get_command(click.Context(main), "gen-key")
    assert gen_key is not None
    flags = {flag for option in gen_key.params for flag in (*option.opts, *option.secondary_opts)}
    named = {flag for row in rows("docs/keys.md") for cell in row[1:2] for flag in re.findall(r"--[a-z][a-z-]+", cell)}
    where = {"--keys-file", "--config", "--help", "-h", "--extended-hours", "--json"}
    assert named | where >= flags - {"--bind-machines"}, "a flag is not on the page"
    assert named <= flags


def test_the_readme_has_every_limit_at_a_glance() -> None:
    said = {name for row in rows("README.md") for cell in row for name in INLINE.findall(cell)}
    assert LIMIT_FIELDS - {"timezone"} <= said


@pytest.mark.parametrize("name", NAMES)
def test_every_metric_that_is_named_exists(name: str) -> None:
    declared = (PROJECT / "sidecar/metrics.py").read_text()
    for metric in set(re.findall(r"`(sidecar_[a-z_]+[a-z])`?", (PROJECT / name).read_text())):
        bare = re.sub(r"_(bucket|sum|count|total)$", "", metric)
        assert f'"{bare}"' in declared or f'"{metric}"' in declared, metric


def test_the_tests_of_links_and_commands_can_fail(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# One `two`\n\n```sh\nopend-sidecar halt --loudly  # no\n```\n`opend-sidecar hold` `opend-sidecar run`\n"
    )
    assert anchors(page) == {"one-two"}
    assert [unknown_in(words) for words in command_lines(page)] == ["--loudly", "hold", None]
    assert not known_setting("policy.nothing")
    assert known_setting("listeners.tcp.key")
