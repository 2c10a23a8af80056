"""What every command shares: the layout of its help, `--json`, what is wrong usage. Holds no command, and prints nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from sidecar.config import load_settings
from sidecar.errors import ConfigError
from sidecar.settings import Settings

DONE, NOT_DONE, WRONG_USAGE = 0, 1, 2
"""Exit codes of every command. One whose answer can be told apart by its exit code alone has a third of its own."""
_USUAL = {
    DONE: "it is done",
    NOT_DONE: "it could not be done; a line on stderr says why",
    WRONG_USAGE: "wrong usage: the command line has to be changed; nothing was done",
}


class WrongUsage(ConfigError):
    """What was typed can not be meant, or does not go together: exit code 2. What is wrong on the machine is another error."""

    command = ""
    """Whose usage it was, as it was typed: `opend-sidecar audit search`."""


class Command(click.Command):
    """A command whose help has its exit codes and examples after the options, as a page of a manual has."""

    def __init__(
        self, *args: Any, examples: str = "", exits: Mapping[int, str] | None = None,
        sections: Mapping[str, tuple[str, ...]] | None = None, **rest: Any,
    ) -> None:  # fmt: skip
        """`exits`: what a code means here, over the usual. `sections`: parameters that stand together, by a title."""
        super().__init__(*args, **rest)
        self.examples = examples.strip("\n").splitlines()
        self.exits = dict(sorted({**_USUAL, **(exits or {})}.items()))
        self.sections = dict(sections or {})

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except WrongUsage as error:
            error.command = ctx.command_path
            raise

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        found = [one for one in self.get_params(ctx) if isinstance(one, click.Option)]  # the text tells of arguments
        rows = {one.name: row for one in found if (row := one.get_help_record(ctx)) is not None}
        for title, names in self.sections.items():
            with formatter.section(title):
                formatter.write_dl([rows.pop(name) for name in names])
        with formatter.section("Options"):
            formatter.write_dl(list(rows.values()))

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_epilog(ctx, formatter)
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(code), text) for code, text in self.exits.items()])
        with formatter.section("Examples"):
            for line in self.examples:
                formatter.write(f"{'':>{formatter.current_indent}}{line}".rstrip() + "\n")


def json_option(
    help: str = "The result as JSON, for programs.",
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """`--json`, as the parameter `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help=help)


def settings_from(config: Path | None, flags: Mapping[str, object]) -> Settings:
    """As `load_settings`. What is wrong with the flags, and not without them, is WrongUsage; anything else a ConfigError."""
    try:
        return load_settings(config, flags)
    except ConfigError as error:
        load_settings(config, {})
        raise WrongUsage(str(error)) from None
